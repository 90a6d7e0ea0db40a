// SPDX-License-Identifier: Apache-2.0
use crate::handle::{create, handle};
use crate::{
    check, ffi, Backend, Batch, Buffer, CacheDesc, CacheInfo, CompactArgs, Context, ExportFlags, ExportHeader, Faults,
    ForwardArgs, ImportFlags, IndexView, Memory, RemapArgs, Result, Stream,
};
use core::ops::Deref;
use core::ptr::NonNull;

/// The indices of one stream of forwards, with the bookkeeping that makes a stale or missing one an error. One per
/// micro-batch and per draft model; one thread at a time.
pub struct Cache {
    raw: NonNull<ffi::ic_cache>,
    context: Context,
}

handle!(Cache, ic_cache, ic_cache_destroy);

impl CacheDesc<'_> {
    /// Bytes of device memory that a cache with this desc needs; `memory` is not looked at.
    ///
    /// # Errors
    /// Those of [`Cache::new`].
    pub fn memory_size(&self) -> Result<usize> {
        let mut size = 0;
        // SAFETY: a complete desc of live handles, and a valid out parameter.
        check(unsafe { ffi::ic_cache_memory_size(self.as_raw(), &mut size) })?;
        Ok(size)
    }
}

impl Cache {
    /// Creates a cache. It keeps the handles of the desc alive.
    ///
    /// # Errors
    /// [`Status::HANDLE_MISMATCH`](crate::Status::HANDLE_MISMATCH),
    /// [`WORKSPACE_TOO_SMALL`](crate::Status::WORKSPACE_TOO_SMALL) (`memory`),
    /// [`OUT_OF_MEMORY`](crate::Status::OUT_OF_MEMORY).
    pub fn new(context: &Context, desc: &CacheDesc<'_>) -> Result<Self> {
        // SAFETY: a complete desc of live handles; who gave memory or an epoch has promised that they stay.
        let raw = create(|out| unsafe { ffi::ic_cache_create(context.as_raw(), desc.as_raw(), out) })?;
        Ok(Self { raw, context: context.clone() })
    }

    /// Opens a generation for the rows of `batch`: one forward through all layers, which the returned step runs.
    /// The previous generation's publications are gone, unless [`BatchFlags::KEEP`](crate::BatchFlags::KEEP) carries
    /// them over. On failure the previous generation is still open: [`resume`](Self::resume).
    ///
    /// # Safety
    /// All arrays of `batch` are memory of the context's device and of the shapes that their setters say; on CUDA they
    /// stay as they are until the streams have run what the step enqueued.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT),
    /// [`OUT_OF_RANGE`](crate::Status::OUT_OF_RANGE), [`UNSUPPORTED`](crate::Status::UNSUPPORTED).
    pub unsafe fn begin<'a>(&'a mut self, batch: &Batch<'a>) -> Result<Step<'a>> {
        // SAFETY: as the caller promises; the arrays live as long as the step.
        check(unsafe { ffi::ic_cache_begin(self.as_raw(), batch.as_raw()) })?;
        Ok(Step { cache: self })
    }

