# SPDX-License-Identifier: Apache-2.0
"""The package on a GPU: needs Python, the CUDA driver and a library with CUDA (INDEXCACHE_LIBRARY), nothing else.

cuda_check.py [cpu|cuda]: with cpu the same program runs on host memory.
"""

from __future__ import annotations

import array
import ctypes
import json
import random
import struct
import sys
import time
from pathlib import Path
from typing import Any

PYTHON = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PYTHON / "src"))
import indexcache as ic  # noqa: E402
from indexcache._stream import order_streams  # noqa: E402

VECTORS = PYTHON.parents[1] / "tests" / "vectors"


def expect(condition: object, what: str) -> None:
    if not condition:
        raise SystemExit(f"FAILED: {what}")
    print(f"ok: {what}")


class Host:
    """Memory and streams of the CPU backend."""

    backend = "cpu"
    streams: tuple[Any, ...] = (None, None)

    def array(self, values: array.array[Any], shape: tuple[int, ...], dtype: str) -> Any:
        memory = ic.empty(shape, dtype)
        memory.reshape(len(values)).memoryview()[:] = memoryview(values)
        return memory

    def workspace(self, size: int) -> Any:
        return ic.empty(size)

    def read(self, source: ic.Array) -> list[Any]:
        return source.tolist()

    def synchronize(self) -> None:
        pass


class ByInterface:
    """An array that has __cuda_array_interface__ alone, written on a stream of its own."""

    def __init__(self, pointer: int, shape: tuple[int, ...], typestr: str, stream: int) -> None:
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": typestr,
            "data": (pointer, False),
            "strides": None,
            "stream": stream,
        }


class ByDLPack:
    """An array that has DLPack alone."""

    def __init__(self, source: ic.Array) -> None:
        self.source = source
        self.__dlpack__ = source.__dlpack__

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.source.__dlpack_device__()


class Cuda:
    """Memory and streams of GPU 0, from the driver."""

    backend = "cuda"

    def __init__(self) -> None:
        self.driver = ctypes.CDLL("libcuda.so.1")
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        self.streams = (self.stream(), self.stream())
        self.arrays = 0
        self.host: list[object] = []

    def call(self, name: str, *arguments: Any) -> None:
        result = getattr(self.driver, name)(*arguments)
        if result:
            raise SystemExit(f"FAILED: {name} answers {result}")

    def stream(self) -> int:
        stream = ctypes.c_void_p()
        self.call("cuStreamCreate", ctypes.byref(stream), 1)  # not ordered with the legacy stream
        return stream.value or 0

    def allocate(self, size: int) -> int:
        pointer = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        return pointer.value

    def array(self, values: array.array[Any], shape: tuple[int, ...], dtype: str) -> Any:
        """Copied on the first stream, which whoever computes on another one has to wait for; both protocols in turn."""
        size = len(values) * values.itemsize
        pointer, data = self.allocate(size), values.tobytes()
        self.host.append(data)
        self.call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(pointer),
            data,
            ctypes.c_size_t(size),
            ctypes.c_void_p(self.streams[0]),
        )
        self.arrays += 1
        if self.arrays % 2:
            return ByInterface(pointer, shape, {"f32": "<f4", "i32": "<i4"}[dtype], self.streams[0])
        return ByDLPack(ic.Array(pointer, shape, dtype, device=(2, 0), stream=self.streams[0]))

    def workspace(self, size: int) -> Any:
        return ic.Array(self.allocate(size), (size,), "u8", device=(2, 0))

    def read(self, source: ic.Array) -> list[Any]:
        expect(not hasattr(source, "__array_interface__"), "an array on a GPU does not look like one of the host")
        pointer = source.__cuda_array_interface__["data"][0]
        copy = ic.empty(source.shape, source.dtype)
        self.synchronize()
        self.call(
            "cuMemcpyDtoH_v2", ctypes.c_void_p(copy.pointer), ctypes.c_uint64(pointer), ctypes.c_size_t(copy.nbytes)
        )
        return copy.tolist()

    def synchronize(self) -> None:
        self.call("cuCtxSynchronize")


def numbers(code: str, values: Any) -> array.array[Any]:
    return array.array(code, values)


