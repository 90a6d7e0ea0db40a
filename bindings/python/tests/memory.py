# SPDX-License-Identifier: Apache-2.0
"""The backend that tests run on, INDEXCACHE_TEST_BACKEND = cpu (the default) or cuda: numpy arrays as it takes them, and
a stream of the test's own."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import indexcache as ic
import numpy as np


def chosen() -> Host:
    backend = os.environ.get("INDEXCACHE_TEST_BACKEND", "cpu")
    return {"cpu": Host, "cuda": Cuda}[backend]()


class Host:
    """The CPU: arrays are given as they are."""

    backend = "cpu"
    stream: int | None = None

    def context(self, **options: Any) -> ic.Context:
        return ic.Context(self.backend, **options)

    def give(self, array: np.ndarray) -> Any:
        """The array, or its copy on the GPU; of a part of what has been given the part of that copy."""
        return array

    def empty(self, size: int) -> Any:
        """A workspace."""
        return ic.empty(size)

    def upload(self) -> None:
        """Copies what the test has written since into the given arrays."""

    def download(self) -> None:
        """Waits for the stream, and copies what the GPU has written into the given arrays."""

    def read(self, source: ic.Array) -> np.ndarray:
        """A copy of a result."""
        return np.array(source)

    def rows(self, view: ic.IndexView) -> list[list[int]]:
        """The valid indices of each row; behind them is nothing but -1."""
        indices, lengths = self.read(view.indices), self.read(view.lengths)
        for row, length in zip(indices, lengths):
            assert (row[length:] == -1).all() and (row[:length] >= 0).all()
        return [row[:length].tolist() for row, length in zip(indices, lengths)]


class OnGpu:
    """Memory of a GPU that its producer, another stream, may still be writing: one protocol and not the others."""

    def __init__(self, pointer: int, like: np.ndarray, stream: int, dlpack: bool) -> None:
        self.pointer, self.shape, self.typestr = pointer, like.shape, like.dtype.str
        if dlpack:
            names = {"<f4": "f32", "<i4": "i32", "<i8": "i64", "|u1": "u8", "<u2": "u16"}
            self.array = ic.Array(pointer, like.shape, names[self.typestr], strides=like.strides, device=(2, 0),
                                  stream=stream)  # fmt: skip
            self.__dlpack__ = self.array.__dlpack__
            self.__dlpack_device__ = self.array.__dlpack_device__
        else:
            self.__cuda_array_interface__ = {
                "version": 3,
                "shape": like.shape,
                "typestr": self.typestr,
                "data": (pointer, False),
                "strides": like.strides,
                "stream": stream,
            }


class Cuda(Host):
    """GPU 0, by the driver's own calls."""

    backend = "cuda"
    _opened: Any = None

    def __init__(self) -> None:
        if Cuda._opened is None:
            assert ic.device_count("cuda") > 0  # where there is no driver the library says so best
            Cuda._opened = ctypes.CDLL("libcuda.so.1")
            device, context = ctypes.c_int(), ctypes.c_void_p()
            self._call("cuInit", 0)
            self._call("cuDeviceGet", ctypes.byref(device), 0)
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
            self._call("cuCtxSetCurrent", context)
        self.producer, self.stream = self._new_stream(), self._new_stream()
        self.mirrors: list[tuple[np.ndarray, int]] = []
        self.workspaces: list[int] = []

    def close(self) -> None:
        self._call("cuCtxSynchronize")
        for pointer in [pointer for _, pointer in self.mirrors] + self.workspaces:
            self._call("cuMemFree_v2", ctypes.c_uint64(pointer))
        for stream in (self.producer, self.stream):
            self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def _call(self, name: str, *arguments: Any) -> None:
        result = getattr(Cuda._opened, name)(*arguments)
        assert result == 0, f"{name} fails with CUDA error {result}"

    def _new_stream(self) -> int:
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), 1)  # ordered with no other
        return stream.value or 0

    def _allocate(self, size: int) -> int:
        pointer = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        return pointer.value

    def _copy(self, name: str, to: Any, source: Any, size: int, stream: int) -> None:
        self._call(name, to, source, ctypes.c_size_t(size), ctypes.c_void_p(stream))

    def give(self, array: np.ndarray) -> Any:
        """New arrays are copied on the producer's stream, and the copy is not waited for."""
        begin, size = array.ctypes.data, _extent(array)
        for mirrored, pointer in self.mirrors:
            first = mirrored.ctypes.data
            if first <= begin and begin + size <= first + mirrored.nbytes:
                return OnGpu(pointer + begin - first, array, self.producer, dlpack=len(self.mirrors) % 2 == 0)
        assert array.flags.c_contiguous
        pointer = self._allocate(size)
        self._copy("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(pointer), ctypes.c_void_p(begin), size, self.producer)
        self.mirrors.append((array, pointer))
        return OnGpu(pointer, array, self.producer, dlpack=len(self.mirrors) % 2 == 0)

    def empty(self, size: int) -> Any:
        self.workspaces.append(self._allocate(size))
        return ic.Array(self.workspaces[-1], (size,), "u8", device=(2, 0))

    def upload(self) -> None:
        assert self.stream is not None
        self._wait()
        for array, pointer in self.mirrors:
            self._copy("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(pointer), ctypes.c_void_p(array.ctypes.data),
                       array.nbytes, self.stream)  # fmt: skip
        self._wait()

    def download(self) -> None:
        self._wait()
        for array, pointer in self.mirrors:
            if not array.flags.writeable:
                continue
            self._copy("cuMemcpyDtoHAsync_v2", ctypes.c_void_p(array.ctypes.data), ctypes.c_uint64(pointer),
                       array.nbytes, self.stream or 0)  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        for stream in (self.producer, self.stream):
            self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def read(self, source: ic.Array) -> np.ndarray:
        assert source.device == (2, 0) and not hasattr(source, "__array_interface__")
        interface = source.__cuda_array_interface__
        assert interface["strides"] is None
        copy = np.empty(interface["shape"], interface["typestr"])
        pointer = ctypes.c_uint64(interface["data"][0])
        self._copy("cuMemcpyDtoHAsync_v2", ctypes.c_void_p(copy.ctypes.data), pointer, copy.nbytes, self.stream or 0)
        self._wait()
        return copy


def _extent(array: np.ndarray) -> int:
    """Bytes from the first element to the end of the last."""
    return array.itemsize + sum((n - 1) * s for n, s in zip(array.shape, array.strides)) if array.size else 0
