// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
#![no_std]
#![allow(non_camel_case_types)]

#[allow(missing_docs)] // fields and constants that share a comment have it once, as in the header
#[rustfmt::skip]
mod ffi;

pub use ffi::*;
