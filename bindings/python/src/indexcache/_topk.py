# SPDX-License-Identifier: Apache-2.0
"""The selection."""

from __future__ import annotations

import ctypes
from typing import Any

from . import _ffi
from ._array import Taker, address, refuse, row_stride
from ._context import Context
from ._handle import Handle, size_of
from ._library import check, lib
from ._stream import stream_pointer
from ._types import Order


class TopK(Handle):
    """One exact selection rule; immutable, for any number of threads.

    The k best of each row by (score descending, position ascending): ties go to the smaller position, always.
    k: 1 to 4096. order: of the result: "position" (what a cache needs), "score" or "any".
    """

    def __init__(self, context: Context, k: int, *, order: Order | str = Order.POSITION) -> None:
        if isinstance(order, str):
            try:
                order = Order[order.upper()]
            except KeyError:
                raise ValueError(f'order {order!r} is none of "position", "score", "any"') from None
        self.context = context
        self.k = k
        desc = _ffi.ic_topk_desc(k=k, order=order)
        self._create("topk", context._raw, ctypes.byref(desc), keep=(context._open,))

    @property
    def k_padded(self) -> int:
        """Entries of a row as they are written: k rounded up to 128."""
        return _ffi.IC_K_PADDED(self.k)

    def select_workspace_size(self, max_rows: int, max_end: int) -> int:
        """Bytes of workspace for select() of up to max_rows rows."""
        return size_of(lib.ic_topk_select_workspace_size, self._raw, max_rows, max_end)

    def select(
        self,
        scores: Any,
        end: Any,
        indices: Any,
        lengths: Any,
        *,
        begin: Any = None,
        selected_scores: Any = None,
        max_end: int | None = None,
        workspace: Any = None,
        stream: Any = None,
    ) -> None:
        """Selects from a score matrix.

        scores: [rows, columns] f32, any row stride. begin, end: [rows] i32: row r offers the columns
        [begin[r], end[r]). max_end: no end is larger; None = columns.
        indices: [rows, at least k_padded] i32: column numbers, -1 behind. lengths: [rows] i32.
        selected_scores: like indices, f32, or None.
        """
        taker = self.context._taker(stream)
        matrix = taker.take(scores, "scores", "f32", (None, None), free=1)
        rows, columns = matrix.shape
        if max_end is not None and max_end > columns:
            raise refuse(f"max_end is {max_end}; scores has {columns} columns")
        args = _ffi.ic_select_args(
            scores=address(matrix),
            score_stride=row_stride(matrix) if rows > 1 else columns,
            begin=address(taker.optional(begin, "begin", "i32", (rows,))),
            end=address(taker.take(end, "end", "i32", (rows,))),
            num_rows=rows,
            max_end=columns if max_end is None else max_end,
        )
        self._take_results(args, taker, rows, indices, lengths, selected_scores, workspace)
        check(lib.ic_topk_select(self._raw, ctypes.byref(args), stream_pointer(stream)))

    def merge_workspace_size(self, max_rows: int, max_parts: int) -> int:
        """Bytes of workspace for merge() of up to max_rows rows and max_parts parts."""
        return size_of(lib.ic_topk_merge_workspace_size, self._raw, max_rows, max_parts)

    def merge(
        self,
        in_indices: Any,
        in_scores: Any,
        in_lengths: Any,
        indices: Any,
        lengths: Any,
        *,
        selected_scores: Any = None,
        workspace: Any = None,
        stream: Any = None,
    ) -> None:
        """Merges selections of the same rows over disjoint keys, exactly: as one selection over all keys.

        in_indices: [parts, rows, at least k_padded] i32, positions in the whole sequence; in_scores: the same, f32;
        in_lengths: [parts, rows] i32. The results are those of select(), and must not overlap the inputs.
        """
        taker = self.context._taker(stream)
        positions = taker.take(in_indices, "in_indices", "i32", (None, None, None), free=2)
        parts, rows, _ = positions.shape
        scores = taker.take(in_scores, "in_scores", "f32", positions.shape, free=2)
        if scores.strides != positions.strides:
            raise refuse(
                f"in_scores has the strides {scores.strides}; in_indices {positions.strides}: they must be equal"
            )
        args = _ffi.ic_merge_args(
            in_indices=address(positions),
            in_scores=address(scores),
            in_lengths=address(taker.take(in_lengths, "in_lengths", "i32", (parts, rows))),
            in_stride=positions.strides[1] // 4 if rows > 1 else positions.shape[2],
            in_part_stride=positions.strides[0] // 4 if parts > 1 else 0,
            num_parts=parts,
            num_rows=rows,
        )
        self._take_results(args, taker, rows, indices, lengths, selected_scores, workspace)
        check(lib.ic_topk_merge(self._raw, ctypes.byref(args), stream_pointer(stream)))

    def _take_results(
        self, args: Any, taker: Taker, rows: int, indices: Any, lengths: Any, selected_scores: Any, workspace: Any
    ) -> None:
        found = taker.take(indices, "indices", "i32", (rows, None), written=True, free=1)
        if found.shape[1] < self.k_padded:
            raise refuse(f"indices has {found.shape[1]} columns; needed: at least {self.k_padded}")
        best = taker.optional(selected_scores, "selected_scores", "f32", found.shape, written=True, free=1)
        if best is not None and row_stride(best) != row_stride(found):
            raise refuse(f"selected_scores has the strides {best.strides}; indices {found.strides}: they must be equal")
        args.indices, args.index_stride = address(found), row_stride(found)
        args.lengths = address(taker.take(lengths, "lengths", "i32", (rows,), written=True))
        args.selected_scores = address(best)
        args.workspace, args.workspace_size = taker.workspace(workspace)
