# SPDX-License-Identifier: Apache-2.0
"""Sets of indices: what a layer must attend to."""

from __future__ import annotations

import ctypes
from typing import Any

from . import _ffi
from ._array import Array, address, refuse, row_stride
from ._context import Context
from ._handle import Handle
from ._library import check, lib
from ._stream import stream_pointer
from ._types import IndexKind


class IndexView:
    """Indices of some rows, in memory of a cache (valid until the slot is written again) or of the caller.

    Its arrays share memory: numpy.asarray(view.indices), torch.from_dlpack(view.indices) make no copy.
    """

    __slots__ = ("_device", "_holder", "_kept", "_pointer", "_struct", "stream")

    def __init__(
        self,
        context: Context,
        indices: Any,
        lengths: Any,
        *,
        scores: Any = None,
        kind: IndexKind | str = IndexKind.LOGICAL,
        k: int | None = None,
        stream: Any = None,
    ) -> None:
        """From own arrays, for Attention.run() and index_overlap().

        indices: [rows, columns] i32, front-packed, any row stride. lengths: [rows] i32. scores: like indices, f32.
        kind: "logical" (positions in the row's sequence) or "slot". k: most valid entries of a row; None = columns.
        """
        if isinstance(kind, str):
            try:
                kind = IndexKind[kind.upper()]
            except KeyError:
                raise ValueError(f'kind {kind!r} is neither "logical" nor "slot"') from None
        taker = context._taker(stream)
        array = taker.take(indices, "indices", "i32", (None, None), free=1)
        found = taker.optional(scores, "scores", "f32", array.shape, free=1)
        if found is not None and row_stride(found) != row_stride(array):
            raise refuse(f"scores has the strides {found.strides}; indices {array.strides}: they must be equal")
        rows, columns = array.shape
        if k is not None and k > columns:
            raise refuse(f"k is {k}; indices has {columns} columns")
        raw = _ffi.ic_index_view(
            indices=address(array),
            lengths=address(taker.take(lengths, "lengths", "i32", (rows,))),
            scores=address(found),
            row_stride=row_stride(array) or columns,
            num_rows=rows,
            k=columns if k is None else k,
            kind=kind,
            source_layer=-1,
        )
        self._set(raw, context.dlpack_device, None, taker.kept, stream_pointer(stream))

    @classmethod
    def _of(cls, holder: Handle, device: tuple[int, int], kept: object = None) -> IndexView:
        """An empty one, to be filled by a call on a cache."""
        view = cls.__new__(cls)
        view._set(_ffi.ic_index_view(), device, holder, kept, 0)
        return view

    def _set(self, raw: _ffi.ic_index_view, device: Any, holder: Handle | None, kept: object, stream: int) -> None:
        self._struct = raw
        self._pointer = ctypes.pointer(raw)
        self._device = device
        self._holder = holder
        self._kept = kept
        self.stream = stream

    def __repr__(self) -> str:
        return (
            f"IndexView({self.num_rows} rows, k {self.k}, {self.kind.name.lower()}, source layer {self.source_layer})"
        )

    def _array(self, pointer: int | None, shape: tuple[int, ...], strides: tuple[int, ...], dtype: str) -> Array:
        owner = (self._holder._open if self._holder is not None else None, self._kept)
        return Array(
            pointer or 0,
            shape,
            dtype,
            device=self._device,
            strides=strides,
            readonly=True,
            owner=owner,
            stream=self.stream,
        )

    @property
    def indices(self) -> Array:
        """[num_rows, row_stride] i32, front-packed, -1 behind."""
        raw = self._struct
        return self._array(raw.indices, (raw.num_rows, raw.row_stride), (raw.row_stride * 4, 4), "i32")

    @property
    def lengths(self) -> Array:
        """[num_rows] i32: valid entries per row."""
        return self._array(self._struct.lengths, (self._struct.num_rows,), (4,), "i32")

    @property
    def scores(self) -> Array | None:
        """[num_rows, row_stride] f32, or None where they are not kept."""
        raw = self._struct
        if raw.scores is None:
            return None
        return self._array(raw.scores, (raw.num_rows, raw.row_stride), (raw.row_stride * 4, 4), "f32")

    @property
    def num_rows(self) -> int:
        return self._struct.num_rows

    @property
    def k(self) -> int:
        """Most valid entries of a row."""
        return self._struct.k

    @property
    def kind(self) -> IndexKind:
        return IndexKind(self._struct.kind)

    @property
    def source_layer(self) -> int:
        """Full layer that computed them; -1 = not from a cache."""
        return self._struct.source_layer

    @property
    def generation(self) -> int:
        """Generation of the cache at the time; 0 = not from a cache."""
        return self._struct.generation

    @property
    def numerics_id(self) -> int:
        """Arithmetic that they were selected by; 0 = unknown."""
        return self._struct.numerics_id


def index_overlap(
    context: Context,
    a: IndexView,
    b: IndexView,
    *,
    intersection: Any = None,
    recall: Any = None,
    jaccard: Any = None,
    mass: Any = None,
    mass_recall: Any = None,
    stream: Any = None,
) -> None:
    """Compares two sets of logical indices row by row; both ascending, with the same number of rows.

    intersection: [rows] i32, |A and B|. recall: [rows] f32, |A and B| / |A|. jaccard: [rows] f32. None = not wanted.
    mass: [rows, k of a] f32, one weight per entry of a (Attention.mass()), any row stride; needed for mass_recall:
    [rows] f32, the share of the mass of a that lies on what both have.
    """
    taker = context._taker(stream)
    rows = (a.num_rows,)
    weights = taker.optional(mass, "mass", "f32", (a.num_rows, a.k), free=1)
    out = _ffi.ic_overlap_args(
        intersection=address(taker.optional(intersection, "intersection", "i32", rows, written=True)),
        recall=address(taker.optional(recall, "recall", "f32", rows, written=True)),
        jaccard=address(taker.optional(jaccard, "jaccard", "f32", rows, written=True)),
        mass=address(weights),
        mass_row_stride=row_stride(weights),
        mass_recall=address(taker.optional(mass_recall, "mass_recall", "f32", rows, written=True)),
    )
    check(lib.ic_index_overlap(context._raw, a._pointer, b._pointer, ctypes.byref(out), stream_pointer(stream)))
