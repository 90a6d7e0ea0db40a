# SPDX-License-Identifier: Apache-2.0
"""Wrong use: statuses become exceptions by their class, and nothing is read or written out of bounds."""

import ctypes
import gc
import re
import threading
import weakref
from typing import Any

import indexcache as ic
import numpy as np
import pytest
from conftest import Problem
from indexcache import _ffi
from indexcache._errors import error_of


def test_every_status_has_its_class() -> None:
    groups = {
        ic.ArgumentError: range(1, 16),
        ic.StaleError: range(20, 30),
        ic.StateError: range(30, 34),
        ic.CudaError: range(40, 45),
        ic.OutOfMemoryError: [60],
        ic.InternalError: [61, 99],
    }
    special = {10: ic.UnsupportedError, 15: ic.UnsupportedError, 13: ic.ScheduleError, 14: ic.ScheduleError}
    for group, numbers in groups.items():
        for number in numbers:
            error = error_of(number, "why")
            assert type(error) is special.get(number, group)
            assert error.status == number and error.message == "why"
            assert isinstance(error, ic.StaleError) == bool(_ffi.IC_STATUS_IS_STALE(number))
    assert issubclass(ic.ArgumentError, ValueError) and issubclass(ic.OutOfMemoryError, MemoryError)
    assert str(error_of(20, "old")) == "STALE: old" and str(error_of(29, "newer")) == "29: newer"


