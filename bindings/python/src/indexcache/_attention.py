# SPDX-License-Identifier: Apache-2.0
"""Sparse MLA over selected keys."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from . import _ffi
from ._array import Taker, address, dtype_of, element_name, refuse, row_stride
from ._batch import Batch, Pool, Vector, native_pool
from ._context import Context
from ._handle import Handle, size_of
from ._indexer import same_device
from ._library import check, lib
from ._stream import stream_pointer
from ._types import DType
from ._view import IndexView


@dataclass(frozen=True)
class AttentionInputs:
    """What attention reads and writes for some consecutive rows.

    q: [rows, num_heads, d_latent + d_rope] of q_dtype. kv: Pool of latent KV. out: [rows, num_heads, d_latent] of
    out_dtype. sink: [num_heads] f32, a logit that joins the denominator, or None. lse: [rows, num_heads] f32, natural
    logarithm of the sum of exponentials, or None. q, out and lse may have any stride from row to row.
    """

    q: Any
    kv: Pool
    out: Any
    sink: Any = None
    lse: Any = None


@dataclass(frozen=True)
class MassInputs:
    """What attention mass reads and writes for some consecutive rows.

    q: [rows, num_heads, d_latent + d_rope] of q_dtype. kv: Pool of latent KV. mass: [rows, k of the indices] f32, where
    the result goes. sink: [num_heads] f32, or None. q and mass may have any stride from row to row.
    """

    q: Any
    kv: Pool
    mass: Any
    sink: Any = None


class Attention(Handle):
    """One geometry of multi-head latent attention in its absorbed form; immutable, for any number of threads.

        out[t, h] = sum_j softmax_j(scale * q[t, h] . kv[j]) * kv[j][0 : d_latent]      j over the row's indices

    num_heads: query heads. d_latent: a multiple of 16 up to 1024. d_rope: a multiple of 16 up to 256, or 0.
    softmax_scale: positive.
    kv_dtype: "f32", "bf16" or "e4m3" (656-byte tokens). q_dtype, out_dtype: "f32" or "bf16"; out_dtype None = q_dtype.
    Types may be a DType or a dtype of numpy or torch, too.
    """

    def __init__(
        self,
        context: Context,
        *,
        num_heads: int,
        d_latent: int,
        d_rope: int,
        kv_dtype: Any,
        q_dtype: Any,
        softmax_scale: float,
        out_dtype: Any = None,
    ) -> None:
        self.context = context
        self.num_heads = num_heads
        self.d_latent = d_latent
        self.d_rope = d_rope
        self.kv_dtype = dtype_of(kv_dtype)
        self.q_dtype = dtype_of(q_dtype)
        self.out_dtype = self.q_dtype if out_dtype is None else dtype_of(out_dtype)
        desc = _ffi.ic_attention_desc(
            num_heads=num_heads,
            d_latent=d_latent,
            d_rope=d_rope,
            kv_dtype=self.kv_dtype,
            q_dtype=self.q_dtype,
            out_dtype=self.out_dtype,
            softmax_scale=softmax_scale,
        )
        self._create("attention", context._raw, ctypes.byref(desc), keep=(context._open,))
        elements = 656 if self.kv_dtype == DType.E4M3 else d_latent + d_rope
        self.kv_vector = Vector(element_name(self.kv_dtype), elements)

    def workspace_size(self, max_rows: int, max_k: int) -> int:
        """Bytes of workspace for run() with up to max_rows rows of up to max_k indices."""
        return size_of(lib.ic_attention_workspace_size, self._raw, max_rows, max_k)

    def mass_workspace_size(self, max_rows: int, max_k: int) -> int:
        """Bytes of workspace for mass() with up to max_rows rows of up to max_k indices."""
        return size_of(lib.ic_attention_mass_workspace_size, self._raw, max_rows, max_k)

    def run(
        self,
        batch: Batch | None,
        indices: IndexView,
        inputs: AttentionInputs,
        *,
        row_begin: int = 0,
        workspace: Any = None,
        stream: Any = None,
    ) -> None:
        """Attention alone, over any set of indices. Row r of indices and of inputs is row row_begin + r of the batch.
        Slot indices need no batch when the pool is contiguous."""
        taker = self.context._taker(stream)
        args, rows = native_attention(inputs, self, taker)
        if rows < indices.num_rows:
            raise refuse(f"the attention arrays are for {rows} rows; there are indices of {indices.num_rows}")
        pointer, size = taker.workspace(workspace)
        if batch is not None:
            same_device(batch, self.context)
        check(
            lib.ic_attention_run(
                self._raw,
                None if batch is None else batch._pointer,
                row_begin,
                indices._pointer,
                ctypes.byref(args),
                pointer,
                size,
                stream_pointer(stream),
            )
        )

    def mass(
        self,
        batch: Batch | None,
        indices: IndexView,
        inputs: MassInputs,
        *,
        row_begin: int = 0,
        workspace: Any = None,
        stream: Any = None,
    ) -> None:
        """How much of its attention a row gives to every entry of its list: the mean over the heads of the softmax
        weight, 0 for what is skipped. Rows and batch are those of run()."""
        taker = self.context._taker(stream)
        width = self.d_latent + self.d_rope
        rows = indices.num_rows
        q = taker.take(inputs.q, "mass.q", element_name(self.q_dtype), (None, self.num_heads, width), free=1)
        mass = taker.take(inputs.mass, "mass.mass", "f32", (None, indices.k), written=True, free=1)
        sink = taker.optional(inputs.sink, "mass.sink", "f32", (self.num_heads,))
        pool, _ = native_pool(inputs.kv, self.kv_vector, taker, "mass.kv", written=False)
        if min(len(q), len(mass)) < rows:
            raise refuse(f"the mass arrays are for {min(len(q), len(mass))} rows; there are indices of {rows}")
        args = _ffi.ic_mass_args(
            q=address(q),
            q_row_stride=row_stride(q),
            sink=address(sink),
            mass=address(mass),
            mass_row_stride=row_stride(mass),
        )
        args.kv = ctypes.pointer(pool)
        pointer, size = taker.workspace(workspace)
        if batch is not None:
            same_device(batch, self.context)
        check(
            lib.ic_attention_mass(
                self._raw,
                None if batch is None else batch._pointer,
                row_begin,
                indices._pointer,
                ctypes.byref(args),
                pointer,
                size,
                stream_pointer(stream),
            )
        )


def native_attention(inputs: AttentionInputs, attention: Attention, taker: Taker) -> tuple[_ffi.ic_attention_args, int]:
    """The C struct, and its rows."""
    heads = attention.num_heads
    width = attention.d_latent + attention.d_rope
    q = taker.take(inputs.q, "attention.q", element_name(attention.q_dtype), (None, heads, width), free=1)
    out = taker.take(
        inputs.out,
        "attention.out",
        element_name(attention.out_dtype),
        (None, heads, attention.d_latent),
        written=True,
        free=1,
    )
    sink = taker.optional(inputs.sink, "attention.sink", "f32", (heads,))
    lse = taker.optional(inputs.lse, "attention.lse", "f32", (None, heads), written=True, free=1)
    pool, _ = native_pool(inputs.kv, attention.kv_vector, taker, "attention.kv", written=False)
    args = _ffi.ic_attention_args(
        q=address(q),
        q_row_stride=row_stride(q),
        sink=address(sink),
        out=address(out),
        out_row_stride=row_stride(out),
        lse=address(lse),
        lse_row_stride=row_stride(lse),
    )
    args.kv = ctypes.pointer(pool)
    taker.kept.append(pool)
    return args, min(len(array) for array in (q, out, lse) if array is not None)