    /// Goes on with the generation that is open, for engines that cannot keep the [`Step`] from call to call.
    ///
    /// # Safety
    /// The arrays of the batch that it was opened with are still valid.
    #[must_use]
    pub unsafe fn resume(&mut self) -> Step<'_> {
        Step { cache: self }
    }

    /// Forgets the generation, its batch and every publication.
    ///
    /// # Errors
    /// None is known.
    pub fn reset(&mut self) -> Result<()> {
        // SAFETY: a live handle.
        check(unsafe { ffi::ic_cache_reset(self.as_raw()) })
    }

    /// State.
    ///
    /// # Errors
    /// None is known.
    pub fn info(&self) -> Result<CacheInfo> {
        let mut info = ffi::ic_cache_info::INIT;
        // SAFETY: a live handle, and an out parameter with its struct_size.
        check(unsafe { ffi::ic_cache_get_info(self.as_raw(), &mut info) })?;
        Ok(CacheInfo::from(&info))
    }

    /// The publication of a source layer in the current generation, all rows. Of a Shared layer ask for its
    /// `source_layer`.
    ///
    /// # Errors
    /// A status that [`is_stale`](crate::Status::is_stale), or [`NO_BATCH`](crate::Status::NO_BATCH).
    pub fn view(&self, source_layer: i32) -> Result<IndexView<'_>> {
        let mut view = ffi::ic_index_view::INIT;
        // SAFETY: a live handle, and an out parameter with its struct_size.
        check(unsafe { ffi::ic_cache_get_view(self.as_raw(), source_layer, &mut view) })?;
        Ok(self.wrap(view))
    }

    /// The sticky fault bits that operations of this cache have set; cleared when `clear`. On CUDA it waits for
    /// `stream` and must not be captured.
    ///
    /// # Errors
    /// [`Status::CUDA`](crate::Status::CUDA).
    pub fn faults(&mut self, clear: bool, stream: Stream) -> Result<Faults> {
        let mut faults = 0;
        // SAFETY: a live handle and a valid out parameter.
        check(unsafe { ffi::ic_cache_faults(self.as_raw(), i32::from(clear), &mut faults, stream.as_raw()) })?;
        Ok(Faults(faults))
    }

    /// Bytes of workspace for any [`Step::forward`] with up to `max_rows` rows and keys up to `max_key_end`.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT).
    pub fn forward_workspace_size(&self, max_rows: i32, max_key_end: i32) -> Result<usize> {
        let mut size = 0;
        // SAFETY: a live handle and a valid out parameter.
        check(unsafe { ffi::ic_forward_workspace_size(self.as_raw(), max_rows, max_key_end, &mut size) })?;
        Ok(size)
    }

    /// Bytes of workspace for [`Step::compact`].
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT).
    pub fn compact_workspace_size(&self, max_rows: i32) -> Result<usize> {
        let mut size = 0;
        // SAFETY: a live handle and a valid out parameter.
        check(unsafe { ffi::ic_cache_compact_workspace_size(self.as_raw(), max_rows, &mut size) })?;
        Ok(size)
    }

    /// Bytes of an exported block of `num_rows` rows.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT).
    pub fn export_size(&self, num_rows: i32, flags: ExportFlags) -> Result<usize> {
        let mut size = 0;
        // SAFETY: a live handle and a valid out parameter.
        check(unsafe { ffi::ic_cache_export_size(self.as_raw(), num_rows, flags.0, &mut size) })?;
        Ok(size)
    }

    fn wrap<'a>(&self, view: ffi::ic_index_view) -> IndexView<'a> {
        // SAFETY: filled by the library; callers bind 'a to a borrow of the cache.
        unsafe { IndexView::from_raw(view, self.context.backend() == Backend::CPU) }
    }
}

/// An open generation of a [`Cache`]: one forward through all layers. It ends the borrow of the batch's arrays when it
/// is dropped; the publications stay, for [`BatchFlags::KEEP`](crate::BatchFlags::KEEP).
///
/// The arrays of the batch must live as long as the step:
///
/// ```compile_fail,E0597
/// # use indexcache::{Batch, Cache, ForwardArgs, Stream};
/// # fn decode(cache: &mut Cache) -> indexcache::Result<()> {
/// let mut step = {
///     let key_end = [10];
///     unsafe { cache.begin(&Batch::new().num_rows(1).num_seqs(1).max_key_end(10).key_end(&key_end))? }
/// };
/// unsafe { step.forward(&ForwardArgs::all_rows(0), Stream::DEFAULT)? };
/// # Ok(())
/// # }
/// ```
///
/// and a view of one layer's indices ends where another layer may overwrite them:
///
/// ```compile_fail,E0499
/// # use indexcache::{Batch, Cache, ForwardArgs, Stream};
/// # fn decode(cache: &mut Cache) -> indexcache::Result<()> {
/// # let key_end = [10];
/// # let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(10).key_end(&key_end);
/// let mut step = unsafe { cache.begin(&batch)? };
/// let first = unsafe { step.forward(&ForwardArgs::all_rows(0), Stream::DEFAULT)? };
/// let second = unsafe { step.forward(&ForwardArgs::all_rows(1), Stream::DEFAULT)? };
/// println!("{:?} {:?}", first.row(0), second.row(0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Step<'a> {
    cache: &'a mut Cache,
}

