# SPDX-License-Identifier: Apache-2.0
"""Every operation once, against numpy."""

import array
import ctypes
import json
import threading

import indexcache as ic
import numpy as np
import pytest
from conftest import Problem, rows_of


def test_a_forward_over_full_and_shared_layers(problem: Problem) -> None:
    calls = [problem.full(layer, attention=problem.attention_inputs()) for layer in range(4)]
    problem.cache.begin(problem.batch)
    for layer, call in enumerate(calls):
        problem.out[:] = np.nan
        view = call()
        assert (view.source_layer, view.generation, view.num_rows, view.k) == (layer // 2 * 2, 1, 2, 8)
        assert view.numerics_id == problem.indexer.info.numerics_id
        for row, indices in enumerate(rows_of(view)):
            assert indices == problem.expected_indices(row)
            np.testing.assert_allclose(problem.out[row], problem.expected_attention(row, indices), rtol=1e-5, atol=1e-6)
    assert np.isfinite(problem.lse).all()
    assert problem.cache.faults() == ic.Fault(0)


def test_parts_and_padded_rows(problem: Problem) -> None:
    problem.key_end[1] = 0
    first = problem.full(row_count=1)
    second = problem.full(row_begin=1, queries=ic.Queries(problem.q[1:], problem.w[1:]))
    problem.cache.begin(problem.batch)
    assert rows_of(first()) == [problem.expected_indices(0)]
    with pytest.raises(ic.StaleError) as caught:
        problem.cache.layer(1)()
    assert caught.value.status == ic.Status.STALE_INCOMPLETE
    assert rows_of(second()) == [[]]
    assert rows_of(problem.cache.layer(1)()) == [problem.expected_indices(0), []]
    with pytest.raises(ic.StateError) as overlap:
        first()
        first()
    assert overlap.value.status == ic.Status.PART_OVERLAP


def test_new_keys_are_written_before_they_are_scored(problem: Problem) -> None:
    keys = problem.keys.copy()
    positions = np.array([3, 50, 70])
    slots = problem.pages[0][positions // problem.PAGE].astype(np.int64) * problem.PAGE + positions % problem.PAGE
    fresh = keys.reshape(-1, problem.D)[slots]
    problem.keys.reshape(-1, problem.D)[slots] = 0
    problem.cache.begin(problem.batch)
    view = problem.full(new_keys=ic.NewKeys(fresh, slots))()
    assert (problem.keys == keys).all()
    assert rows_of(view)[0] == problem.expected_indices(0)


def test_scores(problem: Problem) -> None:
    out = np.full((2, 100), 7, np.float32)[:, :96]  # a stride that is not dense
    workspace = ic.empty(problem.indexer.scores_workspace_size(2, 96))
    arguments = (problem.batch, problem.queries(), problem.pool(), out)
    problem.indexer.scores(*arguments, workspace=workspace)
    for row in range(2):
        end = problem.key_end[row]
        np.testing.assert_allclose(out[row, :end], problem.expected_scores(row), rtol=1e-4, atol=1e-4)
        assert (out[row, end:] == 7).all()
    problem.indexer.scores(*arguments, workspace=workspace, clean=True)
    assert (out[1, problem.key_end[1] :] == -np.inf).all()
    window = np.zeros((1, 10), np.float32)
    problem.indexer.scores(problem.batch, ic.Queries(problem.q[1:], problem.w[1:]), problem.pool(), window, row_begin=1,
                           first_column=5, workspace=workspace)  # fmt: skip
    assert (window[0] == out[1, 5:15]).all()


def test_select_and_merge(context: ic.Context) -> None:
    scores = np.array([[1, 4, 0, 4, 2, 9], [3, 3, 3, 3, 3, 3]], np.float32)
    topk = ic.TopK(context, 2, order="score")
    assert topk.k_padded == 128

    def select(columns: slice, begin: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        part = scores[:, columns]
        indices, lengths = np.zeros((2, 128), np.int32), np.zeros(2, np.int32)
        best = np.zeros((2, 128), np.float32)
        workspace = ic.empty(topk.select_workspace_size(2, part.shape[1]))
        end = np.full(2, part.shape[1], np.int32)
        topk.select(part, end, indices, lengths, begin=begin, selected_scores=best, workspace=workspace)
        return indices, best, lengths

    indices, best, lengths = select(slice(0, 6))
    assert indices[:, :3].tolist() == [[5, 1, -1], [0, 1, -1]] and lengths.tolist() == [2, 2]
    assert best[:, :2].tolist() == [[9, 4], [3, 3]] and (best[:, 2:] == -np.inf).all()
    assert select(slice(0, 6), np.array([4, 5], np.int32))[0][:, :3].tolist() == [[5, 4, -1], [5, -1, -1]]

    halves = [select(slice(0, 3)), select(slice(3, 6))]
    halves[1][0][halves[1][0] >= 0] += 3
    merged, count = np.zeros((2, 128), np.int32), np.zeros(2, np.int32)
    merge_in = [np.stack(part) for part in zip(*halves)]
    topk.merge(merge_in[0], merge_in[1], merge_in[2], merged, count,
               workspace=ic.empty(topk.merge_workspace_size(2, 2)))  # fmt: skip
    assert merged[:, :3].tolist() == indices[:, :3].tolist() and count.tolist() == [2, 2]


def test_preparation(problem: Problem) -> None:
    """Against rotation, LayerNorm and Hadamard by numpy."""
    random = np.random.default_rng(3)
    angles = np.arange(100)[:, None] * (0.1 / np.arange(1, 9))
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    positions = np.array([5, 77], np.int32)
    rotation = ic.Rotation(positions, cos, sin, interleaved=True)
    hadamard = np.array([[1.0]])
    while len(hadamard) < problem.D:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]]) / np.sqrt(2)

    def rotate(x: np.ndarray) -> np.ndarray:
        x = x.astype(np.float64)
        c, s = cos[positions].reshape(2, *[1] * (x.ndim - 2), 8), sin[positions].reshape(2, *[1] * (x.ndim - 2), 8)
        even, odd = x[..., 0:16:2].copy(), x[..., 1:16:2].copy()
        x[..., 0:16:2], x[..., 1:16:2] = even * c - odd * s, even * s + odd * c
        return x

    x = random.standard_normal((2, problem.H, problem.D), np.float32)
    out = np.zeros_like(x)
    problem.indexer.prepare_queries(x, out, rotation=rotation, hadamard=True)
    np.testing.assert_allclose(out, rotate(x) @ hadamard, rtol=1e-5, atol=1e-5)

    k = random.standard_normal((2, 40), np.float32)[:, : problem.D]  # a row stride
    weight, bias = random.standard_normal((2, problem.D), np.float32)
    slots = np.array([17, -1], np.int64)
    before = problem.keys.copy()
    problem.indexer.prepare_keys(k, problem.pool(), slots, norm_weight=weight, norm_bias=bias, norm_eps=1e-6,
                                 rotation=rotation)  # fmt: skip
    normed = (k - k.mean(axis=1, keepdims=True)) / np.sqrt(k.var(axis=1, keepdims=True) + 1e-6) * weight + bias
    np.testing.assert_allclose(problem.keys.reshape(-1, problem.D)[17], rotate(normed)[0], rtol=1e-4, atol=1e-5)
    assert (np.delete(problem.keys.reshape(-1, problem.D), 17, axis=0)
            == np.delete(before.reshape(-1, problem.D), 17, axis=0)).all()  # fmt: skip
    with pytest.raises(ic.ArrayError, match="page_tokens is 32; the pool's pages hold 16"):
        problem.indexer.prepare_keys(k, problem.pool(), slots, page_tokens=32)


