# SPDX-License-Identifier: Apache-2.0
"""Arrays of any library as the C interface wants them, without a copy: and the library's own arrays for others."""

from __future__ import annotations

import ctypes
import math
from typing import Any, NamedTuple

from . import _dlpack
from ._errors import ArrayError
from ._stream import LEGACY, driver, order_streams, stream_pointer
from ._types import DType, Status


class _Element(NamedTuple):
    bytes: int
    code: int  # DLPack: 0 int, 1 uint, 2 float, 4 bfloat, 10 e4m3fn
    typestr: str  # of the array interfaces; V is how ml_dtypes names what numpy lacks
    format: str  # of the buffer protocol; empty where it has none


_ELEMENTS = {
    "f32": _Element(4, 2, "<f4", "f"),
    "f16": _Element(2, 2, "<f2", "e"),
    "bf16": _Element(2, 4, "<V2", ""),
    "e4m3": _Element(1, 10, "|V1", ""),
    "i8": _Element(1, 0, "|i1", "b"),
    "i16": _Element(2, 0, "<i2", "h"),
    "i32": _Element(4, 0, "<i4", "i"),
    "i64": _Element(8, 0, "<i8", "q"),
    "u8": _Element(1, 1, "|u1", "B"),
    "u16": _Element(2, 1, "<u2", "H"),
    "u32": _Element(4, 1, "<u4", "I"),
    "u64": _Element(8, 1, "<u8", "Q"),
}
_BY_CODE = {(e.code, e.bytes * 8): name for name, e in _ELEMENTS.items()}
_BY_TYPESTR = {e.typestr: name for name, e in _ELEMENTS.items()} | {"<V1": "e4m3", "|V2": "bf16"}
_BY_FORMAT = {e.format: name for name, e in _ELEMENTS.items() if e.format} | {"l": "i64", "L": "u64", "c": "u8"}
# Types that numpy and older exchanges lack may come as their bits.
_AS_BITS = {"bf16": ("u16", "i16"), "f16": ("u16", "i16"), "e4m3": ("u8", "i8")}
_LONG_NAMES = {"float32": "f32", "float": "f32", "float16": "f16", "half": "f16", "bfloat16": "bf16"} | {
    "float8_e4m3fn": "e4m3"
}


def dtype_of(dtype: Any) -> DType:
    """DType from itself, from "f32", "float32" ..., or from a dtype of numpy or torch."""
    if isinstance(dtype, int):
        return DType(dtype)
    name = dtype if isinstance(dtype, str) else getattr(dtype, "name", getattr(dtype, "__name__", str(dtype)))
    name = name.rpartition(".")[2].lower()
    try:
        return DType[_LONG_NAMES.get(name, name).upper()]
    except KeyError:
        raise ValueError(f"{dtype!r} is no element type of this library: f32, f16, bf16 or e4m3") from None


def element_name(dtype: DType) -> str:
    return dtype.name.lower()


def element_bytes(dtype: DType) -> int:
    return _ELEMENTS[element_name(dtype)].bytes


def refuse(message: str, status: Status = Status.INVALID_ARGUMENT) -> ArrayError:
    return ArrayError(status, message)


