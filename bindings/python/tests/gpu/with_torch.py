# SPDX-License-Identifier: Apache-2.0
"""Tensors of PyTorch in and out, on the GPU that it uses (INDEXCACHE_TEST_BACKEND=cuda) or on the CPU: no copy is made,
streams are torch's own. Named so that pytest runs it only where it is asked to: torch is not needed otherwise."""

import os
from typing import Any

import indexcache as ic
import pytest
import torch

CUDA = os.environ.get("INDEXCACHE_TEST_BACKEND") == "cuda"
DEVICE = "cuda" if CUDA else "cpu"
H, D, K, HEADS, LATENT, ROPE, KEYS = 4, 64, 16, 2, 64, 16, 500
SCALE = 0.1


@pytest.fixture
def context() -> ic.Context:
    return ic.Context(DEVICE)


def some(*shape: int, seed: int = 0, dtype: Any = torch.float32) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(DEVICE, dtype)


def current() -> Any:
    """The stream that torch itself would use now."""
    return torch.cuda.current_stream() if CUDA else None


def aligned(size: int) -> Any:
    """A workspace. On a GPU torch's memory is aligned as it must be."""
    memory = torch.empty(size if CUDA else size + 256, dtype=torch.uint8, device=DEVICE)
    return memory if CUDA else memory[-memory.data_ptr() % 256 :]


class Decode:
    """One row over one sequence; layers FS with attention."""

    def __init__(self, context: ic.Context, dtype: Any = torch.float32) -> None:
        name = str(dtype).removeprefix("torch.")
        self.indexer = ic.Indexer(context, num_heads=H, head_dim=D, dtype=dtype)
        attention = ic.Attention(context, num_heads=HEADS, d_latent=LATENT, d_rope=ROPE, kv_dtype=name, q_dtype=name,
                                 softmax_scale=SCALE)  # fmt: skip
        self.cache = ic.Cache(context, schedule=ic.Schedule(2, pattern="FS"), indexer=self.indexer,
                              topk=ic.TopK(context, K), attention=attention, max_rows=2)  # fmt: skip
        self.q, self.w = some(2, H, D, seed=1, dtype=dtype), some(2, H, seed=2)
        self.keys = some(KEYS, D, seed=3, dtype=dtype)
        self.attention_q = some(2, HEADS, LATENT + ROPE, seed=4, dtype=dtype)
        self.kv = some(KEYS, LATENT + ROPE, seed=5, dtype=dtype)
        self.out = torch.zeros(2, HEADS, LATENT, device=DEVICE, dtype=dtype)
        self.key_end = torch.tensor([KEYS, 100], dtype=torch.int32, device=DEVICE)
        self.workspace = aligned(self.cache.forward_workspace_size(2, KEYS))
        self.batch = ic.Batch(context, key_end=self.key_end, max_key_end=KEYS, stream=current())

    def full(self, **changes: Any) -> ic.LayerCall:
        given = {
            "queries": ic.Queries(self.q, self.w),
            "keys": ic.Pool(self.keys, "contiguous"),
            "attention": self.attend(),
            "workspace": self.workspace,
            "stream": current(),
        }
        return self.cache.layer(0, **(given | changes))

    def attend(self) -> ic.AttentionInputs:
        return ic.AttentionInputs(self.attention_q, ic.Pool(self.kv, "contiguous"), self.out)

    def expected(self) -> tuple[list[list[int]], Any]:
        scores = torch.relu(self.q.double() @ self.keys.double().T)
        scores = (scores * self.w.double()[:, :, None]).sum(1)
        chosen, outs = [], []
        for row, end in enumerate(self.key_end.tolist()):
            best = scores[row, :end].topk(K).indices.sort().values
            kv = self.kv[best].double()
            weights = torch.softmax(SCALE * self.attention_q[row].double() @ kv.T, dim=1)
            chosen.append(best.tolist())
            outs.append(weights @ kv[:, :LATENT])
        return chosen, torch.stack(outs)