def test_fp8_pages_and_scales(context: ic.Context) -> None:
    """e4m3 from prepare to scores: 1.0 is 0x38."""
    indexer = ic.Indexer(context, num_heads=1, head_dim=32, dtype="e4m3")
    assert indexer.info.key_bytes == 36
    pages = np.zeros((2, 16 * 36), np.uint8)
    pool = ic.Pool(pages, "paged")
    keys = np.full((1, 32), 3 * 448, np.float32)
    indexer.prepare_keys(keys, pool, np.array([16 + 3], np.int64))
    assert (pages[1, 3 * 32 : 4 * 32] == 0x7E).all()  # 448, the largest
    assert pages[1, 16 * 32 :].view(np.float32)[3] == 3.0
    assert (pages[0] == 0).all()
    q, scale = np.zeros((1, 1, 32), np.uint8), np.zeros((1, 1), np.float32)
    indexer.prepare_queries(np.full((1, 1, 32), 2 * 448, np.float32), q, scale_out=scale)
    assert (q == 0x7E).all() and scale[0, 0] == 2.0
    batch = ic.Batch(context, key_end=np.array([4], np.int32), max_key_end=4,
                     block_tables=[ic.BlockTable(np.array([[1]], np.int32), 16)])  # fmt: skip
    out = np.zeros((1, 4), np.float32)
    queries = ic.Queries(q, np.ones((1, 1), np.float32), scale)
    indexer.scores(batch, queries, pool, out, workspace=ic.empty(indexer.scores_workspace_size(1, 4)))
    assert out.tolist() == [[0, 0, 0, 2 * 3 * 32 * 448 * 448]]
    with pytest.raises(ic.ArrayError, match=r"keys.data has 577 elements of u8 .* needed: page_tokens \* 36"):
        indexer.scores(batch, queries, ic.Pool(np.zeros((2, 577), np.uint8), "paged"), out)


