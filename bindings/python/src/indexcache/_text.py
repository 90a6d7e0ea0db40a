# SPDX-License-Identifier: Apache-2.0
"""Texts that C takes and gives."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from ._library import check
from ._types import Status


def c_text(text: str | None, name: str) -> bytes | None:
    if text is not None and "\0" in text:
        raise ValueError(f"{name} contains a zero character")
    return None if text is None else text.encode()


def text_of(function: Callable[..., int], *arguments: Any) -> str:
    """A text function: asked for the size first."""
    size = ctypes.c_size_t()
    status = function(*arguments, None, ctypes.byref(size))
    if status != Status.BUFFER_TOO_SMALL:
        check(status)
    buffer = ctypes.create_string_buffer(size.value)
    check(function(*arguments, buffer, ctypes.byref(size)))
    return buffer.value.decode()
