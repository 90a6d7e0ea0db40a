# SPDX-License-Identifier: Apache-2.0
"""Who has published what."""

from __future__ import annotations

import ctypes
from typing import Any

from . import _dlpack, _ffi
from ._array import Array, Taker, address, asarray, empty, refuse, row_stride
from ._attention import Attention, AttentionInputs
from ._batch import Batch, Pool, layout_of
from ._context import Context
from ._handle import Handle, size_of
from ._indexer import Indexer, NewKeys, Queries, same_device
from ._layer import ALL_ROWS, LayerCall, LookUp
from ._library import check, lib
from ._schedule import Schedule
from ._stream import stream_pointer
from ._topk import TopK
from ._types import CacheFlags, CacheInfo, ExportFlags, ExportHeader, Fault, ImportFlags, LayerMode, Layout, Memory
from ._view import IndexView


class Cache(Handle):
    """The indices of one stream of forwards, with the bookkeeping that makes a stale or missing one an error.

    One thread at a time; one cache per micro-batch and per draft model.

    attention: None when the engine brings its own. max_rows: most rows of a batch. num_slots: more than one to keep
    several sources at once. scores: keep those of the selected keys. memory: device memory of at least memory_size()
    bytes, aligned to 256, any type; None = the context's allocator. epoch: [1] u32, experimental.
    """

    _num_rows = -1  # of the open batch

    def __init__(
        self,
        context: Context,
        *,
        schedule: Schedule,
        indexer: Indexer,
        topk: TopK,
        attention: Attention | None = None,
        max_rows: int,
        num_slots: int = 1,
        scores: bool = False,
        memory: Any = None,
        epoch: Any = None,
    ) -> None:
        self.context = context
        self.schedule = schedule
        self.indexer = indexer
        self.topk = topk
        self.attention = attention
        desc = _desc(schedule, indexer, topk, attention, max_rows, num_slots, scores)
        taker = context._taker()
        desc.memory, desc.memory_size = taker.workspace(memory, "memory")
        desc.epoch = address(taker.optional(epoch, "epoch", "u32", (1,)))
        self._create("cache", context._raw, ctypes.byref(desc), keep=(context._open, taker.kept))
        self._batch: object = None
        self._imported: object = None

    @staticmethod
    def memory_size(
        *,
        schedule: Schedule,
        indexer: Indexer,
        topk: TopK,
        attention: Attention | None = None,
        max_rows: int,
        num_slots: int = 1,
        scores: bool = False,
    ) -> int:
        """Bytes that a cache with these arguments needs as memory."""
        desc = _desc(schedule, indexer, topk, attention, max_rows, num_slots, scores)
        return size_of(lib.ic_cache_memory_size, ctypes.byref(desc))

    @property
    def info(self) -> CacheInfo:
        """Generation, rows (-1: no generation is open), sizes."""
        raw = _ffi.ic_cache_info()
        check(lib.ic_cache_get_info(self._raw, ctypes.byref(raw)))
        return CacheInfo.from_struct(raw)

    def begin(self, batch: Batch) -> None:
        """Opens a generation for the rows of a batch. Its arrays must stay as they are until the next begin() or reset();
        the cache keeps them alive. On failure the previous generation is still open."""
        same_device(batch, self.context)
        check(lib.ic_cache_begin(self._raw, batch._pointer))
        self._num_rows = batch.num_rows
        self._batch = batch._kept

    def reset(self) -> None:
        """Forgets the generation, its batch and every publication."""
        check(lib.ic_cache_reset(self._raw))
        self._num_rows = -1
        self._batch = None

    def forward_workspace_size(self, max_rows: int, max_key_end: int) -> int:
        """Bytes of workspace for any layer with up to max_rows rows and keys up to max_key_end."""
        return size_of(lib.ic_forward_workspace_size, self._raw, max_rows, max_key_end)

    def layer(
        self,
        layer: int,
        *,
        queries: Queries | None = None,
        keys: Pool | None = None,
        new_keys: NewKeys | None = None,
        attention: AttentionInputs | None = None,
        mode: LayerMode | str | None = None,
        row_begin: int = 0,
        row_count: int = ALL_ROWS,
        hint: Any = None,
        workspace: Any = None,
        stream: Any = None,
    ) -> LayerCall:
        """Builds the call of one layer (or of one part of its rows), to be used in every step.

        queries, keys: what a Full layer scores; ignored by a Shared one. new_keys: written into keys first, in every
        mode. attention: over the indices, after they are there; None = not here. mode: None = as the schedule says;
        "full" or "shared" force it. row_begin, row_count: the part, ALL_ROWS = to the end of the batch.
        hint: [rows, k_padded] i32, a guess of the selection. workspace: forward_workspace_size() bytes, aligned to 256
        (empty() makes it); a Shared layer without new_keys and attention needs none. Arrays may have more rows than the
        batch; the first ones are used. (Of new_keys all are: those not wanted have slot -1.)
        stream: where the call runs unless it is told otherwise, and where the arrays' producers are waited for, see
        asarray().
        """
        _ = self._open
        idle = queries is None and new_keys is None and attention is None
        return (LookUp if idle else LayerCall)(
            self,
            layer,
            mode=mode,
            row_begin=row_begin,
            row_count=row_count,
            queries=queries,
            keys=keys,
            new_keys=new_keys,
            attention=attention,
            hint=hint,
            workspace=workspace,
            stream=stream,
        )

    def view(self, source_layer: int) -> IndexView:
        """The publication of a source layer in the current generation, all rows; StaleError when it is not there."""
        view = IndexView._of(self, self.context.dlpack_device)
        check(lib.ic_cache_get_view(self._raw, source_layer, view._pointer))
        return view

    def faults(self, *, clear: bool = False, stream: Any = None) -> Fault:
        """What operations of this cache have found in device arrays; waits for the stream on CUDA."""
        faults = ctypes.c_uint32()
        check(lib.ic_cache_faults(self._raw, int(clear), ctypes.byref(faults), stream_pointer(stream)))
        return Fault(faults.value)

    def remap(
        self,
        source_layer: int,
        slots: Any,
        lengths: Any,
        *,
        layout: Layout | str = Layout.PAGED,
        block_table: int = 0,
        stream: Any = None,
    ) -> IndexView:
        """Logical indices to slots, once for all layers that read this source through the same block table.

        slots: [rows, at least k_padded] i32, any row stride. lengths: [rows] i32.
        """
        taker = self.context._taker(stream)
        target = taker.take(slots, "slots", "i32", (None, None), written=True, free=1)
        counts = taker.take(lengths, "lengths", "i32", (None,), written=True)
        if target.shape[1] < self.topk.k_padded or min(len(target), len(counts)) < self._num_rows:
            needed = f"[{max(self._num_rows, 0)}, {self.topk.k_padded}]"
            raise refuse(f"slots has the shape {list(target.shape)}, lengths {list(counts.shape)}; at least: {needed}")
        args = _ffi.ic_remap_args(
            source_layer=source_layer,
            layout=layout_of(layout),
            block_table=block_table,
            slots=address(target),
            lengths=address(counts),
            row_stride=row_stride(target) or target.shape[1],
        )
        view = IndexView._of(self, self.context.dlpack_device, taker.kept)
        pointer = stream_pointer(stream)
        check(lib.ic_cache_remap(self._raw, ctypes.byref(args), view._pointer, pointer))
        view.stream = pointer
        return view

    def compact_workspace_size(self, max_rows: int) -> int:
        """Bytes of workspace for compact()."""
        return size_of(lib.ic_cache_compact_workspace_size, self._raw, max_rows)

    def compact(
        self,
        source_layer: int,
        rows: Any,
        *,
        publish_layer: int | None = None,
        workspace: Any = None,
        stream: Any = None,
    ) -> None:
        """Keeps some rows of a publication as the rows of the open batch (speculative decoding).

        rows: [rows of the batch] i32: the row of the source publication; -1 = an empty row.
        publish_layer: None = source_layer, or an MTP layer.
        """
        taker = self.context._taker(stream)
        array = taker.take(rows, "rows", "i32", (None,))
        pointer, size = taker.workspace(workspace)
        args = _ffi.ic_compact_args(
            source_layer=source_layer,
            publish_layer=source_layer if publish_layer is None else publish_layer,
            rows=address(array),
            num_rows=len(array),
            workspace=pointer,
            workspace_size=size,
        )
        check(lib.ic_cache_compact(self._raw, ctypes.byref(args), stream_pointer(stream)))

    def export_size(self, num_rows: int, *, scores: bool = False) -> int:
        """Bytes of an exported block."""
        return size_of(lib.ic_cache_export_size, self._raw, num_rows, _export_flags(scores))

    def export_block(self, source_layer: int, buffer: Any = None, *, scores: bool = False, stream: Any = None) -> Array:
        """Writes the publication of a source layer as logical indices, for another pipeline stage or process.

        buffer: at least export_size() bytes of any type, aligned to 8, in host (CUDA: best pinned) or device memory;
        None makes one in host memory. Returns the block as u8.
        """
        needed = self.export_size(max(self._num_rows, 0), scores=scores)
        if buffer is None:
            buffer = empty(needed)
        block = asarray(buffer, stream=stream, name="buffer")
        on_host = block.device[0] in (_dlpack.CPU, _dlpack.CUDA_HOST)
        taker = Taker((_dlpack.CPU, 0), stream) if on_host else self.context._taker(stream)
        taker.check(block, "buffer", written=True, free=0)
        location = Memory.HOST if on_host else Memory.DEVICE
        flags, pointer = _export_flags(scores), stream_pointer(stream)
        check(lib.ic_cache_export(self._raw, source_layer, flags, location, block.pointer, block.nbytes, pointer))
        return Array(block.pointer, (needed,), "u8", device=block.device, owner=block, stream=pointer)

    def import_block(
        self,
        block: Any,
        *,
        publish_layer: int | None = None,
        any_schedule: bool = False,
        same_numerics: bool = False,
        stream: Any = None,
    ) -> ExportHeader:
        """Publishes an exported block in the current generation, and returns what it says of itself.

        block: host memory, aligned to 8; on CUDA it must not change before the stream has copied it.
        publish_layer: None = the source layer of the block. any_schedule: accept one of another schedule.
        same_numerics: refuse one of another arithmetic.
        """
        taker = Taker((_dlpack.CPU, 0))
        array = taker.check(asarray(block, name="block"), "block", False, 0)
        flags = (ImportFlags.ANY_SCHEDULE if any_schedule else 0) | (ImportFlags.SAME_NUMERICS if same_numerics else 0)
        header = _ffi.ic_export_header()
        self._imported = array  # until the next one
        layer = -1 if publish_layer is None else publish_layer
        pointer = stream_pointer(stream)
        check(lib.ic_cache_import(self._raw, layer, flags, array.pointer, array.nbytes, ctypes.byref(header), pointer))
        return ExportHeader.from_struct(header)


def _desc(
    schedule: Schedule,
    indexer: Indexer,
    topk: TopK,
    attention: Attention | None,
    max_rows: int,
    num_slots: int,
    scores: bool,
) -> _ffi.ic_cache_desc:
    return _ffi.ic_cache_desc(
        schedule=schedule._raw,
        indexer=indexer._raw,
        topk=topk._raw,
        attention=None if attention is None else attention._raw,
        max_rows=max_rows,
        num_slots=num_slots,
        flags=CacheFlags.SCORES if scores else 0,
    )


def _export_flags(scores: bool) -> int:
    return ExportFlags.SCORES if scores else 0
