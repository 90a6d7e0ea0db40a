// SPDX-License-Identifier: Apache-2.0
//! What all handles have in common.

/// The C handle inside a type that has a field `raw`: its address, its end, and which threads may have it.
macro_rules! handle {
    ($name:ident, $raw:ident, $destroy:ident) => {
        impl $name {
            /// The C handle; it lives as long as `self`.
            #[must_use]
            pub fn as_raw(&self) -> *mut ffi::$raw {
                self.raw.as_ptr()
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: made by the create function, destroyed once.
                unsafe { ffi::$destroy(self.as_raw()) }
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($name), "({:p})"), self.raw)
            }
        }

        // SAFETY: the header's table of threads: every handle may go from thread to thread.
        unsafe impl Send for $name {}
    };
    ($name:ident, $raw:ident, $destroy:ident, immutable) => {
        $crate::handle::handle!($name, $raw, $destroy);
        // SAFETY: the header's table of threads: immutable, any number of threads at once.
        unsafe impl Sync for $name {}
    };
}

pub(crate) use handle;

/// Calls a create function and takes its handle.
pub(crate) fn create<T>(
    call: impl FnOnce(*mut *mut T) -> crate::ffi::ic_status,
) -> crate::Result<core::ptr::NonNull<T>> {
    let mut out = core::ptr::null_mut();
    crate::check(call(&mut out))?;
    Ok(core::ptr::NonNull::new(out).expect("a create function that succeeds gives a handle"))
}
