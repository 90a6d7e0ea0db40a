# SPDX-License-Identifier: Apache-2.0
"""Arrays of others without a copy: DLPack from a hand-made producer, the array interfaces, buffers; and the way back."""

import array
import ctypes
import gc
import subprocess
import sys
from typing import Any

import indexcache as ic
import numpy as np
import pytest
from indexcache import _dlpack, _stream
from indexcache._array import Taker
from indexcache._stream import Driver, stream_pointer


class Producer:
    """Exports memory with every detail of a DLPack tensor chosen by hand."""

    def __init__(self, memory: Any, shape: tuple[int, ...], **details: Any) -> None:
        self.memory = memory
        self.shape = shape
        self.details = details
        self.asked: list[dict[str, Any]] = []
        self.device = details.get("device", (1, 0))

    def __dlpack_device__(self) -> tuple[int, int]:
        device: tuple[int, int] = self.device
        return device

    def __dlpack__(self, **arguments: Any) -> object:
        self.asked.append(arguments)
        versioned = self.details.get("versioned", True)
        if not versioned and "max_version" in arguments:
            raise TypeError("unexpected keyword argument 'max_version'")
        managed: Any = _dlpack.DLManagedTensorVersioned() if versioned else _dlpack.DLManagedTensor()
        if versioned:
            managed.major, managed.minor = self.details.get("version", (1, 0))
            managed.flags = self.details.get("flags", 0)
        self.deleted = 0

        def delete(_managed: int) -> None:
            self.deleted += 1

        extents = (ctypes.c_int64 * 8)(*self.shape)
        strides = self.details.get("strides")
        steps = (ctypes.c_int64 * 8)(*(strides or ()))
        managed.deleter = deleter = type(managed).deleter and _dlpack._Deleter(delete)
        tensor = managed.tensor
        tensor.data = ctypes.addressof(self.memory)
        tensor.byte_offset = self.details.get("byte_offset", 0)
        tensor.device_type, tensor.device_id = self.device
        tensor.ndim = len(self.shape)
        tensor.code, tensor.bits, tensor.lanes = self.details.get("dtype", (2, 32, 1))
        tensor.shape = ctypes.cast(extents, ctypes.POINTER(ctypes.c_int64))
        if strides is not None:
            tensor.strides = ctypes.cast(steps, ctypes.POINTER(ctypes.c_int64))
        self.kept = (managed, extents, steps, deleter)
        name = self.details.get("name", _dlpack.VERSIONED if versioned else _dlpack.PLAIN)
        return _dlpack._capsule_new(ctypes.addressof(managed), name, ctypes.cast(self._release, ctypes.c_void_p))

    # What a producer's capsule does when nobody has consumed it.
    @property
    def _release(self) -> Any:
        def destroy(capsule: int) -> None:
            managed, *_, deleter = self.kept
            deleter(ctypes.addressof(managed))

        self.destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(destroy)
        return self.destructor


MEMORY = (ctypes.c_float * 24)(*range(24))


@pytest.mark.parametrize("versioned", [True, False])
def test_offset_shape_and_strides_are_honoured(versioned: bool) -> None:
    producer = Producer(MEMORY, (2, 3), strides=(8, 1), byte_offset=4, versioned=versioned)
    taken = ic.asarray(producer)
    assert taken.pointer == ctypes.addressof(MEMORY) + 4
    assert (taken.shape, taken.strides, taken.dtype, taken.readonly) == ((2, 3), (32, 4), "f32", False)
    assert np.asarray(taken).tolist() == [[1, 2, 3], [9, 10, 11]]
    assert np.from_dlpack(taken).tolist() == [[1, 2, 3], [9, 10, 11]]
    assert "stream" not in producer.asked[-1]  # the CPU has none
    gc.collect()
    assert producer.deleted == 0
    del taken
    gc.collect()
    assert producer.deleted == 1


