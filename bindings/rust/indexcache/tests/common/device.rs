// SPDX-License-Identifier: Apache-2.0
//! Where tests run: INDEXCACHE_TEST_BACKEND is cpu, which is the default, or cuda. Arrays in that backend's memory, which
//! on a GPU is the driver's own, and a stream of each test's own, ordered with no other.
use indexcache::{
    Backend, Buffer, Context, ContextDesc, ContextFlags, DeviceMut, DevicePtr, Element, HostBuffer, IndexView, Stream,
};
use std::ffi::{c_char, c_int, c_uint, c_void, CStr};
use std::ops::Deref;
use std::sync::OnceLock;

pub fn backend() -> Backend {
    match std::env::var("INDEXCACHE_TEST_BACKEND").as_deref() {
        Err(_) | Ok("cpu") => Backend::CPU,
        Ok("cuda") => Backend::CUDA,
        Ok(other) => panic!("INDEXCACHE_TEST_BACKEND is {other}, not cpu or cuda"),
    }
}

pub fn context() -> Context {
    Context::new(&ContextDesc::new().backend(backend())).unwrap()
}

/// A context that says at once what an operation found in device memory, as the CPU always does.
pub fn checking_context() -> Context {
    Context::new(&ContextDesc::new().backend(backend()).flags(ContextFlags::CHECK_VALUES)).unwrap()
}

/// This test's stream: each test has a thread.
pub fn stream() -> Stream {
    thread_local!(static STREAM: Stream = new_stream());
    STREAM.with(|stream| *stream)
}

/// Numbers of the host, and the same in the backend's memory; on the CPU that is one array.
pub struct Array<T> {
    host: Vec<T>,
    device: Option<Memory>,
}

pub fn array<T: Element>(host: impl Into<Vec<T>>) -> Array<T> {
    let host = host.into();
    let device = Memory::new(std::mem::size_of_val(host.as_slice()));
    if let Some(memory) = &device {
        memory.write(0, &host);
    }
    Array { host, device }
}

impl<T: Element> Array<T> {
    fn address(&self, first: usize) -> *const T {
        let host = self.host[first..].as_ptr();
        self.device.as_ref().map_or(host, |memory| memory.address(first))
    }

    /// From an element on.
    pub fn at(&self, first: usize) -> DevicePtr<'_, T> {
        // SAFETY: memory of the array, borrowed as long as the pointer.
        unsafe { DevicePtr::from_raw(self.address(first)) }
    }

    /// From an element on, to be written.
    pub fn at_mut(&mut self, first: usize) -> DeviceMut<'_, T> {
        let host = self.host[first..].as_mut_ptr();
        // SAFETY: as above.
        unsafe {
            DeviceMut::from_raw(self.device.as_ref().map_or(host, |memory| memory.address::<T>(first).cast_mut()))
        }
    }

    /// What is there when this test's stream has finished.
    pub fn read(&mut self) -> &[T] {
        if let Some(memory) = &self.device {
            memory.read(&mut self.host);
        }
        &self.host
    }

    /// Changes some elements.
    pub fn put(&mut self, first: usize, values: &[T]) {
        self.host[first..][..values.len()].copy_from_slice(values);
        if let Some(memory) = &self.device {
            memory.write(first, values);
        }
    }
}

/// The host's side.
impl<T> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.host
    }
}

macro_rules! pointers {
    ($($element:ty)*) => { $(
        impl<'a> From<&'a Array<$element>> for DevicePtr<'a, $element> {
            fn from(array: &'a Array<$element>) -> Self {
                array.at(0)
            }
        }
        impl<'a> From<&'a Array<$element>> for DevicePtr<'a, c_void> {
            fn from(array: &'a Array<$element>) -> Self {
                array.at(0).into()
            }
        }
        impl<'a> From<&'a mut Array<$element>> for DeviceMut<'a, $element> {
            fn from(array: &'a mut Array<$element>) -> Self {
                array.at_mut(0)
            }
        }
        impl<'a> From<&'a mut Array<$element>> for DeviceMut<'a, c_void> {
            fn from(array: &'a mut Array<$element>) -> Self {
                array.at_mut(0).into()
            }
        }
    )* };
}
pointers!(f32 i32 i64 u32 u16);

/// Bytes of the backend's memory, for workspaces.
pub struct Scratch {
    host: HostBuffer,
    device: Option<Memory>,
}

pub fn scratch(size: usize) -> Scratch {
    let device = Memory::new(size);
    Scratch { host: HostBuffer::new(if device.is_some() { 0 } else { size }), device }
}

impl<'a> From<&'a mut Scratch> for Buffer<'a> {
    fn from(scratch: &'a mut Scratch) -> Self {
        match &scratch.device {
            // SAFETY: memory of the scratch, borrowed as long as the buffer.
            Some(memory) => unsafe { Buffer::from_raw(memory.address::<u8>(0).cast_mut().cast(), memory.size) },
            None => (&mut scratch.host).into(),
        }
    }
}

/// The valid indices of one row, wherever they are.
pub fn row(view: &IndexView<'_>, row: usize) -> Vec<i32> {
    device_row(view, view.indices(), row).unwrap_or_else(|| view.row(row).to_vec())
}

/// The scores of [`row`], when they are kept.
pub fn row_scores(view: &IndexView<'_>, row: usize) -> Option<Vec<f32>> {
    let scores = view.scores()?;
    device_row(view, scores, row).or_else(|| view.row_scores(row).map(<[f32]>::to_vec))
}

