# SPDX-License-Identifier: Apache-2.0
"""A small problem that the tests share: two sequences in shuffled pages, layers FSFS, everything by numpy."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import indexcache as ic
import memory as backends
import numpy as np
import pytest
from memory import Cuda, Host

ROOT = Path(__file__).resolve().parents[3]
PYTHON = Path(__file__).resolve().parents[1]
VECTORS = ROOT / "tests" / "vectors"


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    types = {"F32": np.float32, "I32": np.int32}
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[begin:end], types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


@pytest.fixture(scope="session")
def context() -> ic.Context:
    return ic.Context("cpu", num_threads=2)


@pytest.fixture
def memory() -> Iterator[Host]:
    """Of the backend that the tests are told to run on."""
    chosen = backends.chosen()
    yield chosen
    if isinstance(chosen, Cuda):
        chosen.close()


class Problem:
    """Handles, arrays and layer calls; rows 0 and 1 of sequences 0 and 1."""

    H, D, K, HEADS, LATENT, ROPE, PAGE, BLOCKS = 4, 32, 8, 2, 32, 16, 16, 6
    LENGTHS = (90, 41)

    def __init__(
        self, context: ic.Context, pattern: str = "FSFS", memory: Host | None = None, **cache_options: Any
    ) -> None:
        random = np.random.default_rng(7)
        self.context = context
        self.memory = memory = memory or Host()
        give = memory.give
        self.schedule = ic.Schedule(len(pattern), pattern=pattern)
        self.indexer = ic.Indexer(context, num_heads=self.H, head_dim=self.D, dtype="f32")
        self.topk = ic.TopK(context, self.K)
        self.attention = ic.Attention(
            context,
            num_heads=self.HEADS,
            d_latent=self.LATENT,
            d_rope=self.ROPE,
            kv_dtype="f32",
            q_dtype="f32",
            softmax_scale=0.125,
        )
        self.cache = ic.Cache(
            context,
            schedule=self.schedule,
            indexer=self.indexer,
            topk=self.topk,
            attention=self.attention,
            max_rows=4,
            **cache_options,
        )
        self.pages = random.permutation(2 * self.BLOCKS).astype(np.int32).reshape(2, self.BLOCKS)
        self.key_end = np.array(self.LENGTHS, np.int32)
        self.row_seq = np.array([0, 1], np.int32)
        self.batch = ic.Batch(
            context,
            key_end=give(self.key_end),
            row_seq=give(self.row_seq),
            max_key_end=self.PAGE * self.BLOCKS,
            block_tables=[ic.BlockTable(give(self.pages), self.PAGE)],
            stream=memory.stream,
        )
        self.q = random.standard_normal((2, self.H, self.D), np.float32)
        self.w = random.standard_normal((2, self.H), np.float32)
        self.keys = random.standard_normal((2 * self.BLOCKS, self.PAGE, self.D), np.float32)
        self.attention_q = random.standard_normal((2, self.HEADS, self.LATENT + self.ROPE), np.float32)
        self.kv = random.standard_normal((2 * self.BLOCKS, self.PAGE, self.LATENT + self.ROPE), np.float32)
        self.out = np.zeros((2, self.HEADS, self.LATENT), np.float32)
        self.lse = np.zeros((2, self.HEADS), np.float32)
        self.workspace = memory.empty(self.cache.forward_workspace_size(4, self.PAGE * self.BLOCKS))

    def queries(self) -> ic.Queries:
        return ic.Queries(self.memory.give(self.q), self.memory.give(self.w))

    def pool(self) -> ic.Pool:
        return ic.Pool(self.memory.give(self.keys), "paged")

    def attention_inputs(self) -> ic.AttentionInputs:
        give = self.memory.give
        pool = ic.Pool(give(self.kv), "paged")
        return ic.AttentionInputs(give(self.attention_q), pool, give(self.out), lse=give(self.lse))

    def full(self, layer: int = 0, **options: Any) -> ic.LayerCall:
        defaults: dict[str, Any] = {"queries": self.queries(), "keys": self.pool(), "workspace": self.workspace}
        defaults["stream"] = self.memory.stream
        return self.cache.layer(layer, **(defaults | options))

    def in_order(self, pool: np.ndarray, row: int) -> Any:
        """The vectors that a row sees, by position."""
        vectors = pool[self.pages[self.row_seq[row]]].reshape(self.BLOCKS * self.PAGE, -1)
        return vectors[: self.key_end[row]]

    def expected_scores(self, row: int) -> Any:
        products = self.in_order(self.keys, row).astype(np.float64) @ self.q[row].T.astype(np.float64)
        return np.maximum(products, 0) @ self.w[row].astype(np.float64)

    def expected_indices(self, row: int) -> list[int]:
        scores = self.expected_scores(row)
        order = np.lexsort((np.arange(scores.size), -scores))
        return sorted(order[: self.K].tolist())

    def expected_weights(self, row: int, indices: list[int]) -> Any:
        kv = self.in_order(self.kv, row)[indices].astype(np.float64)
        logits = 0.125 * self.attention_q[row].astype(np.float64) @ kv.T
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def expected_attention(self, row: int, indices: list[int]) -> Any:
        kv = self.in_order(self.kv, row)[indices].astype(np.float64)
        return self.expected_weights(row, indices) @ kv[:, : self.LATENT]


@pytest.fixture
def problem(context: ic.Context) -> Problem:
    return Problem(context)


rows_of = Host().rows
