# SPDX-License-Identifier: Apache-2.0
"""On the backend that the tests are told to run on: results, and what is refused. By the driver's memory alone on a GPU,
half of the arrays through DLPack and half through __cuda_array_interface__."""

import re
from collections.abc import Callable
from typing import Any

import indexcache as ic
import numpy as np
import pytest
from conftest import Problem, rows_of
from memory import Host


@pytest.fixture
def problem(memory: Host) -> Problem:
    return Problem(memory.context(), memory=memory)


def test_scores_have_the_bits_of_the_cpu(memory: Host, context: ic.Context) -> None:
    found = []
    for problem in (Problem(context), Problem(memory.context(), memory=memory)):
        own = problem.memory
        out = np.full((2, 96), 7, np.float32)
        workspace = own.empty(problem.indexer.scores_workspace_size(2, 96))
        problem.indexer.scores(problem.batch, problem.queries(), problem.pool(), own.give(out), clean=True,
                               workspace=workspace, stream=own.stream)  # fmt: skip
        own.download()
        found.append(out)
    assert np.isneginf(found[0][1, 41:]).all()
    assert found[0].tobytes() == found[1].tobytes()


def test_full_and_shared_layers_with_attention(problem: Problem, context: ic.Context) -> None:
    memory, same = problem.memory, Problem(context)
    calls = [problem.full(layer, attention=problem.attention_inputs()) for layer in range(4)]
    problem.cache.begin(problem.batch)
    same.cache.begin(same.batch)
    for layer, call in enumerate(calls):
        problem.out[:] = np.nan
        memory.upload()
        view = call()
        memory.download()
        assert view.stream == (memory.stream or 0)  # runs where it was built for
        assert (view.source_layer, view.generation, view.num_rows, view.k) == (layer // 2 * 2, 1, 2, 8)
        assert memory.rows(view) == rows_of(same.full(layer)())
        for row, indices in enumerate(memory.rows(view)):
            assert indices == problem.expected_indices(row)
            np.testing.assert_allclose(problem.out[row], problem.expected_attention(row, indices), rtol=1e-5, atol=1e-5)
    assert np.isfinite(problem.lse).all()
    assert problem.cache.faults(stream=memory.stream) == ic.Fault(0)


def test_parts_and_new_keys(problem: Problem) -> None:
    memory = problem.memory
    first = problem.full(row_count=1)
    rest: dict[str, Any] = {"queries": ic.Queries(memory.give(problem.q[1:]), memory.give(problem.w[1:]))}
    slots = np.array([int(problem.pages[1, 0]) * problem.PAGE + 3, -1], np.int64)
    fresh = np.random.default_rng(1).standard_normal((2, problem.D), np.float32)
    second = problem.full(row_begin=1, new_keys=ic.NewKeys(memory.give(fresh), memory.give(slots)), **rest)
    problem.cache.begin(problem.batch)
    assert memory.rows(first()) == [problem.expected_indices(0)]
    view = second()
    memory.download()  # the pool has the new key
    assert (problem.keys.reshape(-1, problem.D)[slots[0]] == fresh[0]).all()
    assert memory.rows(view) == [problem.expected_indices(1)]
    with pytest.raises(ic.StateError) as caught:
        first()
    assert caught.value.status is ic.Status.PART_OVERLAP


def test_select_by_own_scores(memory: Host) -> None:
    context = memory.context()
    topk = ic.TopK(context, 2)
    scores = np.array([[1, 4, 0, 4, 2], [3, 3, 3, 3, 3]], np.float32)
    indices, lengths = np.zeros((2, 128), np.int32), np.zeros(2, np.int32)
    end = np.array([5, 1], np.int32)
    topk.select(memory.give(scores), memory.give(end), memory.give(indices), memory.give(lengths), stream=memory.stream,
                workspace=memory.empty(topk.select_workspace_size(2, 5)))  # fmt: skip
    memory.download()
    assert indices[:, :3].tolist() == [[1, 3, -1], [0, -1, -1]] and lengths.tolist() == [2, 1]


def test_a_block_goes_through_host_memory(problem: Problem) -> None:
    memory, stream = problem.memory, problem.memory.stream
    other = Problem(problem.context, memory=memory)
    problem.cache.begin(problem.batch)
    expected = memory.rows(problem.full()())
    block = bytes(problem.cache.export_block(0, stream=stream).memoryview())
    other.cache.begin(other.batch)
    header = other.cache.import_block(block, stream=stream)
    assert (header.source_layer, header.num_rows, header.k) == (0, 2, 8)
    view = other.cache.view(0)
    view.stream = stream or 0
    assert memory.rows(view) == expected
    recall = np.zeros(2, np.float32)
    ic.index_overlap(problem.context, problem.cache.view(0), view, recall=memory.give(recall), stream=stream)
    memory.download()
    assert recall.tolist() == [1, 1]
    with pytest.raises(ic.ArgumentError) as caught:
        other.cache.import_block(b"x" * 64, stream=stream)
    assert caught.value.status is ic.Status.PARSE


def test_rows_of_a_draft_are_kept(problem: Problem) -> None:
    memory, stream = problem.memory, problem.memory.stream
    problem.cache.begin(problem.batch)
    problem.full()()
    problem.batch.keep, problem.batch.num_rows = True, 1
    problem.cache.begin(problem.batch)
    workspace = memory.empty(problem.cache.compact_workspace_size(2))
    problem.cache.compact(0, memory.give(np.array([1], np.int32)), workspace=workspace, stream=stream)
    assert memory.rows(problem.cache.layer(1)(stream)) == [problem.expected_indices(1)]


def test_attention_mass(problem: Problem) -> None:
    memory, give, stream = problem.memory, problem.memory.give, problem.memory.stream
    problem.cache.begin(problem.batch)
    view = problem.full()()
    mass, kept = np.full((2, 8), -1, np.float32), np.zeros(2, np.float32)
    inputs = ic.MassInputs(give(problem.attention_q), ic.Pool(give(problem.kv), "paged"), give(mass))
    workspace = memory.empty(problem.attention.mass_workspace_size(2, 8))
    problem.attention.mass(problem.batch, view, inputs, workspace=workspace, stream=stream)
    ic.index_overlap(problem.context, view, view, mass=give(mass), mass_recall=give(kept), stream=stream)
    memory.download()
    for row in range(2):
        expected = problem.expected_weights(row, problem.expected_indices(row)).mean(axis=0)
        np.testing.assert_allclose(mass[row], expected, rtol=1e-4)
    np.testing.assert_allclose(kept, 1, rtol=1e-6)


# ---- what is refused ---------------------------------------------------------------------------------------------------


def test_creation_is_refused(memory: Host, context: ic.Context) -> None:
    with pytest.raises(ic.CudaError):
        ic.Context("cuda", device=1000)
    own = memory.context()
    with pytest.raises(ic.ArgumentError, match="5000"):
        ic.TopK(own, 5000)
    with pytest.raises(ic.ArgumentError, match="48"):
        ic.Indexer(own, num_heads=4, head_dim=48, dtype="f32")
    with pytest.raises(ic.UnsupportedError):
        ic.Indexer(own, num_heads=4, head_dim=32, dtype=ic.DType.FP4)
    problem = Problem(own, memory=memory)
    with pytest.raises(ic.ArgumentError) as caught:
        ic.Cache(own, schedule=problem.schedule, indexer=problem.indexer, topk=ic.TopK(context, 8), max_rows=1)
    assert caught.value.status is ic.Status.HANDLE_MISMATCH


def test_stale_indices_are_refused(problem: Problem) -> None:
    shared = problem.cache.layer(1, stream=problem.memory.stream)

    def refused(error: type[ic.Error]) -> ic.Status | int:
        with pytest.raises(error) as caught:
            shared()
        assert caught.value.message
        return caught.value.status

    assert refused(ic.StateError) is ic.Status.NO_BATCH
    problem.cache.begin(problem.batch)
    assert refused(ic.StaleError) is ic.Status.STALE_UNPUBLISHED
    problem.full(0, row_count=1)()
    assert refused(ic.StaleError) is ic.Status.STALE_INCOMPLETE
    problem.cache.begin(problem.batch)
    problem.full(0)()
    assert shared().source_layer == 0
    problem.full(2)()
    assert refused(ic.StaleError) is ic.Status.STALE_OVERWRITTEN
    problem.cache.begin(problem.batch)
    assert refused(ic.StaleError) is ic.Status.STALE


def test_values_in_device_memory_are_refused_where_they_are_checked(memory: Host) -> None:
    problem = Problem(memory.context(flags=ic.ContextFlags.CHECK_VALUES), memory=memory)
    full = problem.full()
    problem.key_end[0] = problem.PAGE * problem.BLOCKS + 1
    memory.upload()
    with pytest.raises(ic.ArgumentError, match="key_end") as caught:  # the CPU looks in begin(), a GPU in the layer
        problem.cache.begin(problem.batch)
        full()
    assert caught.value.status is ic.Status.OUT_OF_RANGE


def test_workspaces_are_looked_at(problem: Problem) -> None:
    memory = problem.memory
    problem.cache.begin(problem.batch)
    with pytest.raises(ic.ArgumentError, match="256") as caught:
        problem.full(workspace=memory.empty(256))()
    assert caught.value.status is ic.Status.WORKSPACE_TOO_SMALL
    whole = ic.asarray(memory.empty(problem.workspace.nbytes + 8))
    inside = ic.Array(whole.pointer + 8, (problem.workspace.nbytes,), "u8", device=whole.device, owner=whole)
    with pytest.raises(ic.ArgumentError) as caught:
        problem.full(workspace=inside)()
    assert caught.value.status is ic.Status.MISALIGNED


Change = Callable[[Problem, Callable[[np.ndarray], Any]], dict[str, Any]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, give: {"queries": ic.Queries(give(p.q[:, :3]), p.queries().w)}, "queries.q has the shape [2, 3, 32]; needed: [any, 4, 32]"),
        (lambda p, give: {"queries": ic.Queries(give(p.q.view(np.int32)), p.queries().w)}, "queries.q has elements of type i32; needed: f32"),
        (lambda p, give: {"queries": ic.Queries(give(p.q.transpose(0, 2, 1)), p.queries().w)}, "queries.q has the shape [2, 32, 4]"),
        (lambda p, give: {"keys": ic.Pool(give(p.keys.reshape(-1)), "contiguous")}, "needed: [capacity, ...]"),
        (lambda p, give: {"keys": ic.Pool(give(p.keys), "contiguous")}, "behind its first dimension; needed: 32"),
        (lambda p, give: {"attention": ic.AttentionInputs(give(p.attention_q), ic.Pool(give(p.kv), "paged"), give(p.out[:, :, :-1]))}, "needed: [any, 2, 32]"),
        (lambda p, give: {"row_count": 3}, "row_count is 3; the arrays are for 2 rows"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(problem: Problem, change: Change, message: str) -> None:
    problem.full(attention=problem.attention_inputs())  # everything is given: what follows are parts and other readings
    with pytest.raises(ic.ArrayError, match=re.escape(message)):
        problem.full(**change(problem, problem.memory.give))


def test_row_strides_are_honoured_and_others_refused(problem: Problem) -> None:
    memory = problem.memory
    wide = np.zeros((2, problem.H * problem.D + 8), np.float32)
    wide[:, 4 : 4 + problem.H * problem.D] = problem.q.reshape(2, -1)
    memory.give(wide)
    part = wide[:, 4 : 4 + problem.H * problem.D].reshape(2, problem.H, problem.D)
    assert np.shares_memory(part, wide)
    problem.cache.begin(problem.batch)
    view = problem.full(queries=ic.Queries(memory.give(part), memory.give(problem.w)))()
    assert memory.rows(view) == [problem.expected_indices(row) for row in range(2)]
    with pytest.raises(ic.ArrayError, match="dense behind dimension 0"):
        square = np.zeros((2, problem.D, problem.H), np.float32)
        memory.give(square)
        problem.full(queries=ic.Queries(memory.give(square.transpose(0, 2, 1)), memory.give(problem.w)))


def test_arrays_of_another_device_are_refused(memory: Host) -> None:
    context = memory.context()
    foreign: Any = np.array([5], np.int32)
    if memory.backend == "cpu":
        foreign = ic.Array(0x7000, (1,), "i32", device=(2, 0))
    names = {"cpu": ("cuda:0", "cpu"), "cuda": ("cpu", "cuda:0")}[memory.backend]
    with pytest.raises(ic.ArrayError, match="key_end is on {}; needed: {}".format(*names)):
        ic.Batch(context, key_end=foreign, max_key_end=5)


def test_a_batch_with_more_rows_than_the_arrays_is_refused(problem: Problem) -> None:
    give = problem.memory.give
    call = problem.full(queries=ic.Queries(give(problem.q[:1]), give(problem.w[:1])))
    problem.cache.begin(problem.batch)
    with pytest.raises(ic.ArrayError, match="the batch has 2 rows; the arrays end at row 1"):
        call()


def test_what_is_no_stream_is_refused(problem: Problem) -> None:
    problem.cache.begin(problem.batch)
    with pytest.raises(TypeError, match="a stream is"):
        problem.full()("0")
    with pytest.raises(ValueError, match="is not a stream"):
        problem.full()(-1)


def test_closed_handles_are_refused(problem: Problem) -> None:
    problem.cache.begin(problem.batch)
    full = problem.full()
    problem.cache.close()
    with pytest.raises(ic.ArgumentError) as caught:
        full()
    assert caught.value.status is ic.Status.NULL_POINTER
    with pytest.raises(ValueError, match="this Cache has been closed"):
        problem.cache.layer(1)