def rows_of(view: ic.IndexView) -> list[list[int]]:
    indices, lengths = torch.from_dlpack(view.indices), torch.from_dlpack(view.lengths)
    assert indices.data_ptr() == view.indices.pointer and indices.device.type == DEVICE  # no copy
    return [row[:length].tolist() for row, length in zip(indices, lengths)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_tensors_in_and_out(context: ic.Context, dtype: Any) -> None:
    decode = Decode(context, dtype)
    full, shared = decode.full(), decode.cache.layer(1, attention=decode.attend(), workspace=decode.workspace)
    decode.cache.begin(decode.batch)
    indices, out = decode.expected()
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for call in (full, shared):
        decode.out.fill_(float("nan"))
        view = call(current())
        assert rows_of(view) == indices
        torch.testing.assert_close(decode.out.double(), out, rtol=tolerance, atol=tolerance)
    assert decode.cache.faults(stream=current()) == ic.Fault(0)


def test_offset_and_row_stride_are_honoured(context: ic.Context) -> None:
    decode = Decode(context)
    indices, _ = decode.expected()
    wide = torch.zeros(3, H * D + 8, device=DEVICE)
    wide[1:, 4 : 4 + H * D] = decode.q.reshape(2, -1)
    q = wide[1:, 4 : 4 + H * D].unflatten(1, (H, D))
    assert q.storage_offset() and q.stride(0) == H * D + 8
    decode.cache.begin(decode.batch)
    assert rows_of(decode.full(queries=ic.Queries(q, decode.w))()) == indices
    with pytest.raises(ic.ArrayError, match="dense behind dimension 0"):
        decode.full(queries=ic.Queries(decode.q.transpose(1, 2).contiguous().transpose(1, 2), decode.w))
    with pytest.raises(ic.ArrayError, match="a stride of 0 bytes"):
        decode.full(queries=ic.Queries(decode.q[:1].expand(2, H, D), decode.w))


def test_fp8_keys_by_their_bits_and_by_name(context: ic.Context) -> None:
    indexer = ic.Indexer(context, num_heads=1, head_dim=32, dtype=torch.float8_e4m3fn)
    pages = torch.zeros(2, 16 * indexer.info.key_bytes, dtype=torch.uint8, device=DEVICE)
    keys, slots = torch.full((1, 32), 448.0, device=DEVICE), torch.tensor([16], device=DEVICE)
    pool = ic.Pool(pages, "paged")
    indexer.prepare_keys(keys, pool, slots, stream=current())
    q = torch.full((1, 1, 32), 2.0, device=DEVICE).to(torch.float8_e4m3fn)
    ones = torch.ones(1, 1, device=DEVICE)
    end = torch.tensor([1], dtype=torch.int32, device=DEVICE)
    table = ic.BlockTable(torch.tensor([[1]], dtype=torch.int32, device=DEVICE), 16)
    batch = ic.Batch(context, key_end=end, max_key_end=1, block_tables=[table], stream=current())
    workspace = aligned(indexer.scores_workspace_size(1, 1))
    for given in (q, q.view(torch.uint8)):
        out = torch.zeros(1, 1, device=DEVICE)
        indexer.scores(batch, ic.Queries(given, ones, ones), pool, out, workspace=workspace, stream=current())
        assert out.item() == 2 * 448 * 32


def test_what_does_not_fit_is_refused(context: ic.Context) -> None:
    decode = Decode(context)
    for q, words in (
        (decode.q.double(), "64 bits"),
        (decode.q.half(), "queries.q has elements of type f16; needed: f32"),
        (decode.q[:, :3], r"queries.q has the shape \[2, 3, 64\]"),
    ):
        with pytest.raises(ic.ArrayError, match=words):
            decode.full(queries=ic.Queries(q, decode.w))
    with pytest.raises(ic.ArrayError, match="queries.q is not given by its owner: .*gradient"):
        decode.full(queries=ic.Queries(decode.q.clone().requires_grad_(), decode.w))
    if CUDA:
        with pytest.raises(ic.ArrayError, match="queries.w is on cpu; needed: cuda:0"):
            decode.full(queries=ic.Queries(decode.q, decode.w.cpu()))
        with pytest.raises(ic.ArrayError, match="key_end is on cuda:0; needed: cpu"):
            ic.Batch(ic.Context("cpu"), key_end=decode.key_end, max_key_end=KEYS)


def test_results_live_as_long_as_tensors_of_them(context: ic.Context) -> None:
    decode = Decode(context)
    expected, _ = decode.expected()
    decode.cache.begin(decode.batch)
    indices = torch.from_dlpack(decode.full()().indices)
    decode.cache.close()
    del decode
    assert indices[0, :K].tolist() == expected[0]


if CUDA:

    def test_work_on_side_streams_needs_no_waiting_between() -> None:
        """What torch enqueues before and behind, on the same stream, is enough order."""
        context = ic.Context("cuda")
        decode = Decode(context)
        indices, expected = decode.expected()
        right, slow = decode.q.clone(), torch.randn(4096, 4096, device="cuda")
        decode.q.zero_()
        torch.cuda.synchronize()
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(20):
                slow = slow @ slow.T / 4096  # keeps the stream busy for a while
            decode.q.copy_(right)
            decode.cache.begin(decode.batch)
            view = decode.full()(torch.cuda.current_stream())
            found = torch.from_dlpack(view.indices).clone()
            out = decode.out * 1
        torch.cuda.current_stream().wait_stream(side)
        assert found[0, :K].tolist() == indices[0] and found[1, :K].tolist() == indices[1]
        torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)

    def test_what_another_stream_still_writes_is_waited_for() -> None:
        """The call is built for one stream while the arrays' own, torch's current one, has yet to write them."""
        context = ic.Context("cuda")
        decode = Decode(context)
        indices, _ = decode.expected()
        right, slow = decode.q.clone(), torch.randn(4096, 4096, device="cuda")
        decode.q.zero_()
        torch.cuda.synchronize()
        producer, consumer = torch.cuda.Stream(), torch.cuda.Stream()
        with torch.cuda.stream(producer):
            for _ in range(20):
                slow = slow @ slow.T / 4096
            decode.q.copy_(right)
            full = decode.full(stream=consumer)
        decode.cache.begin(decode.batch)
        view = full()
        assert view.stream == consumer.cuda_stream
        consumer.synchronize()
        assert rows_of(view) == indices

    def test_layers_in_a_graph() -> None:
        """Captured by torch.cuda.graph, replayed with other contents of the same tensors."""
        context = ic.Context("cuda")
        decode = Decode(context)
        side = torch.cuda.Stream()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(side):
            full = decode.full()
        shared = decode.cache.layer(1, attention=decode.attend(), workspace=decode.workspace)
        decode.batch.capture_id = 1
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=side):
            decode.cache.begin(decode.batch)
            full(torch.cuda.current_stream())
            view = shared(torch.cuda.current_stream())
        for seed in (10, 20):
            decode.q.copy_(some(2, H, D, seed=seed))
            decode.attention_q.copy_(some(2, HEADS, LATENT + ROPE, seed=seed + 1))
            indices, expected = decode.expected()
            decode.out.zero_()
            torch.cuda.synchronize()
            graph.replay()
            torch.cuda.synchronize()
            assert rows_of(view) == indices
            torch.testing.assert_close(decode.out.double(), expected, rtol=1e-5, atol=1e-5)