def golden_rows(memory: Any) -> None:
    """Index sets of the tiny model."""
    data = (VECTORS / "indexer" / "tiny_lm.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            values = array.array("f" if entry["dtype"] == "F32" else "i")
            values.frombytes(data[begin:end])
            tensors[name] = (values, tuple(entry["shape"]), "f32" if entry["dtype"] == "F32" else "i32")
    stream = memory.streams[1]
    context = ic.Context(memory.backend)
    indexer = ic.Indexer(context, num_heads=4, head_dim=32, dtype="f32")
    schedule = ic.Schedule(2, pattern="FS")
    cache = ic.Cache(context, schedule=schedule, indexer=indexer, topk=ic.TopK(context, 64), max_rows=32)
    full = cache.layer(
        0,
        queries=ic.Queries(memory.array(*tensors["q"]), memory.array(*tensors["w"])),
        keys=ic.Pool(memory.array(*tensors["keys"]), "contiguous"),
        workspace=memory.workspace(cache.forward_workspace_size(32, 2048)),
        stream=stream,
    )
    shared = cache.layer(1)
    cache.begin(ic.Batch(context, key_end=memory.array(*tensors["key_end"]), max_key_end=2048, stream=stream))
    try:
        shared(stream)
        expect(False, "a Shared layer in front of its source is refused")
    except ic.StaleError as error:
        expect(error.status is ic.Status.STALE_UNPUBLISHED, "a Shared layer in front of its source is refused")
    full(stream)
    view = shared(stream)
    found, lengths = memory.read(view.indices), memory.read(view.lengths)
    expected, gaps = tensors["indices"][0], tensors["gap"][0]
    clear = [row for row in range(32) if gaps[row] > 1e-4]
    expect(len(clear) >= 26, f"{len(clear)} of 32 rows can be compared")
    same = [found[row][: lengths[row]] == expected[row * 64 : row * 64 + 64].tolist() for row in clear]
    expect(all(same), "the tiny model's index sets")
    expect(cache.faults(stream=stream) == 0, "no faults")

    times = []
    for _ in range(100_000):
        start = time.perf_counter_ns()
        shared(stream)
        times.append(time.perf_counter_ns() - start)
    print(f"median of 100000 Shared calls with a stream: {sorted(times)[50_000]} ns")


def one_layer(memory: Any) -> tuple[list[Any], list[Any]]:
    """Indices and attention output of random rows over shuffled pages."""
    rng = random.Random(5)

    def some(*shape: int) -> Any:
        count = 1
        for extent in shape:
            count *= extent
        return memory.array(numbers("f", (rng.gauss(0, 1) for _ in range(count))), shape, "f32")

    context, stream = ic.Context(memory.backend), memory.streams[1]
    attention = ic.Attention(
        context, num_heads=4, d_latent=64, d_rope=16, kv_dtype="f32", q_dtype="f32", softmax_scale=0.1
    )
    cache = ic.Cache(
        context,
        schedule=ic.Schedule(1, pattern="F"),
        indexer=ic.Indexer(context, num_heads=4, head_dim=64, dtype="f32"),
        topk=ic.TopK(context, 32),
        attention=attention,
        max_rows=3,
    )
    pages = list(range(20))
    rng.shuffle(pages)
    table = ic.BlockTable(memory.array(numbers("i", pages), (2, 10), "i32"), 64)
    batch = ic.Batch(
        context,
        key_end=memory.array(numbers("i", [600, 20, 333]), (3,), "i32"),
        row_seq=memory.array(numbers("i", [1, 0, 0]), (3,), "i32"),
        max_key_end=640,
        block_tables=[table],
        stream=stream,
    )
    out = ic.asarray(memory.array(numbers("f", [0] * 768), (3, 4, 64), "f32"), stream=stream)
    call = cache.layer(
        0,
        queries=ic.Queries(some(3, 4, 64), some(3, 4)),
        keys=ic.Pool(some(20, 64, 64), "paged"),
        attention=ic.AttentionInputs(some(3, 4, 80), ic.Pool(some(20, 64, 80), "paged"), out),
        workspace=memory.workspace(cache.forward_workspace_size(3, 640)),
        stream=stream,
    )
    cache.begin(batch)
    indices = memory.read(call(stream).indices)
    return indices, memory.read(out)


def main() -> None:
    memory = Cuda() if sys.argv[1:] != ["cpu"] else Host()
    print(ic.build_info(), ic.get_library_path())
    if isinstance(memory, Cuda):
        order_streams(0, memory.streams[0], memory.streams[1])
        try:
            ic.Batch(ic.Context("cuda"), key_end=numbers("i", [1]), max_key_end=1)
            expect(False, "host memory is refused")
        except ic.ArrayError as error:
            expect("key_end is on cpu; needed: cuda:0" in error.message, "host memory is refused")
    golden_rows(memory)
    wanted, got = one_layer(Host()), one_layer(memory)
    expect(wanted[0] == got[0], "the indices of the CPU")
    pairs = zip(_flat(wanted[1]), _flat(got[1]))
    worst = max(abs(a - b) for a, b in pairs)
    expect(worst < 1e-4, f"the attention of the CPU: largest difference {worst:.2e}")


def _flat(nested: Any) -> list[float]:
    return [value for item in nested for value in _flat(item)] if isinstance(nested, list) else [nested]


if __name__ == "__main__":
    main()
