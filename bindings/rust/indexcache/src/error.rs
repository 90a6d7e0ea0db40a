// SPDX-License-Identifier: Apache-2.0
use crate::{ffi, text, Status};
use core::fmt;

/// What went wrong: the status to branch on, and the library's message, which names argument, value and what is
/// allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    status: Status,
    message: String,
}

/// Result of everything that can fail.
pub type Result<T> = core::result::Result<T, Error>;

impl Error {
    /// What to branch on.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// The library's message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The error of the call that has just failed on this thread.
    #[cold]
    fn last(status: Status) -> Self {
        // SAFETY: a buffer of no bytes may be null.
        let length = unsafe { ffi::ic_last_error(core::ptr::null_mut(), 0) };
        let mut bytes = vec![0u8; length + 1];
        // SAFETY: the buffer has as many bytes as it says.
        unsafe { ffi::ic_last_error(bytes.as_mut_ptr().cast(), bytes.len()) };
        bytes.truncate(length);
        Self { status, message: String::from_utf8_lossy(&bytes).into_owned() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.message)
    }
}

impl std::error::Error for Error {}

impl Status {
    /// True for every status that says "these indices are not there": run or import the source layer first.
    #[must_use]
    pub const fn is_stale(self) -> bool {
        ffi::IC_STATUS_IS_STALE(self.0)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: static text, never null, for any number.
        f.write_str(unsafe { text::from_static(ffi::ic_status_string(self.0)) })
    }
}

/// The result of a C call; must directly follow it, on its thread.
#[inline]
pub(crate) fn check(status: ffi::ic_status) -> Result<()> {
    if status == ffi::IC_OK {
        Ok(())
    } else {
        Err(Error::last(Status(status)))
    }
}