def test_strides_that_are_not_given_mean_dense() -> None:
    taken = ic.asarray(Producer(MEMORY, (2, 12)))
    assert taken.strides == (48, 4) and taken.is_dense
    assert taken.reshape(4, 6).tolist()[1] == [6, 7, 8, 9, 10, 11]
    scalar = ic.asarray(Producer(MEMORY, ()))
    assert scalar.shape == () and scalar.is_dense


@pytest.mark.parametrize(
    ("dtype", "name"),
    [((2, 32, 1), "f32"), ((2, 16, 1), "f16"), ((4, 16, 1), "bf16"), ((10, 8, 1), "e4m3"), ((0, 32, 1), "i32"),
     ((0, 64, 1), "i64"), ((1, 8, 1), "u8")],
)  # fmt: skip
def test_element_types(dtype: tuple[int, int, int], name: str) -> None:
    taken = ic.asarray(Producer(MEMORY, (2,), dtype=dtype))
    assert taken.dtype == name
    again = _dlpack.read(taken.__dlpack__(max_version=(1, 0)))
    assert (again.code, again.bits, again.lanes) == dtype


@pytest.mark.parametrize(
    ("details", "error", "message"),
    [
        ({"dtype": (2, 64, 1)}, ic.ArrayError, "code 2, 64 bits, 1 lanes"),
        ({"dtype": (2, 32, 4)}, ic.ArrayError, "4 lanes"),
        ({"flags": _dlpack.IS_COPIED}, ic.ArrayError, "made a copy"),
        ({"version": (2, 0)}, TypeError, "version 2.0"),
        ({"name": b"used_dltensor_versioned"}, TypeError, "has it been consumed"),
    ],
)
def test_what_cannot_be_used_is_refused(details: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        ic.asarray(Producer(MEMORY, (2,), **details))


def test_a_producer_that_refuses_is_named(context: ic.Context) -> None:
    class Refusing(Producer):
        def __dlpack__(self, **arguments: Any) -> object:
            raise BufferError("it requires gradients")

    with pytest.raises(ic.ArrayError, match="x is not given by its owner: it requires gradients"):
        context._taker().take(Refusing(MEMORY, (2,)), "x", "f32", (2,))


def test_protection_and_device_are_looked_at(context: ic.Context) -> None:
    taker = context._taker()
    protected = Producer(MEMORY, (2,), flags=_dlpack.READ_ONLY)
    taker.take(protected, "x", "f32", (2,))
    with pytest.raises(ic.ArrayError, match="x is read-only"):
        taker.take(protected, "x", "f32", (2,), written=True)
    for device, name in (((2, 1), "cuda:1"), ((10, 0), "rocm:0"), ((99, 0), "device type 99:0")):
        with pytest.raises(ic.ArrayError, match=f"x is on {name}; needed: cpu"):
            taker.take(Producer(MEMORY, (2,), device=device), "x", "f32", (2,))
    for device in ((3, 0), (13, 0)):  # pinned and managed memory can be read by the CPU
        taker.take(Producer(MEMORY, (2,), device=device), "x", "f32", (2,))
    cuda = Taker((2, 1))
    cuda.take(Producer(MEMORY, (2,), device=(2, 1)), "x", "f32", (2,))
    for device in ((1, 0), (2, 0), (3, 0)):
        with pytest.raises(ic.ArrayError, match="needed: cuda:1"):
            cuda.take(Producer(MEMORY, (2,), device=device), "x", "f32", (2,))


def test_a_cuda_producer_is_told_the_stream() -> None:
    for stream, told in ((None, 1), (0, 1), (77, 77)):
        producer = Producer(MEMORY, (2,), device=(2, 0))
        assert ic.asarray(producer, stream=stream).device == (2, 0)
        assert producer.asked == [{"stream": told, "max_version": (1, 1), "copy": False}]


class FakeDriver:
    """Records what would be asked of libcuda."""

    def __init__(self, fails: str = "") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails = fails
        self.device = 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == "cuPointerGetAttribute":
                arguments[0]._obj.value = self.device
            self.calls.append((name, *(a.value for a in arguments if isinstance(a, ctypes.c_void_p))))
            return 700 if name == self.fails else 0

        return call


def test_cuda_array_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        def __init__(self, **changes: Any) -> None:
            self.__cuda_array_interface__ = {
                "version": 3,
                "shape": (2, 3),
                "typestr": "<f4",
                "data": (0x7000, False),
                "strides": (32, 4),
                "stream": 5,
            } | changes

    fake = FakeDriver()
    fake.device = 3
    monkeypatch.setattr("indexcache._stream._driver", Driver(fake))
    orders: list[tuple[int, int, int]] = []
    monkeypatch.setattr("indexcache._array.order_streams", lambda *order: orders.append(order))
    taken = ic.asarray(Other(), stream=9)
    assert (taken.pointer, taken.shape, taken.strides, taken.device) == (0x7000, (2, 3), (32, 4), (2, 3))
    assert orders == [(3, 5, 9)]
    ic.asarray(Other(stream=None), stream=9)
    ic.asarray(Other(version=2), stream=9)
    assert len(orders) == 1  # nothing to wait for
    for changes, message in (({"stream": 0}, "ambiguous"), ({"mask": 1}, "mask"), ({"typestr": "<f8"}, "'<f8'")):
        with pytest.raises(ic.ArrayError, match=message):
            ic.asarray(Other(**changes))
    fake.fails = "cuPointerGetAttribute"
    with pytest.raises(ic.ArrayError, match="0x7000 is not in the memory of a GPU"):
        ic.asarray(Other())
    assert ic.asarray(Other(shape=(0, 3), data=(0, False))).device == (2, 0)
    given = taken.__cuda_array_interface__
    assert given["data"] == (0x7000, False) and given["stream"] == 9 and given["strides"] == (32, 4)
    assert not hasattr(taken, "__array_interface__")
    assert not hasattr(ic.empty(4), "__cuda_array_interface__")
    orders.clear()
    taken.__dlpack__(stream=11, max_version=(1, 0))
    taken.__dlpack__(stream=-1)
    assert orders == [(3, 9, 11)]
    with pytest.raises(BufferError, match="not in host memory"):
        taken.memoryview()


def test_streams_are_ordered_by_an_event() -> None:
    fake = FakeDriver()
    Driver(fake).order(0, 5, 9)
    names = [name for name, *_ in fake.calls]
    assert names == ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuEventCreate",
                     "cuEventRecord", "cuStreamWaitEvent", "cuEventDestroy_v2", "cuCtxPopCurrent_v2",
                     "cuDevicePrimaryCtxRelease_v2"]  # fmt: skip
    assert fake.calls[5][-1] == 5 and fake.calls[6][1] == 9
    fake = FakeDriver(fails="cuStreamWaitEvent")
    with pytest.raises(RuntimeError, match="cuStreamWaitEvent failed with CUDA error 700"):
        Driver(fake).order(0, 5, 9)
    assert [name for name, *_ in fake.calls][-3:] == ["cuEventDestroy_v2", "cuCtxPopCurrent_v2",
                                                      "cuDevicePrimaryCtxRelease_v2"]  # fmt: skip
    _stream.order_streams(0, 0, 1)  # one stream under two names: no driver needed