fn device_row<T: Element + Default>(view: &IndexView<'_>, rows: DevicePtr<'_, T>, row: usize) -> Option<Vec<T>> {
    let driver = driver()?;
    assert!(row < view.num_rows() as usize);
    let mut length = [0];
    // SAFETY: a row of the view's arrays.
    driver.download(&mut length, unsafe { view.lengths().as_ptr().add(row) });
    let mut values = vec![T::default(); length[0] as usize];
    // SAFETY: as above.
    driver.download(&mut values, unsafe { rows.as_ptr().add(row * view.row_stride() as usize) });
    Some(values)
}

/// Memory of a GPU.
struct Memory {
    address: u64,
    size: usize,
}

impl Memory {
    /// None on the CPU.
    fn new(size: usize) -> Option<Self> {
        let driver = driver()?;
        let mut address = 0;
        // SAFETY: an out parameter.
        check("cuMemAlloc", unsafe { (driver.allocate)(&mut address, size.max(1)) });
        Some(Self { address, size })
    }

    fn address<T>(&self, first: usize) -> *const T {
        (self.address as usize + first * std::mem::size_of::<T>()) as *const T
    }

    fn write<T: Element>(&self, first: usize, values: &[T]) {
        let (driver, size) = (driver().unwrap(), std::mem::size_of_val(values));
        let to = self.address::<T>(first) as u64;
        assert!(to + size as u64 <= self.address + self.size as u64);
        // SAFETY: inside of the memory; the values stay until the copy has been made.
        check("cuMemcpyHtoDAsync", unsafe { (driver.to_device)(to, values.as_ptr().cast(), size, raw_stream()) });
        driver.synchronize();
    }

    fn read<T: Element>(&self, values: &mut [T]) {
        assert!(std::mem::size_of_val(values) <= self.size);
        driver().unwrap().download(values, self.address(0));
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let driver = driver().unwrap();
        driver.synchronize();
        // SAFETY: nothing uses it any more.
        check("cuMemFree", unsafe { (driver.free)(self.address) });
    }
}

macro_rules! driver {
    ($($field:ident = $symbol:literal($($argument:ty),*);)*) => {
        /// The functions of libcuda.so.1 that the tests need.
        struct Driver {
            $($field: unsafe extern "C" fn($($argument),*) -> c_int,)*
        }

        impl Driver {
            fn open() -> Self {
                // SAFETY: the types are those of cuda.h.
                unsafe {
                    let library = dlopen(c"libcuda.so.1".as_ptr(), 2);
                    assert!(!library.is_null(), "libcuda.so.1 cannot be opened: no NVIDIA driver");
                    Self {
                        $($field: std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> c_int>(
                            find(library, $symbol),
                        ),)*
                    }
                }
            }
        }
    };
}

driver! {
    init = c"cuInit"(c_uint);
    device = c"cuDeviceGet"(*mut c_int, c_int);
    retain = c"cuDevicePrimaryCtxRetain"(*mut *mut c_void, c_int);
    use_context = c"cuCtxSetCurrent"(*mut c_void);
    create_stream = c"cuStreamCreate"(*mut *mut c_void, c_uint);
    wait = c"cuStreamSynchronize"(*mut c_void);
    allocate = c"cuMemAlloc_v2"(*mut u64, usize);
    free = c"cuMemFree_v2"(u64);
    to_device = c"cuMemcpyHtoDAsync_v2"(u64, *const c_void, usize, *mut c_void);
    to_host = c"cuMemcpyDtoHAsync_v2"(*mut c_void, u64, usize, *mut c_void);
}

extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

unsafe fn find(library: *mut c_void, symbol: &CStr) -> *mut c_void {
    // SAFETY: an open library and a name.
    let function = unsafe { dlsym(library, symbol.as_ptr()) };
    assert!(!function.is_null(), "libcuda.so.1 has no {symbol:?}");
    function
}

fn check(call: &str, result: c_int) {
    assert_eq!(result, 0, "{call} fails with this CUDA error");
}

/// The driver, with GPU 0 current on this thread; None on the CPU.
fn driver() -> Option<&'static Driver> {
    static OPENED: OnceLock<(Driver, usize)> = OnceLock::new();
    if backend() == Backend::CPU {
        return None;
    }
    let (driver, context) = OPENED.get_or_init(|| {
        let driver = Driver::open();
        let (mut device, mut context) = (0, std::ptr::null_mut());
        // SAFETY: out parameters.
        unsafe {
            check("cuInit", (driver.init)(0));
            check("cuDeviceGet", (driver.device)(&mut device, 0));
            check("cuDevicePrimaryCtxRetain", (driver.retain)(&mut context, device));
        }
        (driver, context as usize)
    });
    // SAFETY: a context that is never released.
    check("cuCtxSetCurrent", unsafe { (driver.use_context)(*context as *mut c_void) });
    Some(driver)
}

fn new_stream() -> Stream {
    let Some(driver) = driver() else { return Stream::DEFAULT };
    let mut stream = std::ptr::null_mut();
    // SAFETY: an out parameter; the stream lives as long as the process. 1: not ordered with the legacy stream.
    unsafe {
        check("cuStreamCreate", (driver.create_stream)(&mut stream, 1));
        Stream::from_raw(stream)
    }
}

fn raw_stream() -> *mut c_void {
    stream().as_raw().cast()
}

impl Driver {
    fn synchronize(&self) {
        // SAFETY: a stream of this process.
        check("cuStreamSynchronize", unsafe { (self.wait)(raw_stream()) });
    }

    fn download<T: Element>(&self, values: &mut [T], from: *const T) {
        let size = std::mem::size_of_val(values);
        // SAFETY: the caller's memory on both sides.
        let result = unsafe { (self.to_host)(values.as_mut_ptr().cast(), from as u64, size, raw_stream()) };
        check("cuMemcpyDtoHAsync", result);
        self.synchronize();
    }
}
