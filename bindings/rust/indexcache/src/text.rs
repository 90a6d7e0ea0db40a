// SPDX-License-Identifier: Apache-2.0
//! Texts of the library.

use crate::error::{check, Error};
use crate::{ffi, Result};
use core::ffi::{c_char, CStr};

/// # Safety
/// `text` is a static, zero-terminated text of the library, all of which are ASCII.
pub(crate) unsafe fn from_static(text: *const c_char) -> &'static str {
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }.to_str().expect("the library's texts are ASCII")
}

/// Of an array that the library has filled up to a zero.
pub(crate) fn from_chars(chars: &[c_char]) -> String {
    let bytes: Vec<u8> = chars.iter().map(|&c| c as u8).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Calls a text function twice: for the size, then for the text.
pub(crate) fn asked_twice(mut call: impl FnMut(*mut c_char, *mut usize) -> ffi::ic_status) -> Result<String> {
    let mut size = 0;
    match check(call(core::ptr::null_mut(), &mut size)) {
        Err(error) if !too_small(&error) => return Err(error),
        _ => (),
    }
    let mut bytes = vec![0u8; size];
    check(call(bytes.as_mut_ptr().cast(), &mut size))?;
    bytes.truncate(size.saturating_sub(1)); // the closing zero
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn too_small(error: &Error) -> bool {
    error.status() == crate::Status::BUFFER_TOO_SMALL
}