def test_streams_of_other_libraries() -> None:
    class Torch:
        cuda_stream = 123

    class CuPy:
        ptr = 124

    class Core:
        def __cuda_stream__(self) -> tuple[int, int]:
            return 0, 125

    assert [stream_pointer(s) for s in (None, 0, 7, 2**63, Torch(), CuPy(), Core())] == [0, 0, 7, 2**63, 123, 124, 125]
    for wrong in ("7", 7.0, True, object()):
        with pytest.raises(TypeError):
            stream_pointer(wrong)


def test_numpy_both_ways() -> None:
    source = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    taken = ic.asarray(source[:, 1:, ::2])
    assert np.asarray(taken).tolist() == source[:, 1:, ::2].tolist()
    assert np.shares_memory(np.asarray(taken), source)
    source.flags.writeable = False
    assert ic.asarray(source).readonly and not np.asarray(ic.asarray(source)).flags.writeable
    assert not np.from_dlpack(ic.asarray(source)).flags.writeable
    for name in ("f32", "f16", "i32", "i64", "u8", "u16", "u32", "u64", "i8", "i16"):
        memory = ic.empty((2, 3), name)
        assert np.asarray(memory).itemsize == memory.itemsize and np.asarray(memory).shape == (2, 3)
        assert np.from_dlpack(memory).dtype == np.asarray(memory).dtype
        assert ic.asarray(np.asarray(memory)).dtype == name
    assert ic.asarray(np.zeros(3, "V2")).dtype == "bf16"
    assert ic.asarray(np.zeros((0, 4), np.float32)).is_dense