@pytest.mark.parametrize(
    ("arguments", "error", "status", "words"),
    [
        ({"num_layers": 3, "pattern": "SFF"}, ic.ScheduleError, ic.Status.SCHEDULE_INVALID, "layer 0"),
        ({"num_layers": 3, "pattern": "FXF"}, ic.ArgumentError, ic.Status.PARSE, "X"),
        ({"num_layers": 3, "pattern": "FF"}, ic.ArgumentError, ic.Status.INVALID_ARGUMENT, "2"),
        ({"num_layers": 3, "freq": -1}, ic.ArgumentError, ic.Status.INVALID_ARGUMENT, "-1"),
        ({"num_layers": 4, "pattern": "FSFS", "freq": 4}, ic.ScheduleError, ic.Status.SCHEDULE_CONFLICT, "layer"),
    ],
)
def test_schedules(arguments: Any, error: Any, status: ic.Status, words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        ic.Schedule(**arguments)
    assert caught.value.status is status


def test_numbers_that_do_not_fit_are_not_cut_off(context: ic.Context) -> None:
    with pytest.raises(OverflowError, match="num_layers = 4294967298"):
        ic.Schedule(2**32 + 2, pattern="FS")
    with pytest.raises(ctypes.ArgumentError, match="does not fit"):
        ic.Schedule(2, pattern="FS").layer(2**32)
    with pytest.raises(ctypes.ArgumentError, match="does not fit"):
        ic.TopK(context, 2).select_workspace_size(-(2**40), 1)
    with pytest.raises(ValueError, match="zero character"):
        ic.Schedule(2, pattern="FS\0")


def test_creation(context: ic.Context) -> None:
    with pytest.raises(ic.ArgumentError, match="5000"):
        ic.TopK(context, 5000)
    with pytest.raises(ic.ArgumentError, match="48"):
        ic.Indexer(context, num_heads=4, head_dim=48, dtype="f32")
    with pytest.raises(ic.UnsupportedError):
        ic.Indexer(context, num_heads=4, head_dim=32, dtype=ic.DType.FP4)
    with pytest.raises(ic.ArgumentError, match="softmax_scale"):
        ic.Attention(context, num_heads=1, d_latent=16, d_rope=0, kv_dtype="f32", q_dtype="f32", softmax_scale=0)
    with pytest.raises(ic.ArgumentError) as flag:
        ic.Context("cpu", flags=1 << 31)
    assert flag.value.status is ic.Status.UNKNOWN_FLAG
    with pytest.raises(ValueError, match="neither"):
        ic.Context("gpu")
    for name in ("f64", "float64", np.dtype("float64"), "int32"):
        with pytest.raises(ValueError, match="no element type"):
            ic.Indexer(context, num_heads=4, head_dim=32, dtype=name)
    for same in ("f32", "float32", np.float32, np.dtype("float32"), ic.DType.F32, 1):
        assert ic.Indexer(context, num_heads=4, head_dim=32, dtype=same).dtype is ic.DType.F32


def test_handles_of_another_context_do_not_fit(problem: Problem) -> None:
    with pytest.raises(ic.ArgumentError) as caught:
        ic.Cache(ic.Context("cpu", num_threads=1), schedule=problem.schedule, indexer=problem.indexer,
                 topk=problem.topk, max_rows=1)  # fmt: skip
    assert caught.value.status is ic.Status.HANDLE_MISMATCH


def test_stale_in_all_its_ways(context: ic.Context) -> None:
    problem = Problem(context, pattern="FSFF")
    shared = problem.cache.layer(1)

    def status() -> ic.Status:
        with pytest.raises(ic.StaleError) as caught:
            shared()
        assert caught.value.message
        assert isinstance(caught.value.status, ic.Status)
        return caught.value.status

    problem.cache.begin(problem.batch)
    assert status() is ic.Status.STALE_UNPUBLISHED
    problem.full(0, row_count=1)()
    assert status() is ic.Status.STALE_INCOMPLETE
    problem.cache.begin(problem.batch)
    problem.full(0)()
    shared()
    problem.full(2)()
    assert status() is ic.Status.STALE_OVERWRITTEN
    problem.cache.begin(problem.batch)
    assert status() is ic.Status.STALE
    problem.batch.capture_id = 5
    problem.cache.begin(problem.batch)
    problem.full(0)()
    problem.batch.capture_id, problem.batch.keep = 0, True
    problem.cache.begin(problem.batch)
    assert status() is ic.Status.STALE_CAPTURE


def test_values_in_arrays(problem: Problem) -> None:
    problem.key_end[0] = -5
    problem.row_seq[1] = 2
    with pytest.raises(ic.ArgumentError) as caught:
        problem.cache.begin(problem.batch)
    assert caught.value.status is ic.Status.OUT_OF_RANGE
    problem.row_seq[1] = 1
    problem.pages[1, 0] = 99
    problem.cache.begin(problem.batch)
    with pytest.raises(ic.ArgumentError, match="99"):
        problem.full()()


def test_workspaces(problem: Problem) -> None:
    problem.cache.begin(problem.batch)
    with pytest.raises(ic.ArgumentError) as small:
        problem.full(workspace=None)()
    assert small.value.status in (ic.Status.WORKSPACE_TOO_SMALL, ic.Status.NULL_POINTER)
    inside = np.asarray(ic.empty(problem.workspace.nbytes + 1))[1:]
    with pytest.raises(ic.ArgumentError) as unaligned:
        problem.full(workspace=inside)()
    assert unaligned.value.status is ic.Status.MISALIGNED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"queries": ic.Queries(p.q.astype(np.float64), p.w)}, "queries.q has elements of type '<f8'; needed: f32"),
        (lambda p: {"queries": ic.Queries(p.q.astype(np.float16), p.w)}, "queries.q has elements of type f16; needed: f32"),
        (lambda p: {"queries": ic.Queries(p.q[:, :3], p.w)}, "queries.q has the shape [2, 3, 32]; needed: [any, 4, 32]"),
        (lambda p: {"queries": ic.Queries(p.q.swapaxes(1, 2).copy().swapaxes(1, 2), p.w)}, "dense behind dimension 0"),
        (lambda p: {"queries": ic.Queries(np.broadcast_to(p.q[:1], p.q.shape), p.w)}, "a stride of 0 bytes"),
        (lambda p: {"queries": ic.Queries(p.q[::-1], p.w)}, "a stride of -512 bytes"),
        (lambda p: {"queries": ic.Queries(p.q, p.w.astype(">f4"))}, "queries.w has elements of type '>f4'"),
        (lambda p: {"keys": ic.Pool(p.keys[0, :, :31].copy(), "paged")}, "keys.data has 31 elements of f32 behind"),
        (lambda p: {"keys": ic.Pool(p.keys.reshape(-1), "contiguous")}, "needed: [capacity, ...]"),
        (lambda p: {"keys": ic.Pool(p.keys, "contiguous")}, "behind its first dimension; needed: 32"),
        (lambda p: {"attention": ic.AttentionInputs(p.attention_q, ic.Pool(p.kv, "paged"), p.out[:, :, :-1])}, "needed: [any, 2, 32]"),
        (lambda p: {"row_count": 3}, "row_count is 3; the arrays are for 2 rows"),
        (lambda p: {"hint": np.zeros((2, 64), np.int32)}, "needed: [any, 128]"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(problem: Problem, change: Any, message: str) -> None:
    with pytest.raises(ic.ArrayError, match=re.escape(message)):
        problem.full(**change(problem))


def test_outputs_must_be_writable(problem: Problem) -> None:
    problem.out.flags.writeable = False
    with pytest.raises(ic.ArrayError, match="attention.out is read-only"):
        problem.full(attention=problem.attention_inputs())
    with pytest.raises(ic.ArrayError, match="lengths is read-only"):
        ic.TopK(problem.context, 2).select(
            np.zeros((1, 5), np.float32), np.ones(1, np.int32), np.zeros((1, 128), np.int32), b"\0\0\0\0"
            if False else memoryview(b"\5\0\0\0").cast("i")
        )  # fmt: skip


def test_a_batch_with_more_rows_than_the_arrays(problem: Problem) -> None:
    call = problem.full(queries=ic.Queries(problem.q[:1], problem.w[:1]))
    problem.cache.begin(problem.batch)
    with pytest.raises(ic.ArrayError, match="the batch has 2 rows; the arrays end at row 1"):
        call()
    with pytest.raises(ic.ArrayError, match="num_rows is 3; the arrays have 2"):
        problem.batch.num_rows = 3
    with pytest.raises(ic.ArrayError, match=r"block_tables\[0\].pages is for 2 sequences; num_seqs is 3"):
        ic.Batch(problem.context, key_end=problem.key_end, max_key_end=96, num_seqs=3,
                 block_tables=[ic.BlockTable(problem.pages, 16)])  # fmt: skip


def test_streams_of_the_cpu_are_none(problem: Problem) -> None:
    problem.cache.begin(problem.batch)
    for call in (problem.full(), problem.cache.layer(1)):
        with pytest.raises(ic.ArgumentError, match="stream"):
            call(4096)
        with pytest.raises(TypeError, match="a stream is"):
            call("0")
        with pytest.raises(ValueError, match="is not a stream"):
            call(-1)


def test_closed_handles(problem: Problem) -> None:
    problem.cache.begin(problem.batch)
    full, shared = problem.full(), problem.cache.layer(1)
    view = full()
    shared()
    problem.cache.close()
    assert problem.cache.closed
    problem.cache.close()
    for call in (full, shared):
        with pytest.raises(ic.ArgumentError) as caught:
            call()
        assert caught.value.status is ic.Status.NULL_POINTER
    for use in (lambda: problem.cache.info, lambda: problem.cache.layer(1), lambda: view.indices):
        with pytest.raises(ValueError, match="this Cache has been closed"):
            use()
    with problem.topk as topk:
        assert not topk.closed
    with pytest.raises(ValueError, match="this TopK has been closed"):
        topk.select_workspace_size(1, 1)


def test_arrays_outlive_their_cache(problem: Problem) -> None:
    problem.cache.begin(problem.batch)
    view = problem.full()()
    indices = np.asarray(view.indices)
    before = indices.copy()
    owner = weakref.ref(problem.cache)
    problem.cache.close()
    problem.cache = None  # type: ignore[assignment]
    del view
    gc.collect()
    assert owner() is None
    trash = [np.full(indices.size, 7, np.int32) for _ in range(100)]
    assert (indices == before).all() and trash


def test_handles_may_be_closed_in_any_order(context: ic.Context) -> None:
    problem = Problem(ic.Context("cpu", num_threads=1))
    for handle in (problem.context, problem.schedule, problem.indexer, problem.topk, problem.attention):
        handle.close()
    assert problem.cache.info.k == 8
    problem.cache.begin(problem.batch)


def test_a_call_keeps_its_arrays(problem: Problem) -> None:
    expected = problem.expected_indices(0)
    call = problem.full(queries=ic.Queries(problem.q.copy(), problem.w.copy()))
    gc.collect()
    trash = [np.full_like(problem.q, 7) for _ in range(100)]
    problem.cache.begin(problem.batch)
    assert np.asarray(call().indices)[0, :8].tolist() == expected and trash


def test_the_log_reaches_python() -> None:
    messages: list[tuple[ic.LogLevel, str]] = []
    context = ic.Context("cpu", log=lambda level, message: messages.append((level, message)),
                         log_level=ic.LogLevel.DEBUG)  # fmt: skip
    problem = Problem(context)
    problem.cache.begin(problem.batch)
    context.close()  # the callback lives as long as the handles made from it
    del context
    gc.collect()
    problem.full()()
    assert all(isinstance(level, ic.LogLevel) and text for level, text in messages)


def test_each_thread_has_its_own_message() -> None:
    results: dict[int, str] = {}

    def fail(number: int) -> None:
        schedule = ic.Schedule(2, pattern="FS")
        for _ in range(200):
            try:
                schedule.layer(number)
            except ic.ArgumentError as error:
                results[number] = error.message
                assert str(number) in error.message

    threads = [threading.Thread(target=fail, args=(number,)) for number in range(100, 108)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8 and all(str(number) in message for number, message in results.items())
