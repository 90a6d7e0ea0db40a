# SPDX-License-Identifier: Apache-2.0
"""A serving loop from the outside: requests of several lengths over one set of pages, schedule FSSFSS; requests end, the
next one takes their pages, a forgotten Full layer is noticed. One row of every call is compared with brute force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import indexcache as ic
import numpy as np
import pytest
from memory import Host

PATTERN, MAX_ROWS, PAGE, PAGES, BLOCKS = "FSSFSS", 3, 16, 8, 3
H, D, K, HEADS, LATENT, ROPE = 4, 32, 16, 2, 32, 16
SCALE = (LATENT + ROPE) ** -0.5


class Layer:
    """Arrays of one layer. Pools are NaN where no request lives; seen_* is the same by sequence and position."""

    def __init__(self, memory: Host, cache: ic.Cache, layer: int, slots: np.ndarray, workspace: Any) -> None:
        give = memory.give
        self.source = cache.schedule.layer(layer).source_layer
        self.full = self.source == layer
        self.kv = np.full((PAGES, PAGE, LATENT + ROPE), np.nan, np.float32)
        self.attention_q = np.zeros((MAX_ROWS, HEADS, LATENT + ROPE), np.float32)
        self.out = np.zeros((MAX_ROWS, HEADS, LATENT), np.float32)
        self.filled = [self.attention_q]
        self.seen_kv = np.zeros((MAX_ROWS, BLOCKS * PAGE, LATENT + ROPE), np.float32)
        self.seen_keys = np.zeros((MAX_ROWS, BLOCKS * PAGE, D), np.float32)
        scoring: dict[str, Any] = {}
        if self.full:  # only here are index keys kept
            self.keys = np.full((PAGES, PAGE, D), np.nan, np.float32)
            self.q, self.w, self.new = (np.zeros((MAX_ROWS, *n), np.float32) for n in ((H, D), (H,), (D,)))
            self.filled += [self.q, self.w, self.new]
            scoring = {"queries": ic.Queries(give(self.q), give(self.w)), "keys": ic.Pool(give(self.keys), "paged")}
            scoring["new_keys"] = ic.NewKeys(give(self.new), give(slots))
        inputs = ic.AttentionInputs(give(self.attention_q), ic.Pool(give(self.kv), "paged"), give(self.out))
        self.call = cache.layer(layer, attention=inputs, workspace=workspace, stream=memory.stream, **scoring)


@dataclass
class Request:
    seq: int
    prompt: int
    steps: int
    length: int = 0


class Engine:
    def __init__(self, memory: Host) -> None:
        self.memory, context = memory, memory.context()
        self.random = np.random.default_rng(3)
        self.indexer = ic.Indexer(context, num_heads=H, head_dim=D, dtype=np.float32)
        sizes: Any = {"num_heads": HEADS, "d_latent": LATENT, "d_rope": ROPE, "softmax_scale": SCALE}
        attention = ic.Attention(context, kv_dtype="f32", q_dtype="f32", **sizes)
        shared: Any = {"indexer": self.indexer, "topk": ic.TopK(context, K), "attention": attention}
        schedule = ic.Schedule(len(PATTERN), pattern=PATTERN)
        self.cache = ic.Cache(context, schedule=schedule, max_rows=MAX_ROWS, **shared)
        self.tables = np.full((MAX_ROWS, BLOCKS), -1, np.int32)
        self.key_end, self.row_seq = np.zeros((2, MAX_ROWS), np.int32)
        self.slots = np.full(MAX_ROWS, -1, np.int64)
        rows: Any = {
            "key_end": memory.give(self.key_end),
            "row_seq": memory.give(self.row_seq),
            "block_tables": [ic.BlockTable(memory.give(self.tables), PAGE)],
        }
        self.batch = ic.Batch(context, max_key_end=BLOCKS * PAGE, stream=memory.stream, **rows)
        workspace = memory.empty(self.cache.forward_workspace_size(MAX_ROWS, BLOCKS * PAGE))
        self.layers = [Layer(memory, self.cache, layer, self.slots, workspace) for layer in range(len(PATTERN))]
        self.free_pages: list[int] = self.random.permutation(PAGES).tolist()
        self.requests: list[Request] = []

    def write_kv(self, layer: Layer, slots: np.ndarray, where: Any) -> None:
        values = self.random.standard_normal((len(slots), LATENT + ROPE), np.float32)
        layer.kv.reshape(-1, LATENT + ROPE)[slots] = layer.seen_kv[where] = values

    def next_slot(self, request: Request) -> int:
        block, offset = divmod(request.length, PAGE)
        if offset == 0:
            self.tables[request.seq, block] = self.free_pages.pop()
        request.length += 1
        return int(self.tables[request.seq, block]) * PAGE + offset

    def join(self, request: Request) -> None:
        slots = np.array([self.next_slot(request) for _ in range(request.prompt)], np.int64)
        for layer in self.layers:
            where = request.seq, slice(request.prompt)
            self.write_kv(layer, slots, where)
            if layer.full:
                layer.seen_keys[where] = keys = self.random.standard_normal((len(slots), D), np.float32)
                give, stream = self.memory.give, self.memory.stream
                self.memory.upload()
                self.indexer.prepare_keys(give(keys), ic.Pool(give(layer.keys), "paged"), give(slots), stream=stream)
                self.memory.download()
        self.requests.append(request)

    def leave(self, request: Request) -> list[int]:
        pages: list[int] = [page for page in self.tables[request.seq].tolist() if page >= 0]
        self.tables[request.seq] = -1
        for layer in self.layers:
            layer.kv[pages] = np.nan  # whoever still reads them is found out
            if layer.full:
                layer.keys[pages] = np.nan
        self.free_pages.extend(pages)
        self.requests.remove(request)
        return pages

    def begin(self) -> None:
        self.slots[:] = -1  # rows that are not in this step write nothing
        for row, request in enumerate(self.requests):
            self.slots[row] = self.next_slot(request)
            self.key_end[row], self.row_seq[row] = request.length, request.seq
        self.batch.num_rows = rows = len(self.requests)
        where = self.row_seq[:rows], self.key_end[:rows] - 1
        for layer in self.layers:
            self.write_kv(layer, self.slots[:rows], where)
            for array in layer.filled:
                array[:] = self.random.standard_normal(array.shape)
            if layer.full:
                layer.seen_keys[where] = layer.new[:rows]
        self.memory.upload()
        self.cache.begin(self.batch)

    def run(self, layer: Layer, row: int) -> None:
        view = layer.call()
        self.memory.download()
        length, seq, source = self.key_end[row], self.row_seq[row], self.layers[layer.source]
        scores = np.maximum(source.seen_keys[seq, :length].astype(np.float64) @ source.q[row].T, 0) @ source.w[row]
        best = np.sort(np.lexsort((np.arange(length), -scores))[:K])
        kv = layer.seen_kv[seq, best].astype(np.float64)
        weights = np.exp(SCALE * layer.attention_q[row] @ kv.T)
        expected = weights / weights.sum(axis=1, keepdims=True) @ kv[:, :LATENT]
        assert view.source_layer == layer.source and view.num_rows == len(self.requests)
        assert self.memory.rows(view)[row] == best.tolist()
        np.testing.assert_allclose(layer.out[row], expected, rtol=1e-4, atol=1e-5)


def test_requests_end_and_their_pages_are_used_again(memory: Host) -> None:
    engine = Engine(memory)
    for request in (Request(0, 7, 14), Request(1, 40, 5), Request(2, 23, 14)):
        engine.join(request)
    freed: list[int] = []
    for step in range(14):
        if step == 7:
            engine.join(Request(1, 20, 7))
            assert set(engine.tables[1][:2].tolist()) <= set(freed)
        engine.begin()
        for layer in engine.layers:
            if step == 9 and layer is engine.layers[3]:  # forgotten: its Shared layer says so, and nothing is lost
                with pytest.raises(ic.StaleError, match="layer 3 last published in generation 9"):
                    engine.layers[4].call()
            engine.run(layer, row=len(engine.requests) - 1)
        for request in [r for r in engine.requests if r.length == r.prompt + r.steps]:
            freed += engine.leave(request)
    assert sorted(engine.free_pages) == list(range(PAGES))
    assert engine.cache.faults(stream=memory.stream) == ic.Fault(0)
