# SPDX-License-Identifier: Apache-2.0
"""DLPack capsules, read and made with ctypes: no other package is needed."""

from __future__ import annotations

import atexit
import ctypes
import sys
import threading
from typing import Any, NamedTuple

CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13  # DLDeviceType
DEVICE_NAMES = {CPU: "cpu", CUDA: "cuda", CUDA_HOST: "cuda_host", 10: "rocm", CUDA_MANAGED: "cuda_managed"}
READ_ONLY, IS_COPIED = 1, 2  # flags of DLManagedTensorVersioned


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class DLManagedTensor(ctypes.Structure):
    _fields_ = [("tensor", DLTensor), ("manager_context", ctypes.c_void_p), ("deleter", _Deleter)]


class DLManagedTensorVersioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager_context", ctypes.c_void_p),
        ("deleter", _Deleter),
        ("flags", ctypes.c_uint64),
        ("tensor", DLTensor),
    ]


def _function(name: str, returns: Any, *arguments: Any) -> Any:
    return ctypes.PYFUNCTYPE(returns, *arguments)((name, ctypes.pythonapi))


_capsule_name = _function("PyCapsule_GetName", ctypes.c_char_p, ctypes.py_object)
_capsule_pointer = _function("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
_capsule_new = _function("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)

PLAIN, VERSIONED = b"dltensor", b"dltensor_versioned"


class Tensor(NamedTuple):
    """What a capsule says."""

    pointer: int
    device: tuple[int, int]
    code: int
    bits: int
    lanes: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None  # in elements; None = dense
    readonly: bool
    copied: bool


def ask(producer: Any, stream: int | None) -> Any:
    """The capsule of an object with __dlpack__, without a copy. Older producers take fewer arguments."""
    arguments: dict[str, Any] = {} if stream is None else {"stream": stream}
    try:
        return producer.__dlpack__(**arguments, max_version=(1, 1), copy=False)
    except TypeError:
        return producer.__dlpack__(**arguments)


def read(capsule: Any) -> Tensor:
    """Reads a capsule. It is not consumed: who holds it holds the memory, and its own destructor releases that."""
    try:
        name = _capsule_name(capsule)
    except Exception:
        raise TypeError(f"__dlpack__() returned {type(capsule).__name__}, not a capsule") from None
    flags = 0
    if name == VERSIONED:
        versioned = DLManagedTensorVersioned.from_address(_capsule_pointer(capsule, name))
        if versioned.major != 1:
            raise TypeError(f"a DLPack tensor of version {versioned.major}.{versioned.minor}; version 1 is understood")
        flags, tensor = versioned.flags, versioned.tensor
    elif name == PLAIN:
        tensor = DLManagedTensor.from_address(_capsule_pointer(capsule, name)).tensor
    else:
        raise TypeError(f"a capsule named {name!r}, not {PLAIN!r} or {VERSIONED!r}: has it been consumed?")
    shape = tuple(tensor.shape[: tensor.ndim]) if tensor.ndim else ()
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides and tensor.ndim else None
    return Tensor(
        (tensor.data or 0) + tensor.byte_offset,
        (tensor.device_type, tensor.device_id),
        tensor.code,
        tensor.bits,
        tensor.lanes,
        shape,
        strides,
        bool(flags & READ_ONLY),
        bool(flags & IS_COPIED),
    )


# ---- the other direction ----------------------------------------------------------------------------------------------

_exported: dict[int, tuple[Any, ...]] = {}  # address of a managed tensor -> itself and what it needs, until its deleter
_untaken: dict[int, Any] = {}  # address of a managed tensor -> its capsule, until a consumer has renamed that


def _forget(managed: int | None) -> None:
    _exported.pop(managed or 0, None)


_delete = _Deleter(_forget)


def _holders(capsules: dict[int, Any], address: int) -> int:
    capsule = capsules[address]
    return sys.getrefcount(capsule)


_NO_OTHER_HOLDER = _holders({0: object()}, 0)


_lock = threading.Lock()  # of _untaken


def _sweep() -> None:
    """Instead of a destructor in every capsule, which could run when Python no longer can: a capsule that nobody else
    holds will never be consumed."""
    for address in list(_untaken):
        consumed = _capsule_name(_untaken[address]) not in (PLAIN, VERSIONED)
        if consumed or _holders(_untaken, address) == _NO_OTHER_HOLDER:
            del _untaken[address]
            if not consumed:
                _forget(address)


def make(tensor: Tensor, owner: object, versioned: bool) -> Any:
    """A capsule over memory that `owner` keeps."""
    shape = (ctypes.c_int64 * max(len(tensor.shape), 1))(*tensor.shape)
    strides = (ctypes.c_int64 * max(len(tensor.shape), 1))(*(tensor.strides or ()))
    managed: DLManagedTensor | DLManagedTensorVersioned
    if versioned:
        managed = DLManagedTensorVersioned(major=1, minor=0, flags=READ_ONLY if tensor.readonly else 0)
    else:
        managed = DLManagedTensor()
    managed.deleter = _delete
    out = managed.tensor
    out.data = tensor.pointer
    out.device_type, out.device_id = tensor.device
    out.ndim = len(tensor.shape)
    out.code, out.bits, out.lanes = tensor.code, tensor.bits, tensor.lanes
    out.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
    out.strides = ctypes.cast(strides, ctypes.POINTER(ctypes.c_int64))
    address = ctypes.addressof(managed)
    capsule = _capsule_new(address, VERSIONED if versioned else PLAIN, None)
    with _lock:
        _sweep()
        _exported[address] = (managed, shape, strides, owner)
        _untaken[address] = capsule
    return capsule


@atexit.register
def _leave_to_readers() -> None:
    """Tensors that others still hold may die when Python can no longer run the deleter: it is not called then, and the
    memory stays until the process ends."""
    for entry in _exported.values():
        entry[0].deleter = _Deleter()
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(entry))
