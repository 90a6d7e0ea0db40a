# SPDX-License-Identifier: Apache-2.0
"""The build backend: scikit-build-core, with the library's sources inside of the package while it builds."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from scikit_build_core import build as _backend
from scikit_build_core.build import get_requires_for_build_sdist, get_requires_for_build_wheel

__all__ = ["build_sdist", "build_wheel", "get_requires_for_build_sdist", "get_requires_for_build_wheel"]

_PACKAGE = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def _vendored() -> Iterator[None]:
    """In a checkout the sources come from there and go away again; a source distribution has them."""
    script, folder = _PACKAGE.parent / "vendor.sh", _PACKAGE / "vendor"
    if not script.exists():
        yield
        return
    try:
        subprocess.run([script, folder], check=True)
        shutil.copy(_PACKAGE.parents[1] / "docs" / "search-protocol.md", folder)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def build_sdist(sdist_directory: str, config_settings: dict[str, str | list[str]] | None = None) -> str:
    with _vendored():
        return _backend.build_sdist(sdist_directory, config_settings)


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, str | list[str]] | None = None,
    metadata_directory: str | None = None,
) -> str:
    with _vendored():
        return _backend.build_wheel(wheel_directory, config_settings, metadata_directory)
