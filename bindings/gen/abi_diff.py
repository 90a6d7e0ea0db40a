# SPDX-License-Identifier: Apache-2.0
"""The append-only rule between two api.json of one series: what an older version promised, the newer one keeps.

Allowed: new functions, constants, handles, callbacks, structs; fields at the end of a struct that has struct_size;
a use for a field that was reserved; other names for parameters (no caller sees them); any prose.
"""

from collections.abc import Iterator

from release_gate import same_series


def compare(old: dict, new: dict) -> list[str]:
    """Every way in which new breaks old. Another series may break anything, but a version never goes back."""
    before, now = (tuple(api["version"][part] for part in ("major", "minor", "patch")) for api in (old, new))
    if old["schema"] != new["schema"]:
        return [f"schema {old['schema']} of api.json cannot be compared with {new['schema']}"]
    if now < before:
        return [f"the version goes back from {_dotted(before)} to {_dotted(now)}"]
    if not same_series(before, now):
        return []
    return [violation for rule in _RULES for violation in rule(old, new)]


def _constants(old: dict, new: dict) -> Iterator[str]:
    for before, now in _kept(old, new, "constants"):
        if before["value"] != now["value"]:
            what = "status" if before["kind"] == "status" else "constant"
            yield f"{what} {before['name']} changed from {before['value']} to {now['value']}"
        if before["type"] != now["type"]:
            yield f"constant {before['name']} changed its type from {before['type']} to {now['type']}"
    yield from _removed(old, new, "constants")


def _macros(old: dict, new: dict) -> Iterator[str]:
    for before, now in _kept(old, new, "macros"):
        if (before["params"], before["body"]) != (now["params"], now["body"]):
            yield f"macro {before['name']} changed"
    yield from _removed(old, new, "macros")


def _types(old: dict, new: dict) -> Iterator[str]:
    for before, now in _kept(old, new, "aliases"):
        if before["type"] != now["type"]:
            yield f"type {before['name']} changed from {before['type']['c']} to {now['type']['c']}"
    yield from _removed(old, new, "aliases")
    yield from _removed(old, new, "handles")
    for before, now in _kept(old, new, "lifecycles", "handle"):
        if before != now:
            yield f"the create or destroy function of {before['handle']} changed"


def _structs(old: dict, new: dict) -> Iterator[str]:
    for before, now in _kept(old, new, "structs"):
        name = before["name"]
        if before["frozen"] != now["frozen"]:
            yield f"struct {name} is {'no longer' if before['frozen'] else 'now'} @frozen"
        if before["init"] and before["init"] != now["init"]:
            yield f"struct {name} lost {before['init']}"
        if len(now["fields"]) < len(before["fields"]):
            yield f"struct {name} lost fields: {len(before['fields'])} became {len(now['fields'])}"
        for was, field in zip(before["fields"], now["fields"], strict=False):
            yield from _field(name, before["frozen"], was, field)
        if before["frozen"] and len(now["fields"]) > len(before["fields"]):
            yield f"struct {name} is @frozen and grew"
    yield from _removed(old, new, "structs")


def _field(struct: str, frozen: bool, was: dict, now: dict) -> Iterator[str]:
    put_to_use = was["name"].startswith("reserved") and not frozen
    if was["name"] != now["name"] and not put_to_use:
        yield f"in struct {struct}, {now['name']} stands where {was['name']} was"
    elif was["type"] != now["type"]:
        yield f"field {struct}.{was['name']} changed its type from {_declared(was)} to {_declared(now)}"
    elif (was["offset"], was["size"]) != (now["offset"], now["size"]):
        yield f"field {struct}.{was['name']} moved from offset {was['offset']} to {now['offset']}"


def _functions(old: dict, new: dict) -> Iterator[str]:
    for kind in ("functions", "callbacks"):
        for before, now in _kept(old, new, kind):
            if _signature(before) != _signature(now):
                yield f"{before['name']} changed from {_signature(before)} to {_signature(now)}"
            if before.get("since") != now.get("since"):
                since = f"from {before['since']} to {now['since']}"
                yield f"{before['name']} changed its @since, and with it its symbol version, {since}"
        yield from _removed(old, new, kind)


def _signature(function: dict) -> str:
    return f"{function['returns']['c']} ({', '.join(p['type']['c'] for p in function['params'])})"


def _declared(field: dict) -> str:
    array = field["type"].get("array")
    return field["type"]["c"] + (f"[{array}]" if array else "")


def _kept(old: dict, new: dict, kind: str, key: str = "name") -> Iterator[tuple[dict, dict]]:
    by_name = {item[key]: item for item in new[kind]}
    return ((item, by_name[item[key]]) for item in old[kind] if item[key] in by_name)


def _removed(old: dict, new: dict, kind: str) -> Iterator[str]:
    names = {item["name"] for item in new[kind]}
    return (f"{item['name']} was removed" for item in old[kind] if item["name"] not in names)


def _dotted(version: tuple) -> str:
    return ".".join(map(str, version))


_RULES = (_constants, _macros, _types, _structs, _functions)
