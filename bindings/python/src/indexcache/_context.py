# SPDX-License-Identifier: Apache-2.0
"""Where operations run."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from . import _dlpack, _ffi
from ._array import Taker
from ._handle import Handle
from ._library import check, lib
from ._types import Backend, CpuIsa, DeviceCaps, LogLevel


def backend_of(backend: Backend | str) -> Backend:
    if isinstance(backend, str):
        try:
            return Backend[backend.upper()]
        except KeyError:
            raise ValueError(f'backend {backend!r} is neither "cpu" nor "cuda"') from None
    return Backend(backend)


def device_count(backend: Backend | str) -> int:
    """Devices of a backend that this build can use: 1 for the CPU. Raises CudaError where there is no CUDA at all."""
    count = ctypes.c_int32()
    check(lib.ic_device_count(backend_of(backend), ctypes.byref(count)))
    return count.value


def device_caps(backend: Backend | str, device: int = 0) -> DeviceCaps:
    """What one device can do."""
    caps = _ffi.ic_device_caps()
    check(lib.ic_device_get_caps(backend_of(backend), device, ctypes.byref(caps)))
    return DeviceCaps.from_struct(caps)


class Context(Handle):
    """A backend, a device, threads, memory and a log; shared by any number of handles and threads.

    backend: "cpu" or "cuda". Never chosen for you: it says where your arrays must be.
    device: CUDA device number. num_threads: CPU threads, 0 = as many as the machine has.
    cpu_isa: forces an instruction level. max_ctas: CUDA, most thread blocks in flight, 0 = no limit.
    log: log(level, message) gets messages of log_level and worse, from any thread; None = stderr.
    alloc, free: alloc(size) -> address (0: failed) and free(address, size) for the memory of handles, such as a caching
    allocator of the engine; aligned to 256 bytes. None = malloc or cudaMalloc.
    parallel_for: address of a C function of type ic_parallel_for_fn, and what it gets as `user`: the engine's own thread
    pool. None = threads of the context.
    flags: ContextFlags; CHECK_VALUES says at once, and by name, what is wrong inside of arrays on a GPU.
    """

    def __init__(
        self,
        backend: Backend | str,
        *,
        device: int = 0,
        num_threads: int = 0,
        cpu_isa: CpuIsa = CpuIsa.AUTO,
        max_ctas: int = 0,
        log_level: LogLevel = LogLevel.WARN,
        log: Callable[[LogLevel, str], None] | None = None,
        alloc: Callable[[int], int] | None = None,
        free: Callable[[int, int], None] | None = None,
        parallel_for: tuple[int, int] | None = None,
        flags: int = 0,
    ) -> None:
        self.backend = backend_of(backend)
        self.device = device
        desc = _ffi.ic_context_desc(
            backend=self.backend,
            device=device,
            num_threads=num_threads,
            cpu_isa=cpu_isa,
            max_ctas=max_ctas,
            log_level=log_level,
            flags=flags,
        )
        if log is not None:
            desc.log = _log_callback(log)
        if alloc is not None:
            desc.alloc = _ffi.ic_alloc_fn(lambda _user, size: alloc(size) or None)
        if free is not None:
            desc.free = _ffi.ic_free_fn(lambda _user, pointer, size: free(pointer or 0, size))
        if parallel_for is not None:
            desc.parallel_for = ctypes.cast(parallel_for[0], _ffi.ic_parallel_for_fn)
            desc.parallel_user = parallel_for[1]
        self._create("context", ctypes.byref(desc), keep=(desc,))

    @property
    def dlpack_device(self) -> tuple[int, int]:
        """Where arrays must be, as DLPack says it."""
        return (_dlpack.CUDA, self.device) if self.backend == Backend.CUDA else (_dlpack.CPU, 0)

    def _taker(self, stream: Any = None) -> Taker:
        return Taker(self.dlpack_device, stream)


def _log_callback(log: Callable[[LogLevel, str], None]) -> Any:
    def call(_user: int | None, level: int, message: bytes | None) -> None:
        log(LogLevel(level), (message or b"").decode("utf-8", "replace"))

    return _ffi.ic_log_fn(call)
