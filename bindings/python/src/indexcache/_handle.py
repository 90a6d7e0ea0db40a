# SPDX-License-Identifier: Apache-2.0
"""Who holds a C object, and for how long."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from ._library import check, lib

Self = TypeVar("Self", bound="Handle")


class Owner:
    """The hold on a C object. Arrays that lie in its memory share it, so closing a cache never leaves them dangling."""

    __slots__ = ("_destroy", "_keep", "pointer")

    def __init__(self, pointer: int, destroy: Callable[[int], None], keep: tuple[object, ...]) -> None:
        self.pointer = pointer
        self._destroy = destroy
        self._keep = keep  # what C may still call or read until the object is gone

    def __del__(self) -> None:
        self._destroy(self.pointer)


class Handle:
    """A C object: closed by close(), by the end of a `with` block, or with its last reference."""

    _owner: Owner | None = None

    def _create(self, kind: str, *arguments: Any, keep: tuple[object, ...] = ()) -> None:
        out = ctypes.c_void_p()
        check(getattr(lib, f"ic_{kind}_create")(*arguments, ctypes.byref(out)))
        assert out.value
        self._owner = Owner(out.value, getattr(lib, f"ic_{kind}_destroy"), keep)
        # Prebuilt calls use this object: it becomes NULL, which C refuses, when the handle is closed.
        self._pointer = ctypes.c_void_p(out.value)

    @property
    def _open(self) -> Owner:
        if self._owner is None:
            raise ValueError(f"this {type(self).__name__} has been closed")
        return self._owner

    @property
    def _raw(self) -> int:
        return self._open.pointer

    @property
    def closed(self) -> bool:
        return self._owner is None

    def close(self) -> None:
        """Drops the hold. Others made from this one keep what they need; no call on it may be running."""
        if self._owner is not None:
            self._pointer.value = None
            self._owner = None

    def __enter__(self: Self) -> Self:
        _ = self._open
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def size_of(function: Callable[..., int], *arguments: Any) -> int:
    """The answer of a size query."""
    size = ctypes.c_size_t()
    check(function(*arguments, ctypes.byref(size)))
    return size.value
