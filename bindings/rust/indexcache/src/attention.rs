// SPDX-License-Identifier: Apache-2.0
use crate::handle::{create, handle};
use crate::{check, ffi, AttentionArgs, AttentionDesc, Batch, Buffer, Context, IndexView, MassArgs, Result, Stream};
use core::ptr::{null, NonNull};

/// One geometry of multi-head latent attention in its absorbed form on one context; immutable.
pub struct Attention {
    raw: NonNull<ffi::ic_attention>,
    #[allow(dead_code)] // its callbacks must live
    context: Context,
}

handle!(Attention, ic_attention, ic_attention_destroy, immutable);

impl Attention {
    /// Creates an attention.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT),
    /// [`UNSUPPORTED`](crate::Status::UNSUPPORTED).
    pub fn new(context: &Context, desc: &AttentionDesc) -> Result<Self> {
        // SAFETY: a live context and a complete desc.
        let raw = create(|out| unsafe { ffi::ic_attention_create(context.as_raw(), desc.as_raw(), out) })?;
        Ok(Self { raw, context: context.clone() })
    }

    /// Bytes of workspace for [`run`](Self::run).
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT).
    pub fn workspace_size(&self, max_rows: i32, max_k: i32) -> Result<usize> {
        let mut size = 0;
        // SAFETY: a live handle and a valid out parameter.
        check(unsafe { ffi::ic_attention_workspace_size(self.as_raw(), max_rows, max_k, &mut size) })?;
        Ok(size)
    }

    /// Attention alone, over any set of indices. Row r of `indices` and of `args` is row `row_begin` + r of the batch.
    /// Slot indices need no batch when the pool is contiguous.
    ///
    /// # Safety
    /// All arrays of `batch`, `indices` and `args` are memory of the context's device, of the shapes that their setters
    /// say, and stay as they are until the stream has run the operation; `workspace` until then too.
    ///
    /// # Errors
    /// Whatever the library can see to be wrong, before any work starts.
    pub unsafe fn run<'a>(
        &self,
        batch: Option<&Batch<'_>>,
        row_begin: i32,
        indices: &IndexView<'_>,
        args: &AttentionArgs<'_>,
        workspace: impl Into<Buffer<'a>>,
        stream: Stream,
    ) -> Result<()> {
        let (batch, workspace) = (batch.map_or(null(), |batch| batch.as_raw()), workspace.into());
        // SAFETY: as the caller promises.
        check(unsafe {
            ffi::ic_attention_run(
                self.as_raw(),
                batch,
                row_begin,
                indices.as_raw(),
                args.as_raw(),
                workspace.as_ptr(),
                workspace.size(),
                stream.as_raw(),
            )
        })
    }

    /// Bytes of workspace for [`mass`](Self::mass).
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT).
    pub fn mass_workspace_size(&self, max_rows: i32, max_k: i32) -> Result<usize> {
        let mut size = 0;
        // SAFETY: a live handle and a valid out parameter.
        check(unsafe { ffi::ic_attention_mass_workspace_size(self.as_raw(), max_rows, max_k, &mut size) })?;
        Ok(size)
    }

    /// How much of its attention a row gives to every entry of its list: the mean over the heads of the softmax weight,
    /// 0 for what is skipped. Rows and batch are those of [`run`](Self::run).
    ///
    /// # Safety
    /// That of [`run`](Self::run).
    ///
    /// # Errors
    /// Whatever the library can see to be wrong, before any work starts.
    pub unsafe fn mass<'a>(
        &self,
        batch: Option<&Batch<'_>>,
        row_begin: i32,
        indices: &IndexView<'_>,
        args: &MassArgs<'_>,
        workspace: impl Into<Buffer<'a>>,
        stream: Stream,
    ) -> Result<()> {
        let (batch, workspace) = (batch.map_or(null(), |batch| batch.as_raw()), workspace.into());
        // SAFETY: as the caller promises.
        check(unsafe {
            ffi::ic_attention_mass(
                self.as_raw(),
                batch,
                row_begin,
                indices.as_raw(),
                args.as_raw(),
                workspace.as_ptr(),
                workspace.size(),
                stream.as_raw(),
            )
        })
    }
}
