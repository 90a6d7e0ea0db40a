# SPDX-License-Identifier: Apache-2.0
"""One layer of a forward, built once and called in every step."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from . import _dlpack, _ffi
from ._array import address, refuse
from ._attention import AttentionInputs, native_attention
from ._batch import Pool, native_pool
from ._indexer import NewKeys, Queries, native_new_keys, native_queries
from ._library import fail, forward_with_gil, forward_without_gil
from ._stream import stream_pointer
from ._types import LayerMode
from ._view import IndexView

if TYPE_CHECKING:
    from ._cache import Cache

ALL_ROWS: int = _ffi.IC_ALL_ROWS
_NO_LIMIT = 1 << 31


class LayerCall:
    """ic_forward() with everything that belongs to one layer (and part): made by Cache.layer(), then called per step.

    Calling it runs the layer and returns its view: always the same object, which holds the newest call's indices.
    """

    __slots__ = (
        "_args",
        "_args_pointer",
        "_cache",
        "_cache_pointer",
        "_kept",
        "_last_row",
        "_stream",
        "_view_pointer",
        "layer",
        "view",
    )

    def __init__(
        self,
        cache: Cache,
        layer: int,
        *,
        mode: LayerMode | str | None,
        row_begin: int,
        row_count: int,
        queries: Queries | None,
        keys: Pool | None,
        new_keys: NewKeys | None,
        attention: AttentionInputs | None,
        hint: Any,
        workspace: Any,
        stream: Any,
    ) -> None:
        taker = cache.context._taker(stream)
        pointer, size = taker.workspace(workspace)
        args = _ffi.ic_forward_args(
            layer=layer,
            mode=mode_of(mode),
            row_begin=row_begin,
            row_count=row_count,
            workspace=pointer,
            workspace_size=size,
        )
        rows = []  # for how many rows there are arrays
        if queries is not None:
            raw_queries, count = native_queries(queries, cache.indexer, taker)
            args.queries = ctypes.pointer(raw_queries)
            rows.append(count)
        if keys is not None:
            vector = cache.indexer.key_vector
            args.keys = ctypes.pointer(native_pool(keys, vector, taker, "keys", written=new_keys is not None)[0])
        if new_keys is not None:
            args.new_keys = ctypes.pointer(native_new_keys(new_keys, cache.indexer, taker))
        if attention is not None:
            if cache.attention is None:
                raise refuse("attention is given; the cache was made without one")
            raw_attention, count = native_attention(attention, cache.attention, taker)
            args.attention = ctypes.pointer(raw_attention)
            rows.append(count)
        if hint is not None:
            array = taker.take(hint, "hint", "i32", (None, cache.topk.k_padded))
            args.hint = address(array)
            rows.append(len(array))
        limit = min(rows, default=_NO_LIMIT)
        if row_count > limit:
            raise refuse(f"row_count is {row_count}; the arrays are for {limit} rows")

        self.layer = layer
        self.view = IndexView._of(cache, cache.context.dlpack_device)
        self._args = args
        self._args_pointer = ctypes.byref(args)
        self._view_pointer = ctypes.byref(self.view._struct)
        self._cache = cache
        self._cache_pointer = cache._pointer
        self._kept = taker.kept
        self._stream = ctypes.c_void_p(stream_pointer(stream))
        # A batch with more rows than this would read behind the arrays. With a row_count the library bounds it.
        self._last_row = row_begin + limit if row_count == ALL_ROWS else _NO_LIMIT

    def __call__(self, stream: Any = None) -> IndexView:
        """Runs the layer. stream: CUDA; None is the one that the call was built with. The CPU has the default one only.

        Raises StaleError when the source of a Shared layer has not been published in this generation, ArgumentError,
        StateError without an open batch, CudaError.
        """
        if self._cache._num_rows > self._last_row:
            raise refuse(f"the batch has {self._cache._num_rows} rows; the arrays end at row {self._last_row}")
        pointer = self._stream if stream is None else ctypes.c_void_p(stream_pointer(stream))
        status = forward_without_gil(self._cache_pointer, self._args_pointer, self._view_pointer, pointer)
        if status:
            fail(status)
        self.view.stream = pointer.value or 0
        return self.view

    def __repr__(self) -> str:
        return f"LayerCall(layer {self.layer} on {_dlpack.DEVICE_NAMES[self.view._device[0]]})"


class LookUp(LayerCall):
    """A layer with nothing to compute: where the source's indices are, at the least cost."""

    __slots__ = ()

    def __call__(self, stream: Any = None) -> IndexView:
        view = self.view
        pointer = self._stream if stream is None else ctypes.c_void_p(stream_pointer(stream))
        status = forward_with_gil(self._cache_pointer, self._args_pointer, self._view_pointer, pointer)
        if status:
            fail(status)
        view.stream = pointer.value or 0
        return view


def mode_of(mode: LayerMode | str | None) -> int:
    if isinstance(mode, str):
        try:
            return LayerMode[mode.upper()]
        except KeyError:
            raise ValueError(f'mode {mode!r} is neither "full" nor "shared"') from None
    return 0 if mode is None else LayerMode(mode)