impl Step<'_> {
    /// Runs one layer, or one part of its rows. Full: writes `new_keys`, scores, selects into the cache, publishes.
    /// Shared: writes `new_keys` when given, finds the source's publication. Then attention when asked. The view has
    /// the part's indices.
    ///
    /// # Safety
    /// All arrays of `args` and of what it points at are memory of the context's device, of the shapes that their
    /// setters say, and stay as they are until the stream has run the operation.
    ///
    /// # Errors
    /// A status that [`is_stale`](crate::Status::is_stale) when a Shared layer's source has not run;
    /// [`PART_OVERLAP`](crate::Status::PART_OVERLAP), [`OUT_OF_RANGE`](crate::Status::OUT_OF_RANGE) and whatever else
    /// the library can see to be wrong, before any work starts.
    pub unsafe fn forward(&mut self, args: &ForwardArgs<'_>, stream: Stream) -> Result<IndexView<'_>> {
        let mut view = ffi::ic_index_view::INIT;
        // SAFETY: as the caller promises.
        check(unsafe { ffi::ic_forward(self.cache.as_raw(), args.as_raw(), &mut view, stream.as_raw()) })?;
        Ok(self.cache.wrap(view))
    }

    /// Logical indices to slots, once for a whole group of layers. The view is of kind
    /// [`IndexKind::SLOT`](crate::IndexKind::SLOT).
    ///
    /// # Safety
    /// As for [`forward`](Self::forward), and as long as the view is used.
    ///
    /// # Errors
    /// A status that [`is_stale`](crate::Status::is_stale),
    /// [`INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT).
    pub unsafe fn remap<'a>(&'a mut self, args: &RemapArgs<'a>, stream: Stream) -> Result<IndexView<'a>> {
        let mut view = ffi::ic_index_view::INIT;
        // SAFETY: as the caller promises.
        check(unsafe { ffi::ic_cache_remap(self.cache.as_raw(), args.as_raw(), &mut view, stream.as_raw()) })?;
        Ok(self.cache.wrap(view))
    }

    /// Speculative decoding: of the rows that a draft's step 0 published keep the last accepted one of each request.
    ///
    /// # Safety
    /// As for [`forward`](Self::forward).
    ///
    /// # Errors
    /// A status that [`is_stale`](crate::Status::is_stale),
    /// [`INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT), [`OUT_OF_RANGE`](crate::Status::OUT_OF_RANGE).
    pub unsafe fn compact(&mut self, args: &CompactArgs<'_>, stream: Stream) -> Result<()> {
        // SAFETY: as the caller promises.
        check(unsafe { ffi::ic_cache_compact(self.cache.as_raw(), args.as_raw(), stream.as_raw()) })
    }

    /// Writes the publication of a source layer as logical indices into `buffer`, aligned to 8: for another pipeline
    /// stage, prefill-decode transfer, or a recording.
    ///
    /// # Safety
    /// The buffer is memory of the kind that `location` says, and stays until the stream has run the copy.
    ///
    /// # Errors
    /// A status that [`is_stale`](crate::Status::is_stale),
    /// [`BUFFER_TOO_SMALL`](crate::Status::BUFFER_TOO_SMALL).
    pub unsafe fn export<'a>(
        &mut self,
        source_layer: i32,
        flags: ExportFlags,
        location: Memory,
        buffer: impl Into<Buffer<'a>>,
        stream: Stream,
    ) -> Result<()> {
        let (cache, buffer) = (self.cache.as_raw(), buffer.into());
        // SAFETY: as the caller promises.
        check(unsafe {
            let (data, size) = (buffer.as_ptr(), buffer.size());
            ffi::ic_cache_export(cache, source_layer, flags.0, location.0, data, size, stream.as_raw())
        })
    }

    /// Publishes an exported block, which lies in host memory aligned to 8, in this generation under `publish_layer`,
    /// or under its own source layer. Returns what the block says of itself.
    ///
    /// # Safety
    /// The buffer stays until the stream has run the copy.
    ///
    /// # Errors
    /// [`Status::PARSE`](crate::Status::PARSE), [`SCHEDULE_HASH`](crate::Status::SCHEDULE_HASH),
    /// [`NUMERICS`](crate::Status::NUMERICS), [`HANDLE_MISMATCH`](crate::Status::HANDLE_MISMATCH),
    /// [`INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT), [`OUT_OF_RANGE`](crate::Status::OUT_OF_RANGE).
    pub unsafe fn import<'a>(
        &mut self,
        publish_layer: Option<i32>,
        flags: ImportFlags,
        buffer: impl Into<Buffer<'a>>,
        stream: Stream,
    ) -> Result<ExportHeader> {
        let (cache, buffer) = (self.cache.as_raw(), buffer.into());
        let mut header = ffi::ic_export_header::INIT;
        // SAFETY: as the caller promises.
        check(unsafe {
            let (layer, data, size) = (publish_layer.unwrap_or(-1), buffer.as_ptr(), buffer.size());
            ffi::ic_cache_import(cache, layer, flags.0, data, size, &mut header, stream.as_raw())
        })?;
        Ok(ExportHeader::from(&header))
    }

    /// [`Cache::faults`].
    ///
    /// # Errors
    /// [`Status::CUDA`](crate::Status::CUDA).
    pub fn faults(&mut self, clear: bool, stream: Stream) -> Result<Faults> {
        self.cache.faults(clear, stream)
    }
}

impl Deref for Step<'_> {
    type Target = Cache;

    fn deref(&self) -> &Cache {
        self.cache
    }
}
