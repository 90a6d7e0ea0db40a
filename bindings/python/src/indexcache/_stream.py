# SPDX-License-Identifier: Apache-2.0
"""CUDA streams of any library, and the order between two of them that array protocols ask for."""

from __future__ import annotations

import ctypes
from typing import Any

LEGACY = 1  # how DLPack and CUDA name the legacy default stream where 0 is ambiguous


def stream_pointer(stream: Any) -> int:
    """cudaStream_t as a number; 0 is the legacy default stream, and the only one of the CPU.

    Taken are None, a number, and objects with __cuda_stream__() (cuda.core, CuPy), .cuda_stream (torch) or .ptr.
    """
    if stream is None:
        return 0
    if hasattr(stream, "__cuda_stream__"):
        method = stream.__cuda_stream__
        _version, pointer = method() if callable(method) else method
    else:
        pointer = getattr(stream, "cuda_stream", getattr(stream, "ptr", stream))
    if not isinstance(pointer, int) or isinstance(pointer, bool):
        raise TypeError(f"a stream is None, a number or a stream object, not {type(stream).__name__}")
    if not 0 <= pointer < 1 << 64:
        raise ValueError(f"{pointer} is not a stream")
    return pointer


class Driver:
    """The few functions of the CUDA driver that make one stream wait for another."""

    def __init__(self, library: Any) -> None:
        self._cuda = library

    def _call(self, name: str, *arguments: Any) -> None:
        result = getattr(self._cuda, name)(*arguments)
        if result:
            raise RuntimeError(f"{name} failed with CUDA error {result}")

    def order(self, device: int, first: int, then: int) -> None:
        """What is enqueued on `then` from now on runs behind what `first` has now. The CPU does not wait."""
        number, context, event = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(number), device)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), number)
        try:
            self._call("cuCtxPushCurrent_v2", context)
            try:
                self._call("cuEventCreate", ctypes.byref(event), 2)  # without timing
                try:
                    self._call("cuEventRecord", event, ctypes.c_void_p(first))
                    self._call("cuStreamWaitEvent", ctypes.c_void_p(then), event, 0)
                finally:
                    self._call("cuEventDestroy_v2", event)  # lives on until it has been passed
            finally:
                self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
        finally:
            self._call("cuDevicePrimaryCtxRelease_v2", number)

    def device_of(self, pointer: int) -> int:
        """Number of the device whose memory an address is in."""
        number = ctypes.c_int()
        self._call("cuInit", 0)
        self._call("cuPointerGetAttribute", ctypes.byref(number), 9, ctypes.c_uint64(pointer))
        return number.value


_driver: Driver | None = None


def driver() -> Driver:
    global _driver
    if _driver is None:
        _driver = Driver(ctypes.CDLL("libcuda.so.1"))
    return _driver


def order_streams(device: int, first: int, then: int) -> None:
    """Makes stream `then` wait for `first`; nothing to do when they are one. 0 and LEGACY are the same stream."""
    first, then = first or LEGACY, then or LEGACY
    if first == then:
        return
    driver().order(device, first, then)