def test_attention_alone_over_own_indices_and_over_slots(problem: Problem) -> None:
    indices = np.full((2, 128), -1, np.int32)
    indices[0, :3], indices[1, :2] = [1, 40, 89], [0, 7]
    view = ic.IndexView(problem.context, indices, np.array([3, 2], np.int32), k=3)
    assert (view.source_layer, view.generation, view.kind) == (-1, 0, ic.IndexKind.LOGICAL)
    workspace = ic.empty(problem.attention.workspace_size(2, 128))
    problem.attention.run(problem.batch, view, problem.attention_inputs(), workspace=workspace)
    for row, chosen in ((0, [1, 40, 89]), (1, [0, 7])):
        np.testing.assert_allclose(problem.out[row], problem.expected_attention(row, chosen), rtol=1e-5, atol=1e-6)

    problem.cache.begin(problem.batch)
    problem.full()()
    slots, lengths = np.zeros((2, 128), np.int32), np.zeros(2, np.int32)
    mapped = problem.cache.remap(0, slots, lengths)
    assert mapped.kind == ic.IndexKind.SLOT and np.shares_memory(np.asarray(mapped.indices), slots)
    for row in range(2):
        best = np.array(problem.expected_indices(row))
        pages = problem.pages[row][best // problem.PAGE]
        assert slots[row, :8].tolist() == (pages * problem.PAGE + best % problem.PAGE).tolist()
    flat = ic.Pool(problem.kv.reshape(-1, problem.LATENT + problem.ROPE), "contiguous")
    inputs = ic.AttentionInputs(problem.attention_q, flat, problem.out)
    problem.attention.run(None, mapped, inputs, workspace=workspace)
    for row in range(2):
        expected = problem.expected_attention(row, problem.expected_indices(row))
        np.testing.assert_allclose(problem.out[row], expected, rtol=1e-5, atol=1e-6)


def test_export_import_and_overlap(context: ic.Context) -> None:
    problem = Problem(context, scores=True)
    problem.cache.begin(problem.batch)
    view = problem.full()()
    best = np.asarray(view.scores)
    assert (np.sort(best[0, :8]) == np.sort(np.sort(best[0, :8])[::-1])).all() and np.isfinite(best[0, :8]).all()
    block = problem.cache.export_block(0, scores=True)
    assert block.nbytes == problem.cache.export_size(2, scores=True)
    taken = bytes(block.memoryview())
    assert taken[:4] == b"ICIX"
    own = np.zeros(block.nbytes, np.uint8)
    problem.cache.export_block(0, own, scores=True)
    assert own.tobytes() == taken

    other = Problem(context, scores=True)
    other.cache.begin(other.batch)
    header = other.cache.import_block(taken)
    assert (header.source_layer, header.num_rows, header.k) == (0, 2, 8)
    assert header.numerics_id == other.indexer.info.numerics_id
    assert header.schedule_hash == other.schedule.info.hash
    imported = other.cache.view(0)
    assert rows_of(imported) == rows_of(view)
    both, recall, jaccard = np.zeros(2, np.int32), np.zeros(2, np.float32), np.zeros(2, np.float32)
    ic.index_overlap(context, view, imported, intersection=both, recall=recall, jaccard=jaccard)
    assert both.tolist() == [8, 8] and recall.tolist() == [1, 1] and jaccard.tolist() == [1, 1]

    another = Problem(context, pattern="FSSS", scores=True)
    another.cache.begin(another.batch)
    with pytest.raises(ic.StateError) as caught:
        another.cache.import_block(taken)
    assert caught.value.status == ic.Status.SCHEDULE_HASH
    another.cache.import_block(taken, any_schedule=True)
    with pytest.raises(ic.ArgumentError) as caught_parse:
        another.cache.import_block(b"x" * 64)
    assert caught_parse.value.status == ic.Status.PARSE


def test_attention_mass_and_how_much_of_it_other_indices_keep(problem: Problem) -> None:
    own = np.array([[1, 40, 89, -1], [0, 7, -1, -1]], np.int32)
    view = ic.IndexView(problem.context, own, np.array([3, 2], np.int32))
    kv = ic.Pool(problem.kv, "paged")
    mass = np.full((2, 6), -1, np.float32)
    inputs = ic.MassInputs(problem.attention_q, kv, mass[:, :4])
    workspace = ic.empty(problem.attention.mass_workspace_size(2, 4))
    problem.attention.mass(problem.batch, view, inputs, workspace=workspace)
    for row, chosen in ((0, [1, 40, 89]), (1, [0, 7])):
        expected = problem.expected_weights(row, chosen).mean(axis=0)
        np.testing.assert_allclose(mass[row, : len(chosen)], expected, rtol=1e-5)
        assert (mass[row, len(chosen) : 4] == 0).all() and (mass[row, 4:] == -1).all()

    other = np.array([[40, 89], [3, -1]], np.int32)
    kept = np.zeros(2, np.float32)
    others = ic.IndexView(problem.context, other, np.array([2, 1], np.int32))
    ic.index_overlap(problem.context, view, others, mass=mass[:, :4], mass_recall=kept)
    np.testing.assert_allclose(kept, [mass[0, 1] + mass[0, 2], 0], rtol=1e-5)
    with pytest.raises(ic.ArgumentError, match=r"out->mass is NULL; out->mass_recall needs it"):
        ic.index_overlap(problem.context, view, others, mass_recall=kept)

    sink = np.full(problem.HEADS, 100, np.float32)  # takes all
    problem.attention.mass(problem.batch, view, ic.MassInputs(problem.attention_q, kv, mass[:, :4], sink),
                           workspace=workspace)  # fmt: skip
    assert (mass[:, :4] < 1e-20).all()
    with pytest.raises(ic.ArrayError, match=r"the mass arrays are for 1 rows; there are indices of 2"):
        problem.attention.mass(problem.batch, view, ic.MassInputs(problem.attention_q[:1], kv, mass[:, :4]))
    with pytest.raises(ic.ArrayError, match=r"mass\.mass"):
        problem.attention.mass(problem.batch, view, ic.MassInputs(problem.attention_q, kv, mass))


def test_draft_steps_keep_and_compact(problem: Problem) -> None:
    problem.cache.begin(problem.batch)
    problem.full()()
    assert not problem.batch.keep
    problem.batch.keep = True
    problem.batch.num_rows = 1
    problem.cache.begin(problem.batch)
    with pytest.raises(ic.StaleError) as caught:
        problem.cache.layer(1)()
    assert caught.value.status == ic.Status.STALE_ROWS
    workspace = ic.empty(problem.cache.compact_workspace_size(2))
    problem.cache.compact(0, np.array([1], np.int32), workspace=workspace)
    assert rows_of(problem.cache.layer(1)()) == [problem.expected_indices(1)]


def test_a_forced_mode_and_several_slots(context: ic.Context) -> None:
    problem = Problem(context, num_slots=2)
    problem.cache.begin(problem.batch)
    problem.full()()
    assert problem.full(1, mode="full")().source_layer == 1
    assert problem.full(2)().source_layer == 2
    assert problem.cache.layer(2, mode=ic.LayerMode.SHARED)().source_layer in (1, 2)


def test_memory_of_the_caller(context: ic.Context) -> None:
    problem = Problem(context)
    arguments = {name: getattr(problem, name) for name in ("schedule", "indexer", "topk", "attention")}
    size = ic.Cache.memory_size(**arguments, max_rows=4)
    memory = ic.empty(size)
    with ic.Cache(context, **arguments, max_rows=4, memory=memory) as cache:
        cache.begin(problem.batch)
        view = cache.layer(0, queries=problem.queries(), keys=problem.pool(), workspace=problem.workspace)()
        assert memory.pointer <= view.indices.pointer < memory.pointer + size
    with pytest.raises(ic.ArgumentError) as caught:
        ic.Cache(context, **arguments, max_rows=4, memory=ic.empty(size - 256))
    assert caught.value.status == ic.Status.WORKSPACE_TOO_SMALL


def test_schedule_queries() -> None:
    schedule = ic.Schedule(6, pattern="FSSFSS", num_mtp_layers=1)
    assert (schedule.info.num_full, schedule.info.num_shared, schedule.info.num_key_slots) == (2, 4, 3)
    layer = schedule.layer(4)
    assert (layer.mode, layer.source_layer, layer.is_mtp) == (ic.LayerMode.SHARED, 3, 0)
    assert schedule.layer(6).is_mtp == 1
    assert [schedule.cut(first) for first in (1, 3, 5)] == [0, None, 3]
    assert [schedule.cache_slot(layer, 2) for layer in (0, 3)] == [0, 1]
    assert "layer" in schedule.explain()
    assert json.loads(ic.Schedule(3, pattern="FSS").export("vllm"))["index_topk_pattern"] == "FSS"
    assert ic.Schedule(4, indexer_layers=[0, 2]).pattern == "FSFS"


def test_a_cache_tells_about_itself(problem: Problem) -> None:
    info = problem.cache.info
    assert (info.num_rows, info.max_rows, info.num_slots, info.k, info.row_stride) == (-1, 4, 1, 8, 128)
    problem.cache.begin(problem.batch)
    assert problem.cache.info.num_rows == 2 and problem.cache.info.generation == 1
    problem.cache.reset()
    with pytest.raises(ic.StateError) as caught:
        problem.cache.layer(1)()
    assert caught.value.status == ic.Status.NO_BATCH


def test_devices_and_build() -> None:
    assert ic.device_count("cpu") == 1
    caps = ic.device_caps(ic.Backend.CPU)
    assert caps.backend is ic.Backend.CPU and caps.max_k == 4096 and caps.name
    assert caps.indexer_dtypes >> ic.DType.F32 & 1
    assert ic.version() == tuple(int(part) for part in ic.build_info()["version"].split("."))
    assert ic.status_string(20).startswith("IC_ERROR_STALE")
    if ic.build_info()["cuda"] is None:
        with pytest.raises(ic.CudaError) as caught:
            ic.Context("cuda")
        assert caught.value.status == ic.Status.CUDA_NOT_BUILT


def test_every_isa_gives_the_same_bits(problem: Problem) -> None:
    expected = None
    for isa in ic.CpuIsa:
        if isa > ic.device_caps("cpu").cpu_isa:
            with pytest.raises(ic.UnsupportedError):
                ic.Context("cpu", cpu_isa=isa)
            continue
        own = Problem(ic.Context("cpu", cpu_isa=isa))
        out = np.zeros((2, 96), np.float32)
        workspace = ic.empty(own.indexer.scores_workspace_size(2, 96))
        own.indexer.scores(own.batch, own.queries(), own.pool(), out, workspace=workspace)
        expected = out.tobytes() if expected is None else expected
        assert out.tobytes() == expected


def test_the_engines_own_allocator_and_parallel_for() -> None:
    buffers: dict[int, ic.Array] = {}
    freed: list[tuple[int, int]] = []

    def alloc(size: int) -> int:
        memory = ic.empty(size)
        buffers[memory.pointer] = memory
        return memory.pointer

    counts: list[int] = []

    def parallel_for(_user: int, count: int, task: int, data: int) -> None:
        run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(task)
        counts.append(count)
        for index in range(count):
            run(data, index)

    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)(parallel_for)
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address
    context = ic.Context("cpu", alloc=alloc, free=lambda pointer, size: freed.append((pointer, size)), num_threads=2,
                         parallel_for=(address, 0))  # fmt: skip
    problem = Problem(context)
    assert buffers
    problem.cache.begin(problem.batch)
    assert rows_of(problem.full()()) == [problem.expected_indices(row) for row in range(2)]
    rows = 64  # enough work to be divided
    many = ic.Batch(context, key_end=np.full(rows, 4096, np.int32), max_key_end=4096)
    queries = ic.Queries(np.ones((rows, 4, 32), np.float32), np.ones((rows, 4), np.float32))
    out, keys = np.zeros((rows, 4096), np.float32), ic.Pool(np.ones((4096, 32), np.float32), "contiguous")
    workspace = ic.empty(problem.indexer.scores_workspace_size(rows, 4096))
    problem.indexer.scores(many, queries, keys, out, workspace=workspace)
    assert (out == 4 * 32).all()
    assert counts
    problem.cache.close()
    assert {pointer for pointer, _ in freed} == set(buffers)


