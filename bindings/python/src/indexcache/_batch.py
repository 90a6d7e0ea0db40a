# SPDX-License-Identifier: Apache-2.0
"""What all layers of one forward share."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import _ffi
from ._array import Array, address, as_array, refuse, row_stride
from ._context import Context
from ._types import BatchFlags, Layout


@dataclass(frozen=True)
class BlockTable:
    """Logical block -> physical page, one row per sequence; one table serves the pools of all layers.

    pages: [num_seqs, num_blocks] i32; -1 = the page is not there, its keys are seen by nobody. Any row stride.
    page_tokens: keys of a page: 1, 16, 32, 64 (the fast one) or 128.
    """

    pages: Any
    page_tokens: int


@dataclass(frozen=True)
class Pool:
    """Memory that holds one vector per key: index keys, or the latent KV of MLA, of one layer.

    Index keys are written through NewKeys or Indexer.prepare_keys(). Latent KV is written by the caller alone, before
    the layer that reads it is called.

    data: [capacity, ...]: one vector (contiguous) or one page of page_tokens vectors (paged) behind the other; only the
    first stride may be more than dense. Paged that is [pages, page_tokens, D]; pages longer than the page_tokens of the
    batch's block table are used in part. Index keys: D elements of the indexer's type; an e4m3 page is page_tokens * D
    bytes and then page_tokens fp32 scales, given as u8 or e4m3. KV: d_latent + d_rope elements of kv_dtype, or
    656 bytes (u8) for e4m3.
    layout: "paged" or "contiguous". scales: [capacity] f32, contiguous e4m3 index keys only.
    block_table: paged: which block table of the batch.
    """

    data: Any
    layout: Layout | str
    scales: Any = None
    block_table: int = 0


class Batch:
    """The rows of one forward: row t sees the keys at positions [key_begin[t], key_end[t]) of sequence row_seq[t].

    key_end: [num_rows] i32, causal attention has position + 1; key_end <= key_begin marks a padded row.
    max_key_end: no key_end of this batch, or of a replay of it, is larger.
    num_rows: 0 to the length of key_end; None = that. num_seqs: None = rows of the first block table, else the length
    of key_offsets, else 1. row_seq: [num_rows] i32, None = all rows belong to sequence 0.
    key_begin: [num_rows] i32, None = zeros. block_tables: up to 8 BlockTable, for paged pools.
    key_offsets: [num_seqs] i64, vector of a contiguous pool that holds key 0 of each sequence; None = zeros.
    keep: carry publications over from the previous generation (draft steps that share).
    capture_id: inside of a stream capture a number that names it.

    num_rows, max_key_end, keep and capture_id may be changed between forwards; array contents, too.
    """

    def __init__(
        self,
        context: Context,
        *,
        key_end: Any,
        max_key_end: int,
        num_rows: int | None = None,
        num_seqs: int | None = None,
        row_seq: Any = None,
        key_begin: Any = None,
        block_tables: Sequence[BlockTable] = (),
        key_offsets: Any = None,
        keep: bool = False,
        capture_id: int = 0,
        stream: Any = None,
    ) -> None:
        taker = context._taker(stream)
        ends = taker.take(key_end, "key_end", "i32", (None,))
        rows = taker.optional(row_seq, "row_seq", "i32", (None,))
        begins = taker.optional(key_begin, "key_begin", "i32", (None,))
        offsets = taker.optional(key_offsets, "key_offsets", "i64", (None,))
        self._device = context.dlpack_device
        self._max_rows = min(len(array) for array in (ends, rows, begins) if array is not None)

        tables = (_ffi.ic_block_table * max(len(block_tables), 1))()
        pages = [
            taker.take(t.pages, f"block_tables[{i}].pages", "i32", (None, None), free=1)
            for i, t in enumerate(block_tables)
        ]
        for raw, table, array in zip(tables, block_tables, pages):
            raw.pages = address(array)
            raw.stride = row_stride(array)
            raw.num_blocks = array.shape[1]
            raw.page_tokens = table.page_tokens
        if num_seqs is None:
            num_seqs = len(pages[0]) if pages else len(offsets) if offsets is not None else 1
        named = [(f"block_tables[{i}].pages", array) for i, array in enumerate(pages)]
        for name, array in [*named, *([("key_offsets", offsets)] if offsets is not None else [])]:
            if len(array) < num_seqs:
                raise refuse(f"{name} is for {len(array)} sequences; num_seqs is {num_seqs}")

        self._struct = _ffi.ic_batch(
            num_seqs=num_seqs,
            num_block_tables=len(block_tables),
            row_seq=address(rows),
            key_begin=address(begins),
            key_end=address(ends),
            key_offsets=address(offsets),
        )
        self._struct.block_tables = ctypes.cast(tables, ctypes.POINTER(_ffi.ic_block_table))
        self._pointer = ctypes.pointer(self._struct)
        self._kept = (taker.kept, tables)
        self.num_rows = self._max_rows if num_rows is None else num_rows
        self.max_key_end = max_key_end
        self.keep = keep
        self.capture_id = capture_id

    @property
    def num_rows(self) -> int:
        """Rows of the next forward, 0 to the length of the arrays."""
        return self._struct.num_rows

    @num_rows.setter
    def num_rows(self, rows: int) -> None:
        if not 0 <= rows <= self._max_rows:
            raise refuse(f"num_rows is {rows}; the arrays have {self._max_rows}")
        self._struct.num_rows = rows

    @property
    def num_seqs(self) -> int:
        return self._struct.num_seqs

    @property
    def max_key_end(self) -> int:
        """No key_end is larger."""
        return self._struct.max_key_end

    @max_key_end.setter
    def max_key_end(self, end: int) -> None:
        if not 0 <= end < 1 << 31:
            raise refuse(f"max_key_end is {end}; allowed: 0 to 2^24")
        self._struct.max_key_end = end

    @property
    def keep(self) -> bool:
        """Whether publications are carried over from the previous generation."""
        return bool(self._struct.flags & BatchFlags.KEEP)

    @keep.setter
    def keep(self, keep: bool) -> None:
        self._struct.flags = BatchFlags.KEEP if keep else 0

    @property
    def capture_id(self) -> int:
        """0 outside of stream capture."""
        return self._struct.capture_id

    @capture_id.setter
    def capture_id(self, number: int) -> None:
        if not 0 <= number < 1 << 64:
            raise refuse(f"capture_id is {number}; allowed: 0 to 2^64 - 1")
        self._struct.capture_id = number


def layout_of(layout: Layout | str) -> Layout:
    if isinstance(layout, str):
        try:
            return Layout[layout.upper()]
        except KeyError:
            raise ValueError(f'layout {layout!r} is neither "contiguous" nor "paged"') from None
    return Layout(layout)


@dataclass(frozen=True)
class Vector:
    """One key in a pool: its element type, and how many of them (for e4m3: bytes)."""

    dtype: str
    elements: int
    scale_bytes: int = 0  # behind the vectors of a page

    def of_layout(self, layout: Layout) -> int:
        return self.elements + (self.scale_bytes if layout == Layout.PAGED else 0)


def native_pool(pool: Pool, vector: Vector, taker: Any, name: str, written: bool) -> tuple[_ffi.ic_pool, int]:
    """The C struct, and vectors per entry of the pool (1, or page_tokens)."""
    layout = layout_of(pool.layout)
    data: Array = as_array(pool.data, taker.stream, f"{name}.data", vector.dtype)
    if len(data.shape) < 2:
        raise refuse(f"{name}.data has the shape {list(data.shape)}; needed: [capacity, ...]")
    data = taker.take(data, f"{name}.data", vector.dtype, data.shape, written=written, free=1)
    entry, unit = 1, vector.of_layout(layout)
    for extent in data.shape[1:]:
        entry *= extent
    if entry == 0 or entry % unit or (layout == Layout.CONTIGUOUS and entry != unit):
        wanted = f"{unit}" if layout == Layout.CONTIGUOUS else f"page_tokens * {unit}"
        raise refuse(f"{name}.data has {entry} elements of {data.dtype} behind its first dimension; needed: {wanted}")
    scales = taker.optional(pool.scales, f"{name}.scales", "f32", (data.shape[0],), written=written)
    stride = data.strides[0] if len(data) > 1 else entry * data.itemsize
    raw = _ffi.ic_pool(
        data=address(data),
        scales=address(scales),
        stride_bytes=stride,
        capacity=len(data),
        layout=layout,
        block_table=pool.block_table,
    )
    return raw, entry // unit
