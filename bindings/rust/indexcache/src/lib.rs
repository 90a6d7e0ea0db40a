// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
//!
//! # What is safe here, and what is not
//!
//! Handles ([`Context`], [`Schedule`], [`Indexer`], [`Topk`], [`Attention`], [`Cache`], [`Search`]) own what they stand
//! for, keep alive what they were made from, and may be dropped in any order. All but the cache and the search may be
//! used by any number of threads at once ([`Sync`]); these two have one user at a time, but may change threads
//! ([`Send`]).
//!
//! Descriptions and arguments are builders over the C structs: zero is always the default or "not given". Arrays are
//! [`DevicePtr`] and [`DeviceMut`], which know their element type and how long they live. They do not know how many
//! elements there are, nor on which device: functions that make the library read or write arrays are therefore `unsafe`,
//! and each setter says the shape that its array must have. Everything else is checked by the library and comes back
//! as an [`Error`].
//!
//! Arguments may be built once and used in every step. Arrays that change in between are then not borrowed, which
//! [`DevicePtr::from_raw`] and [`DeviceMut::from_raw`] leave to you; so are those of a GPU. Engines that cannot keep a
//! [`Step`] from layer to layer go on with [`Cache::resume`].
//!
//! On the CPU an operation has finished when its function returns. On CUDA it is enqueued on its [`Stream`], and its
//! arrays must stay as they are until the stream has run it, which no lifetime can say.
//!
//! Struct and constant names are those of `indexcache.h`, whose text the documentation carries; [`ffi`] has all of it.

mod attention;
mod builder;
mod cache;
mod context;
mod error;
mod family;
#[rustfmt::skip]
mod generated;
mod handle;
mod indexer;
mod memory;
mod schedule;
mod search;
mod text;
mod topk;
mod view;

pub use attention::Attention;
pub use cache::{Cache, Step};
pub use context::{Callbacks, Context, DeviceAllocator};
pub use error::{Error, Result};
pub use generated::*;
/// The C interface as it is.
pub use indexcache_sys as ffi;
pub use indexer::Indexer;
pub use memory::{Buffer, DeviceMut, DevicePtr, Element, HostBuffer, Stream};
pub use schedule::Schedule;
pub use search::Search;
pub use topk::Topk;
pub use view::IndexView;

use error::check;

/// A `row_count` that means "to the end of the batch".
pub const ALL_ROWS: i32 = ffi::IC_ALL_ROWS;

/// Entries of a row of indices as they are written: k rounded up to 128.
#[must_use]
pub const fn k_padded(k: i32) -> i32 {
    ffi::IC_K_PADDED(k)
}

/// Version of the library that is loaded: major, minor, patch.
#[must_use]
pub fn version() -> (u32, u32, u32) {
    // SAFETY: no arguments, never fails.
    let number = unsafe { ffi::ic_version() };
    (number >> 16, number >> 8 & 0xff, number & 0xff)
}

/// How the library was built: one JSON object.
#[must_use]
pub fn build_info() -> &'static str {
    // SAFETY: static text, never null.
    unsafe { text::from_static(ffi::ic_build_info()) }
}

/// Number of devices of a backend that this build can use: 1 for the CPU.
///
/// # Errors
/// [`Status::CUDA_NOT_BUILT`] and [`Status::CUDA_NO_DRIVER`].
pub fn device_count(backend: Backend) -> Result<i32> {
    let mut count = 0;
    // SAFETY: count is a valid out parameter.
    check(unsafe { ffi::ic_device_count(backend.0, &mut count) })?;
    Ok(count)
}

/// What one device can do.
///
/// # Errors
/// Those of [`device_count`], and [`Status::CUDA_NO_DEVICE`].
pub fn device_caps(backend: Backend, device: i32) -> Result<DeviceCaps> {
    let mut caps = ffi::ic_device_caps::INIT;
    // SAFETY: caps is a valid out parameter with its struct_size.
    check(unsafe { ffi::ic_device_get_caps(backend.0, device, &mut caps) })?;
    Ok(DeviceCaps::from(&caps))
}