def test_an_allocator_that_fails_is_out_of_memory() -> None:
    context = ic.Context("cpu", alloc=lambda size: 0, free=lambda pointer, size: None)
    with pytest.raises(ic.OutOfMemoryError):
        Problem(context)


def test_handles_are_used_by_many_threads_at_once(problem: Problem) -> None:
    """Immutable handles are shared; every thread has its own cache. Errors stay with their thread."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            cache = ic.Cache(problem.context, schedule=problem.schedule, indexer=problem.indexer, topk=problem.topk,
                             max_rows=2)  # fmt: skip
            workspace = ic.empty(cache.forward_workspace_size(2, 96))
            full = cache.layer(0, queries=problem.queries(), keys=problem.pool(), workspace=workspace)
            shared = cache.layer(1)
            for _ in range(50):
                cache.begin(problem.batch)
                with pytest.raises(ic.StaleError):
                    shared()
                with pytest.raises(ic.ArgumentError, match=f"layer.*{1000 + number}"):
                    problem.schedule.layer(1000 + number)
                full()
                assert rows_of(shared()) == expected
        except BaseException as error:
            failures.append(error)

    expected = [problem.expected_indices(row) for row in range(2)]
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def test_without_numpy_arrays(context: ic.Context) -> None:
    """The buffer protocol alone: array.array, memoryview, bytes."""
    topk = ic.TopK(context, 2)
    scores = memoryview(array.array("f", [1, 4, 0, 4, 2])).cast("B").cast("f", (1, 5))
    indices, lengths = ic.empty((1, 128), "i32"), array.array("i", [-1])
    workspace = ic.empty(topk.select_workspace_size(1, 5))
    topk.select(scores, array.array("i", [5]), indices, lengths, workspace=workspace)
    assert indices.tolist()[0][:3] == [1, 3, -1] and lengths[0] == 2
