# SPDX-License-Identifier: Apache-2.0
"""The scores, and the preparation of what they are made from."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from . import _ffi
from ._array import Array, Taker, address, dtype_of, element_bytes, element_name, refuse, row_stride
from ._batch import Batch, Pool, Vector, native_pool
from ._context import Context
from ._handle import Handle, size_of
from ._library import check, lib
from ._stream import stream_pointer
from ._types import DType, IndexerInfo, PrepareFlags, ScoresFlags


@dataclass(frozen=True)
class Queries:
    """Indexer queries of some consecutive rows, after every rotation, transform and quantisation.

    q: [rows, H, D] of the indexer's type. w: [rows, H] f32 head weights, signed.
    q_scale: [rows, H] f32 factor for w, or None. Each may have any stride from row to row.
    """

    q: Any
    w: Any
    q_scale: Any = None


class Indexer(Handle):
    """One indexer geometry; immutable, for any number of threads. Holds no weights.

        I[t, s] = ks[s] * sum_h w[t, h] * relu(sum_d q[t, h, d] * k[s, d])

    num_heads: H, 1 to 128. head_dim: D, 32, 64 or 128. dtype: of q and the keys: "f32", "f16", "bf16" or "e4m3", or
    a DType, or that dtype of numpy or torch.
    Fold H^-1/2, D^-1/2 and, for e4m3, the scale of q into w (or give the latter as q_scale).
    """

    def __init__(self, context: Context, *, num_heads: int, head_dim: int, dtype: Any) -> None:
        self.context = context
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.dtype = dtype_of(dtype)
        desc = _ffi.ic_indexer_desc(num_heads=num_heads, head_dim=head_dim, dtype=self.dtype)
        self._create("indexer", context._raw, ctypes.byref(desc), keep=(context._open,))
        self.key_vector = Vector(element_name(self.dtype), head_dim, 4 if self.dtype == DType.E4M3 else 0)

    @property
    def info(self) -> IndexerInfo:
        """Numerics id, error bound, bytes of a key."""
        raw = _ffi.ic_indexer_info()
        check(lib.ic_indexer_get_info(self._raw, ctypes.byref(raw)))
        return IndexerInfo.from_struct(raw)

    def scores_workspace_size(self, max_rows: int, max_key_end: int) -> int:
        """Bytes of workspace for scores() of up to max_rows rows."""
        return size_of(lib.ic_indexer_scores_workspace_size, self._raw, max_rows, max_key_end)

    def scores(
        self,
        batch: Batch,
        queries: Queries,
        keys: Pool,
        out: Any,
        *,
        row_begin: int = 0,
        first_column: int = 0,
        clean: bool = False,
        workspace: Any = None,
        stream: Any = None,
    ) -> None:
        """Writes the scores of every visible key in a window: the bits that a Full layer selects from.

        out: [rows, columns] f32, any row stride: row r is row row_begin + r of the batch, column c is position
        first_column + c. Columns without a visible key stay untouched; clean: they become -inf.
        """
        taker = self.context._taker(stream)
        scores = taker.take(out, "out", "f32", (None, None), written=True, free=1)
        if 0 in scores.shape:
            return
        raw_queries, rows = native_queries(queries, self, taker)
        if rows < len(scores):
            raise refuse(f"queries are for {rows} rows; out has {len(scores)}")
        raw_keys, _ = native_pool(keys, self.key_vector, taker, "keys", written=False)
        pointer, size = taker.workspace(workspace)
        args = _ffi.ic_scores_args(
            row_begin=row_begin,
            row_count=len(scores),
            first_column=first_column,
            num_columns=scores.shape[1],
            scores=address(scores),
            score_stride=row_stride(scores),
            workspace=pointer,
            workspace_size=size,
            flags=ScoresFlags.CLEAN if clean else 0,
        )
        args.queries, args.keys = ctypes.pointer(raw_queries), ctypes.pointer(raw_keys)
        same_device(batch, self.context)
        check(lib.ic_indexer_scores(self._raw, batch._pointer, ctypes.byref(args), stream_pointer(stream)))

    def prepare_queries(
        self,
        x: Any,
        out: Any,
        *,
        rotation: Rotation | None = None,
        hadamard: bool = False,
        ue8m0: bool = False,
        scale_out: Any = None,
        stream: Any = None,
    ) -> None:
        """Projected queries to indexer queries: rotation, Hadamard, one rounding to the indexer's type.

        x: [rows, H, D] f32, f16 or bf16. out: [rows, H, D] of the indexer's type. scale_out: [rows, H] f32, e4m3 only:
        to be given as q_scale. x and out may have any stride from row to row.
        """
        taker = self.context._taker(stream)
        args = _ffi.ic_prepare_args(flags=_flags(rotation, hadamard, ue8m0))
        shape = (None, self.num_heads, self.head_dim)
        source = _take_x(args, taker, x, shape)
        target = taker.take(out, "out", element_name(self.dtype), (len(source), *shape[1:]), written=True, free=1)
        scales = taker.optional(scale_out, "scale_out", "f32", (len(source), self.num_heads), written=True)
        args.q_out, args.q_out_row_stride = address(target), row_stride(target)
        args.q_scale_out = address(scales)
        _rotate(args, taker, rotation, len(source))
        check(lib.ic_indexer_prepare_queries(self._raw, ctypes.byref(args), stream_pointer(stream)))

    def prepare_keys(
        self,
        x: Any,
        pool: Pool,
        slots: Any,
        *,
        page_tokens: int = 0,
        norm_weight: Any = None,
        norm_bias: Any = None,
        norm_eps: float = 0.0,
        rotation: Rotation | None = None,
        hadamard: bool = False,
        ue8m0: bool = False,
        stream: Any = None,
    ) -> None:
        """Projected keys into an index-key pool: LayerNorm, rotation, Hadamard, one rounding to the indexer's type.

        x: [count, D] f32, f16 or bf16, any row stride. slots: [count] i64: page * page_tokens + offset or a vector
        number; -1 = skip. norm_weight, norm_bias: [D] f32 or None; norm_eps: positive with a weight.
        page_tokens: of a paged pool; 0 = as the shape of its data says.
        """
        taker = self.context._taker(stream)
        args = _ffi.ic_prepare_args(flags=_flags(rotation, hadamard, ue8m0), norm_eps=norm_eps)
        source = _take_x(args, taker, x, (None, self.head_dim))
        where = taker.take(slots, "slots", "i64", (len(source),))
        weight = taker.optional(norm_weight, "norm_weight", "f32", (self.head_dim,))
        bias = taker.optional(norm_bias, "norm_bias", "f32", (self.head_dim,))
        raw_pool, vectors = native_pool(pool, self.key_vector, taker, "pool", written=True)
        paged = raw_pool.layout == _ffi.IC_LAYOUT_PAGED
        if paged and page_tokens > vectors:
            raise refuse(f"page_tokens is {page_tokens}; the pool's pages hold {vectors} keys")
        args.slots, args.norm_weight, args.norm_bias = address(where), address(weight), address(bias)
        args.page_tokens = (page_tokens or vectors) if paged else page_tokens
        args.pool = ctypes.pointer(raw_pool)
        _rotate(args, taker, rotation, len(source))
        check(lib.ic_indexer_prepare_keys(self._raw, ctypes.byref(args), stream_pointer(stream)))


@dataclass(frozen=True)
class Rotation:
    """Rotary positions: which rows of the tables, and which dimensions are turned.

    positions: [count] i32. cos, sin: [num_positions, rope_dim / 2] f32.
    interleaved: pairs (2i, 2i + 1), else (i, i + rope_dim / 2). last: the last rope_dim dimensions, else the first.
    """

    positions: Any
    cos: Any
    sin: Any
    interleaved: bool = False
    last: bool = False


def _flags(rotation: Rotation | None, hadamard: bool, ue8m0: bool) -> int:
    return (
        (PrepareFlags.ROPE_INTERLEAVED if rotation and rotation.interleaved else 0)
        | (PrepareFlags.ROPE_LAST if rotation and rotation.last else 0)
        | (PrepareFlags.HADAMARD if hadamard else 0)
        | (PrepareFlags.UE8M0 if ue8m0 else 0)
    )


def _take_x(args: _ffi.ic_prepare_args, taker: Taker, x: Any, shape: tuple[int | None, ...]) -> Array:
    from ._array import asarray

    source = asarray(x, stream=taker.stream, name="x")
    if source.dtype not in ("f32", "f16", "bf16"):
        raise refuse(f"x has elements of type {source.dtype}; needed: f32, f16 or bf16")
    source = taker.take(source, "x", source.dtype, shape, free=1)
    args.x, args.x_row_stride = address(source), row_stride(source)
    args.x_dtype, args.count = dtype_of(source.dtype), len(source)
    return source


def _rotate(args: _ffi.ic_prepare_args, taker: Taker, rotation: Rotation | None, count: int) -> None:
    if rotation is None:
        return
    cos = taker.take(rotation.cos, "rotation.cos", "f32", (None, None))
    sin = taker.take(rotation.sin, "rotation.sin", "f32", cos.shape)
    args.positions = address(taker.take(rotation.positions, "rotation.positions", "i32", (count,)))
    args.cos_table, args.sin_table = address(cos), address(sin)
    args.num_positions, args.rope_dim = cos.shape[0], cos.shape[1] * 2


def native_queries(queries: Queries, indexer: Indexer, taker: Taker) -> tuple[_ffi.ic_queries, int]:
    """The C struct, and its rows."""
    heads = (None, indexer.num_heads)
    q = taker.take(queries.q, "queries.q", element_name(indexer.dtype), (*heads, indexer.head_dim), free=1)
    w = taker.take(queries.w, "queries.w", "f32", heads, free=1)
    scale = taker.optional(queries.q_scale, "queries.q_scale", "f32", heads, free=1)
    raw = _ffi.ic_queries(
        q=address(q),
        q_row_stride=row_stride(q),
        w=address(w),
        w_row_stride=row_stride(w),
        q_scale=address(scale),
        q_scale_row_stride=row_stride(scale),
    )
    return raw, min(len(array) for array in (q, w, scale) if array is not None)


def same_device(batch: Batch, context: Context) -> None:
    if batch._device != context.dlpack_device:
        raise refuse(f"the batch is on device {batch._device}; needed: {context.dlpack_device}")


@dataclass(frozen=True)
class NewKeys:
    """Ready keys (rotated, transformed, quantised) that a forward writes before it scores, in every mode.

    keys: [count, D] of the indexer's type, any stride. slots: [count] i64: page * page_tokens + offset or a vector
    number; -1 = skip. scales: [count] f32, e4m3 only.

    All count keys are written, however many rows the batch has: where a call is used again with fewer rows, set the
    slots behind them to -1, or old ones write into pages that others may have by now.
    """

    keys: Any
    slots: Any
    scales: Any = None


def native_new_keys(new: NewKeys, indexer: Indexer, taker: Taker) -> _ffi.ic_new_keys:
    slots = taker.take(new.slots, "new_keys.slots", "i64", (None,))
    count = len(slots)
    keys = taker.take(new.keys, "new_keys.keys", element_name(indexer.dtype), (count, indexer.head_dim), free=1)
    scales = taker.optional(new.scales, "new_keys.scales", "f32", (count,))
    return _ffi.ic_new_keys(
        keys=address(keys),
        key_stride_bytes=row_stride(keys) * element_bytes(indexer.dtype),
        scales=address(scales),
        slots=address(slots),
        count=count,
    )
