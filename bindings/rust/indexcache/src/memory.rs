// SPDX-License-Identifier: Apache-2.0
//! Device memory: host memory on the CPU backend, GPU memory on CUDA.

use crate::ffi;
use core::ffi::c_void;
use core::fmt;
use core::marker::PhantomData;

mod sealed {
    pub trait Sealed {}
}

/// Types that arrays consist of. bf16 and fp16 are `u16`, e4m3 is `u8`: the library's own dtype says what they mean.
pub trait Element: Copy + Send + Sync + sealed::Sealed + 'static {}

macro_rules! elements {
    ($($type:ty)*) => { $(
        impl sealed::Sealed for $type {}
        impl Element for $type {}
    )* };
}
elements!(f32 i32 i64 u32 u16 u8);

macro_rules! pointer {
    ($(#[$about:meta])* $name:ident, $($raw:tt)+) => {
        $(#[$about])*
        pub struct $name<'a, T> {
            address: $($raw)+ T,
            borrowed: PhantomData<&'a [T]>,
        }

        impl<'a, T> $name<'a, T> {
            /// Memory that somebody else owns, for example of a GPU.
            ///
            /// # Safety
            /// The memory stays where it is for `'a`, and whoever uses the pointer can rely on what is there having
            /// the type `T`. Null is "not given".
            #[must_use]
            pub const unsafe fn from_raw(address: $($raw)+ T) -> Self {
                Self { address, borrowed: PhantomData }
            }

            /// The address.
            #[must_use]
            pub const fn as_ptr(&self) -> $($raw)+ T {
                self.address
            }
        }

        impl<T> fmt::Debug for $name<'_, T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:p}", self.address)
            }
        }

        impl<'a, T: Element> From<$name<'a, T>> for $name<'a, c_void> {
            fn from(typed: $name<'a, T>) -> Self {
                Self { address: typed.address.cast(), borrowed: PhantomData }
            }
        }

        // SAFETY: an address; what is done with it is said by unsafe functions.
        unsafe impl<T> Send for $name<'_, T> {}
        // SAFETY: as above.
        unsafe impl<T> Sync for $name<'_, T> {}
    };
}

pointer! {
    /// An array that the library reads, `'a` long. Made from a slice, which is host memory (the CPU backend's device
    /// memory), or with [`from_raw`](Self::from_raw).
    DevicePtr, *const
}
pointer! {
    /// An array that the library writes, or reads and writes, `'a` long. Made from a slice, which is host memory (the
    /// CPU backend's device memory), or with [`from_raw`](Self::from_raw).
    DeviceMut, *mut
}

impl<T> Clone for DevicePtr<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for DevicePtr<'_, T> {}

macro_rules! from_host {
    ([$($generics:tt)*] $pointer:ident, $host:ty, $address:ident) => {
        impl<'a, T: Element $($generics)*> From<$host> for $pointer<'a, T> {
            fn from(host: $host) -> Self {
                Self { address: host.$address(), borrowed: PhantomData }
            }
        }
        impl<'a, T: Element $($generics)*> From<$host> for $pointer<'a, c_void> {
            fn from(host: $host) -> Self {
                Self { address: host.$address().cast(), borrowed: PhantomData }
            }
        }
    };
}
from_host!([] DevicePtr, &'a [T], as_ptr);
from_host!([] DevicePtr, &'a Vec<T>, as_ptr);
from_host!([, const N: usize] DevicePtr, &'a [T; N], as_ptr);
from_host!([] DeviceMut, &'a mut [T], as_mut_ptr);
from_host!([] DeviceMut, &'a mut Vec<T>, as_mut_ptr);
from_host!([, const N: usize] DeviceMut, &'a mut [T; N], as_mut_ptr);

/// Device memory that is counted in bytes: workspaces, the memory of a cache, exported blocks.
#[derive(Debug)]
pub struct Buffer<'a> {
    address: *mut c_void,
    size: usize,
    borrowed: PhantomData<&'a [u8]>,
}

impl Buffer<'_> {
    /// No memory.
    pub const NONE: Buffer<'static> = Buffer { address: core::ptr::null_mut(), size: 0, borrowed: PhantomData };

    /// Memory that somebody else owns, for example of a GPU.
    ///
    /// # Safety
    /// `size` bytes at `address` stay where they are for the buffer's lifetime, and may be written by the operations
    /// that get it.
    #[must_use]
    pub const unsafe fn from_raw(address: *mut c_void, size: usize) -> Self {
        Self { address, size, borrowed: PhantomData }
    }

    /// The address.
    #[must_use]
    pub const fn as_ptr(&self) -> *mut c_void {
        self.address
    }

    /// Number of bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }
}

// SAFETY: an address; what is done with it is said by unsafe functions.
unsafe impl Send for Buffer<'_> {}
// SAFETY: as above.
unsafe impl Sync for Buffer<'_> {}

/// Host memory for [`Buffer`]s of the CPU backend, aligned to 256 bytes, zeros at first.
#[derive(Clone)]
pub struct HostBuffer {
    blocks: Vec<Block>,
}

#[derive(Clone, Copy)]
#[repr(C, align(256))]
struct Block([u8; 256]);

impl HostBuffer {
    /// At least `size` bytes: a multiple of 256.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self { blocks: vec![Block([0; 256]); size.div_ceil(256)] }
    }

    /// Number of bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.blocks.len() * 256
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: a block is 256 bytes without padding.
        unsafe { core::slice::from_raw_parts(self.blocks.as_ptr().cast(), self.size()) }
    }

    /// The bytes, to be changed.
    #[must_use]
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and any bytes are a block.
        unsafe { core::slice::from_raw_parts_mut(self.blocks.as_mut_ptr().cast(), self.size()) }
    }
}

impl fmt::Debug for HostBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostBuffer({} bytes)", self.size())
    }
}

impl<'a> From<&'a mut HostBuffer> for Buffer<'a> {
    fn from(host: &'a mut HostBuffer) -> Self {
        Self { address: host.blocks.as_mut_ptr().cast(), size: host.size(), borrowed: PhantomData }
    }
}

/// Where an operation runs on CUDA: a `cudaStream_t` or `CUstream`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Stream(ffi::ic_stream);

impl Stream {
    /// The legacy default stream, and the only one of the CPU backend.
    pub const DEFAULT: Self = Self(core::ptr::null_mut());

    /// A stream that somebody else owns.
    ///
    /// # Safety
    /// It is a stream of the context's device, and lives as long as this is used.
    #[must_use]
    pub const unsafe fn from_raw(stream: *mut c_void) -> Self {
        Self(stream.cast())
    }

    /// The C type.
    #[must_use]
    pub const fn as_raw(self) -> ffi::ic_stream {
        self.0
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stream({:p})", self.0)
    }
}

// SAFETY: CUDA's streams may be used by any thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}
