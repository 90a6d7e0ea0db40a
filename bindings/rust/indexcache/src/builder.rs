// SPDX-License-Identifier: Apache-2.0
//! What all generated builders have in common, and the few shorthands that two fields deserve.

use crate::{BlockTable, DeviceMut, DevicePtr, ForwardArgs, Layout, Pool, ALL_ROWS};
use core::ffi::c_void;

/// A transparent wrapper of a C struct: its default, its address, and that it may go to any thread.
macro_rules! builder {
    (@shared [$($lifetime:lifetime)?] $name:ident, $raw:ident $(, $borrowed:ident)?) => {
        impl$(<$lifetime>)? Default for $name$(<$lifetime>)? {
            fn default() -> Self {
                Self { raw: ffi::$raw::INIT, $($borrowed: PhantomData)? }
            }
        }

        impl$(<$lifetime>)? $name$(<$lifetime>)? {
            /// Everything at its default, or not given.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }

            /// The C struct.
            #[must_use]
            pub fn as_raw(&self) -> &ffi::$raw {
                &self.raw
            }
        }

        // SAFETY: nothing but numbers, and addresses that are followed by unsafe functions only.
        unsafe impl$(<$lifetime>)? Send for $name$(<$lifetime>)? {}
        // SAFETY: as above; there is no interior mutability.
        unsafe impl$(<$lifetime>)? Sync for $name$(<$lifetime>)? {}
    };
    ($name:ident<$lifetime:lifetime>, $($rest:tt)*) => { builder!(@shared [$lifetime] $name, $($rest)*); };
    ($name:ident, $($rest:tt)*) => { builder!(@shared [] $name, $($rest)*); };
}

pub(crate) use builder;

/// The length of a list as C counts it. Longer lists than it can count are refused by the library, as is this length.
pub(crate) fn entries(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

impl<'a> Pool<'a> {
    /// `capacity` vectors one behind the other.
    #[must_use]
    pub fn contiguous(data: impl Into<DeviceMut<'a, c_void>>, capacity: i64) -> Self {
        Self::new().layout(Layout::CONTIGUOUS).data(data).capacity(capacity)
    }

    /// `capacity` pages (not vectors), found through entry `block_table`, from 0, of
    /// [`Batch::block_tables`](crate::Batch::block_tables), which also says how many keys a page has.
    #[must_use]
    pub fn paged(data: impl Into<DeviceMut<'a, c_void>>, capacity: i64, block_table: i32) -> Self {
        Self::new().layout(Layout::PAGED).data(data).capacity(capacity).block_table(block_table)
    }

    /// [`contiguous`](Self::contiguous) vectors that are only read: latent KV always, index keys in calls that bring no
    /// new ones.
    #[must_use]
    pub fn contiguous_ref(data: impl Into<DevicePtr<'a, c_void>>, capacity: i64) -> Self {
        Self::contiguous(only_read(data), capacity)
    }

    /// [`paged`](Self::paged) vectors that are only read.
    #[must_use]
    pub fn paged_ref(data: impl Into<DevicePtr<'a, c_void>>, capacity: i64, block_table: i32) -> Self {
        Self::paged(only_read(data), capacity, block_table)
    }
}

fn only_read<'a>(data: impl Into<DevicePtr<'a, c_void>>) -> DeviceMut<'a, c_void> {
    // SAFETY: functions that write into a pool say so, and are unsafe.
    unsafe { DeviceMut::from_raw(data.into().as_ptr().cast_mut()) }
}

impl<'a> BlockTable<'a> {
    /// `num_blocks` blocks of `page_tokens` keys for each sequence, one row of `pages` behind the other.
    #[must_use]
    pub fn dense(pages: impl Into<DevicePtr<'a, i32>>, num_blocks: i32, page_tokens: i32) -> Self {
        Self::new().pages(pages).num_blocks(num_blocks).page_tokens(page_tokens)
    }
}

impl ForwardArgs<'_> {
    /// All rows of a layer.
    #[must_use]
    pub fn all_rows(layer: i32) -> Self {
        Self::new().layer(layer).row_count(ALL_ROWS)
    }
}
