// SPDX-License-Identifier: Apache-2.0
use crate::handle::{create, handle};
use crate::{check, ffi, Batch, Context, IndexerDesc, IndexerInfo, PrepareArgs, Result, ScoresArgs, Stream};
use core::ptr::NonNull;

/// One indexer geometry on one context; immutable. Holds no weights. The score of key s for row t is
/// `ks[s] * sum_h w[t, h] * relu(sum_d q[t, h, d] * k[s, d])`.
pub struct Indexer {
    raw: NonNull<ffi::ic_indexer>,
    #[allow(dead_code)] // its callbacks must live
    context: Context,
}

handle!(Indexer, ic_indexer, ic_indexer_destroy, immutable);

impl Indexer {
    /// Creates an indexer.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT),
    /// [`UNSUPPORTED`](crate::Status::UNSUPPORTED).
    pub fn new(context: &Context, desc: &IndexerDesc) -> Result<Self> {
        // SAFETY: a live context and a complete desc.
        let raw = create(|out| unsafe { ffi::ic_indexer_create(context.as_raw(), desc.as_raw(), out) })?;
        Ok(Self { raw, context: context.clone() })
    }

    /// Identity and sizes.
    ///
    /// # Errors
    /// None is known.
    pub fn info(&self) -> Result<IndexerInfo> {
        let mut info = ffi::ic_indexer_info::INIT;
        // SAFETY: a live handle, and an out parameter with its struct_size.
        check(unsafe { ffi::ic_indexer_get_info(self.as_raw(), &mut info) })?;
        Ok(IndexerInfo::from(&info))
    }

    /// Bytes of workspace for [`scores`](Self::scores).
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT).
    pub fn scores_workspace_size(&self, max_rows: i32, max_key_end: i32) -> Result<usize> {
        let mut size = 0;
        // SAFETY: a live handle and a valid out parameter.
        check(unsafe { ffi::ic_indexer_scores_workspace_size(self.as_raw(), max_rows, max_key_end, &mut size) })?;
        Ok(size)
    }

    /// Writes the scores of every visible key in a window: the same bits that a Full layer selects from.
    ///
    /// # Safety
    /// All arrays of `batch` and `args` are memory of the context's device, of the shapes that their setters say, and
    /// stay as they are until the stream has run the operation.
    ///
    /// # Errors
    /// Whatever the library can see to be wrong, before any work starts.
    pub unsafe fn scores(&self, batch: &Batch<'_>, args: &ScoresArgs<'_>, stream: Stream) -> Result<()> {
        // SAFETY: as the caller promises.
        check(unsafe { ffi::ic_indexer_scores(self.as_raw(), batch.as_raw(), args.as_raw(), stream.as_raw()) })
    }

    /// Projected queries to indexer queries: rotation, Hadamard transform, rounding.
    ///
    /// # Safety
    /// As for [`scores`](Self::scores).
    ///
    /// # Errors
    /// Whatever the library can see to be wrong, before any work starts.
    pub unsafe fn prepare_queries(&self, args: &PrepareArgs<'_>, stream: Stream) -> Result<()> {
        // SAFETY: as the caller promises.
        check(unsafe { ffi::ic_indexer_prepare_queries(self.as_raw(), args.as_raw(), stream.as_raw()) })
    }

    /// Projected keys into an index-key pool.
    ///
    /// # Safety
    /// As for [`scores`](Self::scores); the pool is written.
    ///
    /// # Errors
    /// Whatever the library can see to be wrong, before any work starts.
    pub unsafe fn prepare_keys(&self, args: &PrepareArgs<'_>, stream: Stream) -> Result<()> {
        // SAFETY: as the caller promises.
        check(unsafe { ffi::ic_indexer_prepare_keys(self.as_raw(), args.as_raw(), stream.as_raw()) })
    }
}
