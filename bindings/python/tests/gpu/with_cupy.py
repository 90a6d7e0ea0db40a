# SPDX-License-Identifier: Apache-2.0
"""Arrays of CuPy in and out, by both of its protocols, on streams of its own. Named so that pytest runs it only where it
is asked to: CuPy is not needed otherwise."""

from typing import Any

import cupy
import indexcache as ic
import numpy as np
import pytest

H, D, K, KEYS = 4, 64, 16, 500


class Interface:
    """An array that has __cuda_array_interface__ alone."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__


class Problem:
    """Two rows over one sequence, one Full layer."""

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        self.context = ic.Context("cuda")
        self.indexer = ic.Indexer(self.context, num_heads=H, head_dim=D, dtype=cupy.float32)
        self.cache = ic.Cache(self.context, schedule=ic.Schedule(1, pattern="F"), indexer=self.indexer,
                              topk=ic.TopK(self.context, K), max_rows=2)  # fmt: skip
        self.host_q = random.standard_normal((2, H, D), np.float32)
        self.host_w = random.standard_normal((2, H), np.float32)
        self.host_keys = random.standard_normal((KEYS, D), np.float32)
        self.q, self.w, self.keys = map(cupy.asarray, (self.host_q, self.host_w, self.host_keys))
        self.key_end = cupy.array([KEYS, 100], cupy.int32)
        self.workspace = cupy.empty(self.cache.forward_workspace_size(2, KEYS), cupy.uint8)
        cupy.cuda.Device().synchronize()

    def call(self, q: Any, stream: Any) -> ic.LayerCall:
        self.cache.begin(ic.Batch(self.context, key_end=self.key_end, max_key_end=KEYS, stream=stream))
        return self.cache.layer(0, queries=ic.Queries(q, self.w), keys=ic.Pool(self.keys, "contiguous"),
                                workspace=self.workspace, stream=stream)  # fmt: skip

    def expected(self) -> list[list[int]]:
        products = np.maximum(self.host_q.astype(np.float64) @ self.host_keys.T.astype(np.float64), 0)
        scores = (products * self.host_w[:, :, None]).sum(axis=1)
        return [sorted(np.argsort(-row[:end], kind="stable")[:K].tolist()) for row, end in zip(scores, (KEYS, 100))]


@pytest.mark.parametrize("protocol", [lambda array: array, Interface], ids=["dlpack", "interface"])
def test_arrays_in_and_out(protocol: Any) -> None:
    problem, stream = Problem(), cupy.cuda.Stream(non_blocking=True)
    view = problem.call(protocol(problem.q), stream)()
    assert view.stream == stream.ptr
    with stream:
        taken = (cupy.asarray(view.indices), cupy.from_dlpack(view.indices))
        for indices in taken:
            assert indices.data.ptr == view.indices.pointer  # no copy
            assert indices[:, :K].get(stream=stream).tolist() == problem.expected()
        assert cupy.asarray(view.lengths).get(stream=stream).tolist() == [K, K]


def test_what_another_stream_still_writes_is_waited_for() -> None:
    problem = Problem()
    producer, consumer = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    right, slow = problem.q.copy(), cupy.ones((4096, 4096), cupy.float32)
    for protocol in (lambda array: array, Interface):
        problem.q.fill(0)
        cupy.cuda.Device().synchronize()
        with producer:
            for _ in range(20):
                slow = slow @ slow / 4096
            problem.q[...] = right
            call = problem.call(protocol(problem.q), consumer)
        view = call()
        consumer.synchronize()
        assert cupy.asarray(view.indices)[:, :K].get().tolist() == problem.expected()


def test_offset_and_strides_are_honoured_or_refused() -> None:
    problem, stream = Problem(), cupy.cuda.Stream(non_blocking=True)
    wide = cupy.zeros((3, H + 1, D), cupy.float32)
    wide[1:, 1:] = problem.q
    cupy.cuda.Device().synchronize()
    for protocol in (lambda array: array, Interface):
        view = problem.call(protocol(wide[1:, 1:]), stream)()
        stream.synchronize()
        assert cupy.asarray(view.indices)[:, :K].get().tolist() == problem.expected()
        with pytest.raises(ic.ArrayError, match="dense behind dimension 0"):
            problem.call(protocol(cupy.zeros((2, D, H), cupy.float32).transpose(0, 2, 1)), stream)
        with pytest.raises(ic.ArrayError, match="64 bits|<f8"):
            problem.call(protocol(problem.q.astype(cupy.float64)), stream)


def test_host_arrays_are_refused() -> None:
    problem = Problem()
    with pytest.raises(ic.ArrayError, match="queries.q is on cpu; needed: cuda:0"):
        problem.call(problem.host_q, None)
