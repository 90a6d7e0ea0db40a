# SPDX-License-Identifier: Apache-2.0
"""Finds and loads libindexcache, and turns its statuses into exceptions."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

from . import _ffi
from ._errors import error_of

_PACKAGE = Path(__file__).resolve().parent
_SONAME = f"libindexcache.so.{_ffi.IC_VERSION_MAJOR}.{_ffi.IC_VERSION_MINOR}"


def _candidates() -> list[str]:
    """Where the library may be: the environment decides; else inside this package; else where the system has it."""
    chosen = os.environ.get("INDEXCACHE_LIBRARY")
    if chosen:
        return [chosen]
    bundled = _PACKAGE / "lib" / _SONAME
    return [str(bundled) if bundled.exists() else _SONAME]


def _load() -> tuple[str, ctypes.CDLL]:
    if sys.platform != "linux":
        raise ImportError(f"indexcache runs on Linux, not on {sys.platform}")
    _ffi.check_layout()
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            raise ImportError(f"indexcache: {path} cannot be loaded: {error}") from error
    try:
        found = int(library.ic_version())
    except AttributeError as error:
        raise ImportError(f"indexcache: {path} is another library: {error}") from error
    series = _ffi.IC_VERSION_MAJOR * 256 + _ffi.IC_VERSION_MINOR
    if found // 256 != series:
        version = f"{found >> 16}.{found >> 8 & 255}.{found & 255}"
        raise ImportError(f"indexcache: {path} is version {version}; this package needs {_SONAME}")
    return path, library


_path, _cdll = _load()
try:
    lib = _ffi.Functions(_cdll)
except AttributeError as error:
    raise ImportError(f"indexcache: {_path} is older than this package: {error}") from error

# Keeps the GIL, for calls that do nothing but bookkeeping: giving it up costs more than they do, and with other busy
# threads getting it back can take milliseconds. Without argtypes, because its arguments are built once.
forward_with_gil: Any = ctypes.PyDLL(_path).ic_forward
forward_without_gil: Any = ctypes.CDLL(_path).ic_forward


def last_error() -> str:
    """The message of the last failed call on this thread."""
    size = lib.ic_last_error(None, 0) + 1
    buffer = ctypes.create_string_buffer(size)
    lib.ic_last_error(buffer, size)
    return buffer.value.decode("utf-8", "replace")


def fail(status: int) -> None:
    """Raises the exception of a failed call; directly behind it, on the same thread."""
    raise error_of(status, last_error())


def check(status: int) -> None:
    if status:
        fail(status)


def version() -> tuple[int, int, int]:
    """Version of the loaded library."""
    number = lib.ic_version()
    return number >> 16, number >> 8 & 255, number & 255


def build_info() -> dict[str, Any]:
    """How the library was built: version, git, compiler, cuda (toolkit version or None), cuda_archs, cpu_isas."""
    import json

    info: dict[str, Any] = json.loads(lib.ic_build_info() or b"{}")
    return info


def status_string(status: int) -> str:
    """Name and meaning of any status."""
    return (lib.ic_status_string(status) or b"").decode()


def get_library_path() -> str:
    """The file of the library that this process has loaded."""
    with open("/proc/self/maps") as maps:
        address = ctypes.cast(lib.ic_version, ctypes.c_void_p).value or 0  # type: ignore[arg-type]
        for line in maps:
            begin, end = (int(number, 16) for number in line.split()[0].split("-"))
            if begin <= address < end:
                return line.rstrip("\n").split(None, 5)[5]
    return _path


def _bundled(name: str) -> str:
    folder = _PACKAGE / name
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not there: this is not the wheel; use pkg-config indexcache")
    return str(folder)


def get_include() -> str:
    """Folder of indexcache.h in this wheel, for C and C++ programs: cc -I..."""
    return _bundled("include")


def get_library_dir() -> str:
    """Folder of libindexcache.so in this wheel: cc -L... -Wl,-rpath,... -lindexcache"""
    return _bundled("lib")


def get_pkgconfig_dir() -> str:
    """Folder of indexcache.pc in this wheel: for PKG_CONFIG_PATH."""
    return _bundled("lib/pkgconfig")


def get_cmake_dir() -> str:
    """Folder of indexcacheConfig.cmake in this wheel: for indexcache_DIR."""
    return _bundled("lib/cmake/indexcache")
