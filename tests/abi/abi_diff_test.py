# SPDX-License-Identifier: Apache-2.0
"""The append-only gate: every break is caught in a mutated copy and every growth passes.

A gate that has nothing to compare with says so, or fails.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from small_header import GENERATOR, HEADER, ROOT, compare, emit_json, mutate, read

# git without the settings of the machine (signed commits, templates).
ALONE = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
OLD = json.loads((ROOT / "bindings" / "api.json").read_text())


def item(api: dict, kind: str, name: str) -> dict:
    return next(i for i in api[kind] if i["name"] == name)


def remove(api: dict, kind: str, name: str) -> None:
    api[kind].remove(item(api, kind, name))


def fields(api: dict, struct: str) -> list:
    return item(api, "structs", struct)["fields"]


def parameters(api: dict, function: str) -> list:
    return item(api, "functions", function)["params"]


def swap(values: list, a: int, b: int) -> None:
    """Exchanges two fields of one size as an editor of the header would: the offsets stay with their places."""
    values[a], values[b] = values[b], values[a]
    values[a]["offset"], values[b]["offset"] = values[b]["offset"], values[a]["offset"]


def insert_in_the_middle(api: dict) -> None:
    target = fields(api, "ic_indexer_info")
    target.insert(2, {"name": "extra", "type": {"c": "int64_t", "base": "int64_t"}, "offset": 16, "size": 8, "doc": ""})
    for field in target[3:]:
        field["offset"] += 8
    item(api, "structs", "ic_indexer_info")["size"] += 8


def append(api: dict, struct: str) -> None:
    target = item(api, "structs", struct)
    type_ = {"c": "int64_t", "base": "int64_t"}
    target["fields"].append({"name": "extra", "type": type_, "offset": target["size"], "size": 8, "doc": ""})
    target["size"] += 8


def add_copy(api: dict, kind: str, name: str, new_name: str) -> None:
    api[kind].append(copy.deepcopy(item(api, kind, name)) | {"name": new_name})


# What it is, how a copy of the api is changed, what the gate must say.
BREAKS = [
    ("removed function", lambda a: remove(a, "functions", "ic_forward"), "ic_forward was removed"),
    ("renamed function", lambda a: item(a, "functions", "ic_forward").update(name="ic_go"), "ic_forward was removed"),
    ("removed constant", lambda a: remove(a, "constants", "IC_DTYPE_F16"), "IC_DTYPE_F16 was removed"),
    (
        "changed constant",
        lambda a: item(a, "constants", "IC_DTYPE_F16").update(value=9),
        "constant IC_DTYPE_F16 changed from 2 to 9",
    ),
    (
        "changed flag",
        lambda a: item(a, "constants", "IC_BATCH_KEEP").update(value=8),
        "constant IC_BATCH_KEEP changed from 1 to 8",
    ),
    (
        "signed flag",
        lambda a: item(a, "constants", "IC_BATCH_KEEP").update(type="int32_t"),
        "IC_BATCH_KEEP changed its type",
    ),
    (
        "renumbered status",
        lambda a: item(a, "constants", "IC_ERROR_STALE").update(value=29),
        "status IC_ERROR_STALE changed from 20 to 29",
    ),
    ("removed status", lambda a: remove(a, "constants", "IC_ERROR_CUDA"), "IC_ERROR_CUDA was removed"),
    ("changed macro", lambda a: item(a, "macros", "IC_K_PADDED").update(body="(k)"), "macro IC_K_PADDED changed"),
    ("removed macro", lambda a: remove(a, "macros", "IC_K_PADDED"), "IC_K_PADDED was removed"),
    ("wider status", lambda a: item(a, "aliases", "ic_status")["type"].update(c="int64_t"), "type ic_status changed"),
    ("removed alias", lambda a: remove(a, "aliases", "ic_stream"), "ic_stream was removed"),
    ("removed handle", lambda a: remove(a, "handles", "ic_topk"), "ic_topk was removed"),
    (
        "other destroy",
        lambda a: a["lifecycles"][0].update(destroy="ic_context_free"),
        "destroy function of ic_context changed",
    ),
    ("removed callback", lambda a: remove(a, "callbacks", "ic_log_fn"), "ic_log_fn was removed"),
    (
        "changed callback",
        lambda a: item(a, "callbacks", "ic_log_fn")["params"].pop(),
        "ic_log_fn changed from void (void *, int32_t",
    ),
    ("removed struct", lambda a: remove(a, "structs", "ic_pool"), "ic_pool was removed"),
    ("field in the middle", insert_in_the_middle, "in struct ic_indexer_info, extra stands where error_bound was"),
    (
        "removed last field",
        lambda a: fields(a, "ic_indexer_info").pop(),
        "struct ic_indexer_info lost fields: 4 became 3",
    ),
    (
        "removed first field",
        lambda a: fields(a, "ic_pool").pop(0),
        "in struct ic_pool, data stands where struct_size was",
    ),
    (
        "renamed field",
        lambda a: fields(a, "ic_pool")[1].update(name="memory"),
        "in struct ic_pool, memory stands where data was",
    ),
    (
        "reordered fields",
        lambda a: swap(fields(a, "ic_pool"), 3, 4),
        "in struct ic_pool, capacity stands where stride_bytes was",
    ),
    (
        "field of another type",
        lambda a: fields(a, "ic_pool")[3]["type"].update(c="uint64_t"),
        "ic_pool.stride_bytes changed its type",
    ),
    (
        "field no longer const",
        lambda a: fields(a, "ic_queries")[1]["type"].update(c="void *"),
        "ic_queries.q changed its type",
    ),
    ("longer array", lambda a: fields(a, "ic_device_caps")[-1]["type"].update(array=128), "from char[64] to char[128]"),
    (
        "moved field",
        lambda a: fields(a, "ic_pool")[3].update(offset=32),
        "ic_pool.stride_bytes moved from offset 24 to 32",
    ),
    ("frozen struct grew", lambda a: append(a, "ic_block_table"), "struct ic_block_table is @frozen and grew"),
    (
        "frozen reserved used",
        lambda a: fields(a, "ic_export_header")[-1].update(name="extra"),
        "extra stands where reserved was",
    ),
    ("no longer frozen", lambda a: item(a, "structs", "ic_block_table").update(frozen=False), "is no longer @frozen"),
    ("newly frozen", lambda a: item(a, "structs", "ic_pool").update(frozen=True), "ic_pool is now @frozen"),
    ("lost INIT", lambda a: item(a, "structs", "ic_block_table").update(init=None), "lost IC_BLOCK_TABLE_INIT"),
    (
        "parameter added",
        lambda a: parameters(a, "ic_forward").append({"name": "x", "type": {"c": "int32_t"}}),
        "ic_forward changed from",
    ),
    ("parameter removed", lambda a: parameters(a, "ic_forward").pop(), "ic_forward changed from"),
    ("parameters exchanged", lambda a: parameters(a, "ic_cache_faults").reverse(), "ic_cache_faults changed from"),
    (
        "parameter of another type",
        lambda a: parameters(a, "ic_forward")[0]["type"].update(c="ic_topk *"),
        "ic_forward changed from",
    ),
    (
        "parameter no longer const",
        lambda a: parameters(a, "ic_forward")[1]["type"].update(c="ic_forward_args *"),
        "ic_forward changed from",
    ),
    (
        "other result",
        lambda a: item(a, "functions", "ic_forward")["returns"].update(c="void"),
        "ic_forward changed from ic_status (",
    ),
    (
        "other symbol version",
        lambda a: item(a, "functions", "ic_forward").update(since="0.1.1"),
        "ic_forward changed its @since",
    ),
    ("older version", lambda a: a["version"].update(minor=0, patch=9), "the version goes back from 0.1.0 to 0.0.9"),
    ("other schema", lambda a: a.update(schema=2), "schema 1 of api.json cannot be compared with 2"),
]

GROWTHS = [
    ("nothing", lambda a: None),
    ("new function", lambda a: add_copy(a, "functions", "ic_version", "ic_new")),
    ("new constant", lambda a: add_copy(a, "constants", "IC_DTYPE_F16", "IC_DTYPE_NEW")),
    ("new handle", lambda a: add_copy(a, "handles", "ic_topk", "ic_new")),
    ("new callback", lambda a: add_copy(a, "callbacks", "ic_log_fn", "ic_new_fn")),
    ("new struct", lambda a: add_copy(a, "structs", "ic_pool", "ic_new_pool")),
    ("field at the end", lambda a: append(a, "ic_pool")),
    ("reserved field put to use", lambda a: fields(a, "ic_context_desc")[-1].update(name="numa_node")),
    ("renamed parameter", lambda a: parameters(a, "ic_forward")[1].update(name="layer_args")),
    ("prose", lambda a: item(a, "functions", "ic_forward").update(doc="Other words.")),
    ("order of functions", lambda a: a["functions"].reverse()),
    ("new patch version", lambda a: a["version"].update(patch=1)),
    ("new minor version breaks", lambda a: (a["version"].update(minor=2), remove(a, "functions", "ic_forward"))),
    ("new major version breaks", lambda a: (a["version"].update(major=1), remove(a, "functions", "ic_forward"))),
]


def changed(change) -> dict:
    new = copy.deepcopy(OLD)
    change(new)
    return new


class AppendOnly(unittest.TestCase):
    def test_every_break_is_caught(self):
        for name, change, message in BREAKS:
            with self.subTest(name):
                violations = compare(OLD, changed(change))
                self.assertTrue(any(message in violation for violation in violations), violations)

    def test_every_growth_passes(self):
        for name, change in GROWTHS:
            with self.subTest(name):
                self.assertEqual(compare(OLD, changed(change)), [])

    def test_from_1_0_on_a_minor_version_breaks_nothing(self):
        old = changed(lambda a: a["version"].update(major=1, minor=0))
        new = copy.deepcopy(old)
        new["version"]["minor"] = 1
        self.assertEqual(compare(old, new), [])
        remove(new, "functions", "ic_forward")
        self.assertEqual(compare(old, new), ["ic_forward was removed"])

    def test_headers_that_an_editor_would_write(self):
        old = api(HEADER)
        init = "NULL, NULL, NULL, 0, 0, 0, {0}, 0, 0 }"
        grown = mutate(HEADER, "  int32_t reserved;\n}", "  int32_t reserved;\n  uint64_t more;\n}")
        self.assertEqual(compare(old, api(mutate(grown, init, init.replace("0, 0 }", "0, 0, 0 }")))), [])
        inserted = mutate(HEADER, "  /** [num_pairs] */", "  void *more;\n  /** [num_pairs] */")
        violations = compare(old, api(mutate(inserted, init, "NULL, " + init)))
        self.assertIn("in struct ic_thing_desc, more stands where pairs was", violations)


def api(text: str) -> dict:
    header, problems = read(text)
    if problems:
        raise AssertionError(problems)
    return json.loads(json.dumps(emit_json.api(header)))


class AgainstFile(unittest.TestCase):
    """The command line, on a copy of the small header."""

    def test_exit_status(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "include").mkdir()
            (root / "include" / "indexcache.h").write_text(HEADER)
            old = root / "old.json"
            for value, status in ((1, 0), (3, 1)):
                old.write_text(json.dumps(api(mutate(HEADER, "#define IC_KIND_RED 1", f"#define IC_KIND_RED {value}"))))
                result = generator(root, "--against", str(old))
                self.assertEqual(result.returncode, status, result.stderr)
            self.assertIn("constant IC_KIND_RED changed from 3 to 1", result.stderr)


class AgainstTags(unittest.TestCase):
    """The gate in repositories made for the purpose."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name) / "project"
        (self.root / "include").mkdir(parents=True)
        self.git("init", "--quiet")

    def git(self, *arguments: str) -> None:
        who = {f"GIT_{role}_{key}": "test@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        subprocess.run(
            ["git", "-C", str(self.root), *arguments], check=True, capture_output=True, env=os.environ | ALONE | who
        )

    def commit(self, header: str, *tags: str) -> None:
        (self.root / "include" / "indexcache.h").write_text(header)
        self.assertEqual(generator(self.root).returncode, 0)
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message", "step")
        for tag in tags:
            self.git("tag", tag)

    def gate(self) -> subprocess.CompletedProcess:
        return generator(self.root, "--against-tags")

    def test_first_version_of_a_series_says_that_it_compares_with_nothing(self):
        self.commit(HEADER)
        result = self.gate()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("no release of it is tagged: nothing to be compatible with", result.stdout)

    def test_a_break_since_the_tag_is_caught(self):
        self.commit(HEADER, "v0.1.0")
        self.assertIn("compatible with v0.1.0", self.gate().stdout)
        self.commit(mutate(HEADER, "#define IC_KIND_BLUE 2", "#define IC_KIND_BLUE 3"))
        result = self.gate()
        self.assertEqual(result.returncode, 1)
        self.assertIn("against v0.1.0: constant IC_KIND_BLUE changed from 2 to 3", result.stderr)

    def test_every_tag_of_the_series_counts(self):
        patched = mutate(HEADER, "#define IC_VERSION_PATCH 0", "#define IC_VERSION_PATCH 1")
        self.commit(HEADER, "v0.1.0")
        self.commit(mutate(patched, "#define IC_KIND_BLUE 2\n", ""), "v0.1.1")
        result = self.gate()
        self.assertEqual(result.returncode, 1)
        self.assertIn("against v0.1.0: IC_KIND_BLUE was removed", result.stderr)
        self.assertIn("compatible with v0.1.1", result.stdout)

    def test_tags_of_another_series_do_not_count(self):
        self.commit(HEADER, "v0.1.0")
        self.commit(
            mutate(
                mutate(HEADER, "#define IC_VERSION_MINOR 1", "#define IC_VERSION_MINOR 2"),
                "#define IC_KIND_BLUE 2\n",
                "",
            )
        )
        result = self.gate()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("nothing to be compatible with", result.stdout)

    def test_missing_tags_fail(self):
        self.commit(mutate(HEADER, "#define IC_VERSION_PATCH 0", "#define IC_VERSION_PATCH 1"))
        result = self.gate()
        self.assertEqual(result.returncode, 1)
        self.assertIn("version 0.1.1 has earlier releases, but none is tagged in this history", result.stderr)

    def test_a_shallow_clone_fails(self):
        self.commit(HEADER, "v0.1.0")
        self.commit(HEADER)
        clone = self.root.parent / "clone"
        self.git("clone", "--quiet", "--depth", "1", f"file://{self.root}", str(clone))
        result = generator(clone, "--against-tags")
        self.assertEqual(result.returncode, 1)
        self.assertIn("this clone is shallow", result.stderr)

    def test_a_release_without_api_fails(self):
        self.commit(HEADER)
        self.git("rm", "--quiet", "bindings/api.json")
        self.git("commit", "--quiet", "--message", "lost")
        self.git("tag", "v0.1.0")
        self.commit(HEADER)
        result = self.gate()
        self.assertEqual(result.returncode, 1)
        self.assertIn("v0.1.0:bindings/api.json", result.stderr)

    def test_an_odd_tag_fails(self):
        self.commit(HEADER, "v0.1-final")
        self.assertIn("tag v0.1-final is not v<major>.<minor>.<patch>", self.gate().stderr)

    def test_outside_of_git_fails(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "include").mkdir()
            (root / "include" / "indexcache.h").write_text(HEADER)
            result = generator(root, "--against-tags")
            self.assertEqual(result.returncode, 1)
            self.assertIn("release gate: git rev-parse", result.stderr)


def generator(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(GENERATOR), "--root", str(root), *arguments]
    around = {"GIT_CEILING_DIRECTORIES": str(root.parent)}
    return subprocess.run(command, text=True, capture_output=True, env=os.environ | ALONE | around)


if __name__ == "__main__":
    unittest.main()
