# SPDX-License-Identifier: Apache-2.0
"""Finds the api.json of the releases that this version must stay compatible with. Finding nothing is never a pass."""

import json
import re
import subprocess
from pathlib import Path

_TAG = re.compile(r"v(\d+)\.(\d+)\.(\d+)")


class GateError(Exception):
    """The releases cannot be told, so that nothing can be said about compatibility."""


def earlier_releases(root: Path, version: dict) -> list[tuple[str, dict]]:
    """Tag and api.json of every tagged release in HEAD's history that is of the version's series, oldest first.

    Empty only for the first version of a series (patch 0): a later one without the tag of its series is an error, and
    so is a shallow clone, where tags may be missing.
    """
    if _git(root, "rev-parse", "--is-shallow-repository").strip() != "false":
        raise GateError(
            "this clone is shallow, its tags cannot be trusted: fetch the whole history (git fetch --unshallow --tags)"
        )
    tags = []
    for tag in _git(root, "tag", "--list", "v*", "--merged", "HEAD").split():
        match = _TAG.fullmatch(tag)
        if not match:
            raise GateError(f"tag {tag} is not v<major>.<minor>.<patch>")
        number = tuple(map(int, match.groups()))
        if same_series(number, (version["major"], version["minor"])):
            tags.append((number, tag))
    if not tags and not _begins_series(version):
        raise GateError(
            f"version {version['major']}.{version['minor']}.{version['patch']} has earlier releases, but none is "
            "tagged in this history: fetch the tags (git fetch --tags)"
        )
    return [(tag, _api_at(root, tag)) for _, tag in sorted(tags)]


def same_series(a: tuple, b: tuple) -> bool:
    """Before 1.0 a series is a minor version, from then on a major one."""
    return a[:2] == b[:2] if a[0] == 0 else a[0] == b[0]


def _begins_series(version: dict) -> bool:
    return version["patch"] == 0 and (version["major"] == 0 or version["minor"] == 0)


def _api_at(root: Path, tag: str) -> dict:
    return json.loads(_git(root, "show", f"{tag}:bindings/api.json"))


def _git(root: Path, *arguments: str) -> str:
    try:
        return subprocess.run(["git", "-C", str(root), *arguments], check=True, text=True, capture_output=True).stdout
    except FileNotFoundError:
        raise GateError("git is not installed") from None
    except subprocess.CalledProcessError as error:
        raise GateError(f"git {' '.join(arguments)}: {error.stderr.strip()}") from None