def test_buffers() -> None:
    numbers = array.array("f", range(12))
    taken = ic.asarray(memoryview(numbers).cast("B").cast("f", (3, 4)))
    assert taken.tolist()[2] == [8, 9, 10, 11] and not taken.readonly
    taken.memoryview()[0, 0] = 5
    assert numbers[0] == 5
    assert ic.asarray(b"abc").readonly and ic.asarray(b"abc").dtype == "u8"
    assert ic.asarray(bytearray(8)).pointer % 8 == 0
    assert ic.asarray(array.array("q", [1])).dtype == "i64"
    with pytest.raises(BufferError):  # held by the array
        numbers.append(1)
    with pytest.raises(ic.ArrayError, match="format 'd'"):
        ic.asarray(array.array("d", [1]))
    with pytest.raises(TypeError, match="list has none of __dlpack__"):
        ic.asarray([1, 2])
    with pytest.raises(TypeError):
        ic.asarray(0x7000)  # an address says nothing of what is there: ic.Array(...) does


def test_memory_is_kept_by_those_who_read_it() -> None:
    memory = ic.empty((4, 4), "f32")
    assert memory.pointer % 256 == 0
    readers: list[Any] = [
        np.asarray(memory),
        np.from_dlpack(memory),
        memory.memoryview(),
        memory.reshape(16).memoryview(),
    ]
    readers[0][:] = 3
    before = len(_dlpack._exported)
    del memory
    gc.collect()
    trash = [bytearray(b"\7" * 320) for _ in range(100)]
    assert all(np.asarray(reader).ravel().tolist() == [3.0] * 16 for reader in readers) and trash
    readers.clear()
    gc.collect()
    assert len(_dlpack._exported) == before - 1


def test_capsules_that_nobody_takes_leave_nothing() -> None:
    memory = ic.empty(8)
    _dlpack._sweep()
    before = len(_dlpack._exported)
    for version in (None, (1, 0)):
        capsule = memory.__dlpack__(max_version=version)
        for _ in range(3):
            _dlpack._sweep()
            assert len(_dlpack._exported) == before + 1 and _dlpack.read(capsule).pointer == memory.pointer
        del capsule
        _dlpack._sweep()
        assert len(_dlpack._exported) == before and not _dlpack._untaken
    for _ in range(100):  # a consumer that fails
        memory.__dlpack__()
    assert len(_dlpack._exported) == before + 1
    for wrong in ({"copy": True}, {"dl_device": (2, 0)}):
        with pytest.raises(BufferError, match="without a copy"):
            memory.__dlpack__(**wrong)


def test_readers_may_outlive_the_interpreter() -> None:
    code = (
        "import indexcache as ic, numpy as np, sys\n"
        "memory = ic.empty(8)\n"
        "sys.kept = [np.from_dlpack(memory), np.asarray(memory), memory.__dlpack__(), memory.__dlpack__(max_version=(1, 0))]\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0 and not result.stderr, result.stderr
