// SPDX-License-Identifier: Apache-2.0
use crate::handle::{create, handle};
use crate::{check, ffi, Context, MergeArgs, Result, SelectArgs, Stream, TopkDesc};
use core::ptr::NonNull;

/// One exact selection rule on one context; immutable. The k best of each row by (score descending, position
/// ascending).
pub struct Topk {
    raw: NonNull<ffi::ic_topk>,
    #[allow(dead_code)] // its callbacks must live
    context: Context,
}

handle!(Topk, ic_topk, ic_topk_destroy, immutable);

impl Topk {
    /// Creates a selection.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT),
    /// [`UNSUPPORTED`](crate::Status::UNSUPPORTED).
    pub fn new(context: &Context, desc: &TopkDesc) -> Result<Self> {
        // SAFETY: a live context and a complete desc.
        let raw = create(|out| unsafe { ffi::ic_topk_create(context.as_raw(), desc.as_raw(), out) })?;
        Ok(Self { raw, context: context.clone() })
    }

    /// Bytes of workspace for [`select`](Self::select).
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT).
    pub fn select_workspace_size(&self, max_rows: i32, max_end: i32) -> Result<usize> {
        let mut size = 0;
        // SAFETY: a live handle and a valid out parameter.
        check(unsafe { ffi::ic_topk_select_workspace_size(self.as_raw(), max_rows, max_end, &mut size) })?;
        Ok(size)
    }

    /// Selects from a score matrix.
    ///
    /// # Safety
    /// All arrays of `args` are memory of the context's device, of the shapes that their setters say, and stay as they
    /// are until the stream has run the operation.
    ///
    /// # Errors
    /// Whatever the library can see to be wrong, before any work starts.
    pub unsafe fn select(&self, args: &SelectArgs<'_>, stream: Stream) -> Result<()> {
        // SAFETY: as the caller promises.
        check(unsafe { ffi::ic_topk_select(self.as_raw(), args.as_raw(), stream.as_raw()) })
    }

    /// Bytes of workspace for [`merge`](Self::merge).
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT).
    pub fn merge_workspace_size(&self, max_rows: i32, max_parts: i32) -> Result<usize> {
        let mut size = 0;
        // SAFETY: a live handle and a valid out parameter.
        check(unsafe { ffi::ic_topk_merge_workspace_size(self.as_raw(), max_rows, max_parts, &mut size) })?;
        Ok(size)
    }

    /// Merges selections of the same rows over disjoint keys into one, exactly.
    ///
    /// # Safety
    /// As for [`select`](Self::select).
    ///
    /// # Errors
    /// Whatever the library can see to be wrong, before any work starts.
    pub unsafe fn merge(&self, args: &MergeArgs<'_>, stream: Stream) -> Result<()> {
        // SAFETY: as the caller promises.
        check(unsafe { ffi::ic_topk_merge(self.as_raw(), args.as_raw(), stream.as_raw()) })
    }
}