class Array:
    """Typed memory with a shape: what asarray() makes of other libraries' arrays, and what results are.

    Others read it without a copy: numpy.asarray(array), torch.from_dlpack(array), cupy.asarray(array), memoryview()
    of its .memoryview(). An array keeps its memory alive.
    """

    __slots__ = ("device", "dtype", "owner", "pointer", "readonly", "shape", "stream", "strides")

    def __init__(
        self,
        pointer: int,
        shape: tuple[int, ...],
        dtype: str,
        *,
        device: tuple[int, int] = (_dlpack.CPU, 0),
        strides: tuple[int, ...] | None = None,
        readonly: bool = False,
        owner: object = None,
        stream: int = 0,
    ) -> None:
        """pointer: address of the first element. dtype: "f32", "bf16", "i32" ... strides: in bytes, None = dense.
        device: DLPack's type and number, (1, 0) the CPU, (2, n) CUDA. owner: kept alive. stream: which wrote it last.
        """
        if dtype not in _ELEMENTS:
            raise ValueError(f"dtype {dtype!r} is none of {', '.join(_ELEMENTS)}")
        self.pointer = pointer
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self.strides = dense_strides(shape, _ELEMENTS[dtype].bytes) if strides is None else strides
        self.readonly = readonly
        self.owner = owner
        self.stream = stream

    def __repr__(self) -> str:
        return f"Array({self.dtype}{list(self.shape)} on {device_name(self.device)})"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without dimensions has no length")
        return self.shape[0]

    @property
    def itemsize(self) -> int:
        return _ELEMENTS[self.dtype].bytes

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * self.itemsize

    @property
    def is_dense(self) -> bool:
        return dense_from(self, 0)

    def reshape(self, *shape: int) -> Array:
        """The same memory in another shape."""
        if not self.is_dense or math.prod(shape) != math.prod(self.shape) or min(shape, default=0) < 0:
            raise refuse(f"{self!r} cannot have the shape {list(shape)}")
        return Array(
            self.pointer,
            shape,
            self.dtype,
            device=self.device,
            readonly=self.readonly,
            owner=self,
            stream=self.stream,
        )

    def memoryview(self) -> memoryview:
        """The elements (bf16 and e4m3: their bits) of a dense array in host memory."""
        if self.device[0] == _dlpack.CUDA:
            raise BufferError(f"{self!r} is not in host memory")
        if not self.is_dense:
            raise BufferError(f"{self!r} is not dense: strides {self.strides}")
        memory = _kept_type(self.nbytes).from_address(self.pointer or ctypes.addressof(_NOTHING))
        memory.owner = self
        elements: Any = memoryview(memory).cast("B")
        form = {"bf16": "H", "e4m3": "B"}.get(self.dtype, _ELEMENTS[self.dtype].format)
        elements = elements.cast(form) if 0 in self.shape else elements.cast(form, self.shape)
        view: memoryview = elements.toreadonly() if self.readonly else elements
        return view

    def tolist(self) -> list[Any]:
        """The elements as nested lists."""
        return self.memoryview().tolist()

    # ---- protocols; an array must not offer those of another device ---------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        host = self.device[0] != _dlpack.CUDA
        if name == ("__array_interface__" if host else "__cuda_array_interface__"):
            interface = {
                "version": 3,
                "shape": self.shape,
                "typestr": _ELEMENTS[self.dtype].typestr,
                "data": (self.pointer, self.readonly),
                "strides": None if self.is_dense else self.strides,
            }
            return interface if host else interface | {"stream": self.stream or LEGACY}
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        if copy or (dl_device is not None and tuple(dl_device) != self.device):
            raise BufferError(f"{self!r} is given as it is, without a copy")
        if any(stride % self.itemsize for stride in self.strides):
            raise BufferError(f"{self!r} has strides that are no whole elements: {self.strides}")
        if self.device[0] == _dlpack.CUDA and stream != -1:
            order_streams(self.device[1], self.stream, stream or LEGACY)
        tensor = _dlpack.Tensor(
            self.pointer,
            self.device,
            _ELEMENTS[self.dtype].code,
            self.itemsize * 8,
            1,
            self.shape,
            tuple(stride // self.itemsize for stride in self.strides),
            self.readonly,
            False,
        )
        return _dlpack.make(tensor, self, versioned=max_version is not None and max_version[0] >= 1)


_NOTHING = ctypes.c_char()


def _kept_type(size: int) -> Any:
    """A ctypes array type whose instances may have attributes: the owner."""
    return type("Memory", (ctypes.c_char * size,), {})


def device_name(device: tuple[int, int]) -> str:
    name = _dlpack.DEVICE_NAMES.get(device[0], f"device type {device[0]}")
    return name if device[0] in (_dlpack.CPU, _dlpack.CUDA_HOST) else f"{name}:{device[1]}"


def dense_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides: list[int] = []
    step = itemsize
    for extent in reversed(shape):
        strides.append(step)
        step *= max(extent, 1)
    return tuple(reversed(strides))


def dense_from(array: Array, first: int) -> bool:
    """Whether the dimensions from `first` on lie one behind the other. Strides of single elements say nothing."""
    shape, strides = array.shape[first:], array.strides[first:]
    if 0 in array.shape:
        return True
    wanted = dense_strides(shape, array.itemsize)
    return all(n == 1 or s == w for n, s, w in zip(shape, strides, wanted))


def empty(shape: int | tuple[int, ...], dtype: str = "u8", *, align: int = 256) -> Array:
    """Host memory for the CPU backend, aligned as workspaces must be; contents are zeros.

    shape: of the array, or a number of elements. dtype: "u8", "f32", "f16", "bf16", "e4m3", "i32", "i64" ...
    """
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if dtype not in _ELEMENTS:
        raise ValueError(f"dtype {dtype!r} is none of {', '.join(_ELEMENTS)}")
    memory = bytearray(math.prod(shape) * _ELEMENTS[dtype].bytes + align)
    hold = (ctypes.c_char * len(memory)).from_buffer(memory)
    return Array(-(-ctypes.addressof(hold) // align) * align, shape, dtype, owner=hold)


def asarray(source: Any, *, stream: Any = None, name: str = "array") -> Array:
    """Any array as an Array over the same memory.

    source: an Array, or an object with __array_interface__ (numpy), __dlpack__ (torch, JAX, CuPy ...),
    __cuda_array_interface__ (Numba ...) or the buffer protocol (array.array, memoryview ...).
    stream: where it will be used. What its producer has enqueued on other streams comes first, as both CUDA protocols
    want; later writes are for the caller to order.
    """
    return as_array(source, stream, name, "one of " + ", ".join(_ELEMENTS))


def as_array(source: Any, stream: Any, name: str, needed: str) -> Array:
    """asarray(), which says what element type is needed where there is one that the library does not know."""
    if isinstance(source, Array):
        return source
    if hasattr(source, "__array_interface__"):
        return _from_interface(source, source.__array_interface__, (_dlpack.CPU, 0), name, needed)
    if hasattr(source, "__dlpack__") and hasattr(source, "__dlpack_device__"):
        return _from_dlpack(source, stream, name, needed)
    if hasattr(source, "__cuda_array_interface__"):
        return _from_cuda_interface(source, stream, name, needed)
    try:
        view = memoryview(source)
    except TypeError:
        raise TypeError(
            f"{name}: {type(source).__name__} has none of __dlpack__, __array_interface__, __cuda_array_interface__ "
            "and the buffer protocol"
        ) from None
    return _from_buffer(source, view, name, needed)


def _from_dlpack(source: Any, stream: Any, name: str, needed: str) -> Array:
    device = source.__dlpack_device__()
    on_cuda = device[0] in (_dlpack.CUDA, _dlpack.CUDA_MANAGED)
    pointer = stream_pointer(stream)
    try:
        capsule = _dlpack.ask(source, (pointer or LEGACY) if on_cuda else None)
    except BufferError as error:  # for one, a tensor of torch that requires gradients
        raise refuse(f"{name} is not given by its owner: {error}") from error
    tensor = _dlpack.read(capsule)
    dtype = _BY_CODE.get((tensor.code, tensor.bits))
    if dtype is None or tensor.lanes != 1:
        found = f"code {tensor.code}, {tensor.bits} bits, {tensor.lanes} lanes"
        raise refuse(f"{name} has DLPack type ({found}); needed: {needed}")
    if tensor.copied:
        raise refuse(f"{name}: its producer made a copy, which the library would write in vain")
    strides = None if tensor.strides is None else tuple(s * _ELEMENTS[dtype].bytes for s in tensor.strides)
    return Array(
        tensor.pointer,
        tensor.shape,
        dtype,
        device=tensor.device,
        strides=strides,
        readonly=tensor.readonly,
        owner=(source, capsule),
        stream=pointer,
    )


def _from_interface(source: Any, interface: dict[str, Any], device: tuple[int, int], name: str, needed: str) -> Array:
    """Both array interfaces, version 2 or 3."""
    if interface.get("mask") is not None:
        raise refuse(f"{name} has a mask")
    dtype = _BY_TYPESTR.get(interface["typestr"])
    if dtype is None:
        raise refuse(f"{name} has elements of type {interface['typestr']!r}; needed: {needed}")
    data = interface.get("data")
    if not isinstance(data, tuple):
        buffer = source if data is None else data
        view = memoryview(buffer)
        data = (_address(view) + interface.get("offset", 0), view.readonly)
        source = (source, view)
    strides = interface.get("strides")
    return Array(
        data[0] or 0,
        tuple(interface["shape"]),
        dtype,
        device=device,
        strides=None if strides is None else tuple(strides),
        readonly=bool(data[1]),
        owner=source,
    )


def _from_cuda_interface(source: Any, stream: Any, name: str, needed: str) -> Array:
    interface = source.__cuda_array_interface__
    pointer = interface["data"][0]
    try:  # the protocol does not name the device
        device = driver().device_of(pointer) if pointer else 0
    except RuntimeError as error:
        raise refuse(f"{name}: {pointer:#x} is not in the memory of a GPU: {error}") from None
    array = _from_interface(source, interface, (_dlpack.CUDA, device), name, needed)
    array.stream = stream_pointer(stream)
    producer = interface.get("stream")
    if producer == 0:
        raise refuse(f"{name}: stream 0 in __cuda_array_interface__ is ambiguous and not allowed")
    if producer is not None and interface["version"] >= 3:
        order_streams(array.device[1], producer, array.stream)
    return array


def _from_buffer(source: Any, view: memoryview, name: str, needed: str) -> Array:
    dtype = _BY_FORMAT.get(view.format.lstrip("<=@"))
    if dtype is None or _ELEMENTS[dtype].bytes != view.itemsize:
        raise refuse(f"{name} has elements of format {view.format!r}; needed: {needed}")
    return Array(
        _address(view),
        tuple(view.shape or ()),
        dtype,
        strides=tuple(view.strides or ()),
        readonly=view.readonly,
        owner=(source, view),
    )


class _PyBuffer(ctypes.Structure):
    """Py_buffer."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


_get_buffer = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p, ctypes.c_int)(
    ("PyObject_GetBuffer", ctypes.pythonapi)
)
_release_buffer = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("PyBuffer_Release", ctypes.pythonapi))


def _address(view: memoryview) -> int:
    """Address of the first element; ctypes itself would insist on writable memory."""
    if view.suboffsets:
        raise refuse("a buffer of pointers to rows is not one piece of memory")
    buffer = _PyBuffer()
    _get_buffer(view, ctypes.byref(buffer), 0x11C)  # PyBUF_FULL_RO
    address = buffer.buf or 0
    _release_buffer(ctypes.byref(buffer))
    return int(address)


# ---- arguments of operations ------------------------------------------------------------------------------------------


class Taker:
    """Takes arrays as arguments for one device and stream, and keeps them."""

    def __init__(self, device: tuple[int, int], stream: Any = None) -> None:
        self.device = device
        self.stream = stream
        self.kept: list[object] = []

    def take(
        self, source: Any, name: str, dtype: str, shape: tuple[int | None, ...], *, written: bool = False, free: int = 0
    ) -> Array:
        """The array, after comparing its type, shape (None = any extent), device and protection with what is wanted.
        The first `free` strides may be any; the dimensions behind them must be dense."""
        needed = dtype + "".join(f" or {bits}" for bits in _AS_BITS.get(dtype, ()))
        array = as_array(source, self.stream, name, needed)
        if array.dtype != dtype and array.dtype not in _AS_BITS.get(dtype, ()):
            raise refuse(f"{name} has elements of type {array.dtype}; needed: {needed}")
        wanted = "[" + ", ".join("any" if n is None else str(n) for n in shape) + "]"
        if len(array.shape) != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape)):
            raise refuse(f"{name} has the shape {list(array.shape)}; needed: {wanted}")
        return self.check(array, name, written, free)

    def check(self, array: Array, name: str, written: bool, free: int) -> Array:
        self._check_device(array, name)
        if written and array.readonly:
            raise refuse(f"{name} is read-only and would be written")
        if not dense_from(array, free):
            which = "dense" if not free else f"dense behind dimension {free - 1}"
            raise refuse(
                f"{name} has the strides {array.strides} (bytes) of shape {list(array.shape)}; needed: {which}"
            )
        for extent, stride in zip(array.shape[:free], array.strides[:free]):
            if extent > 1 and 0 not in array.shape and (stride <= 0 or stride % array.itemsize):
                raise refuse(f"{name} has a stride of {stride} bytes; needed: a positive number of whole elements")
        self.kept.append(array)
        return array

    def _check_device(self, array: Array, name: str) -> None:
        kind = array.device[0]
        if self.device[0] == _dlpack.CPU:
            fits = kind in (_dlpack.CPU, _dlpack.CUDA_HOST, _dlpack.CUDA_MANAGED)
        else:
            fits = array.device == self.device or kind == _dlpack.CUDA_MANAGED
        if not fits and 0 not in array.shape:
            raise refuse(f"{name} is on {device_name(array.device)}; needed: {device_name(self.device)}")

    def optional(self, source: Any, *arguments: Any, **options: Any) -> Array | None:
        return None if source is None else self.take(source, *arguments, **options)

    def workspace(self, source: Any, name: str = "workspace") -> tuple[int | None, int]:
        """Address and bytes of dense memory of any type."""
        if source is None:
            return None, 0
        array = asarray(source, stream=self.stream, name=name)
        self.check(array, name, written=True, free=0)
        return array.pointer or None, array.nbytes


def address(array: Array | None) -> int | None:
    return None if array is None else array.pointer or None


def row_stride(array: Array | None) -> int:
    """Elements from row to row; 0 = dense, also where there is no second row to tell."""
    return row_bytes(array) // array.itemsize if array is not None else 0


def row_bytes(array: Array | None) -> int:
    if array is None or array.shape[0] <= 1 or 0 in array.shape:
        return 0
    return array.strides[0]
