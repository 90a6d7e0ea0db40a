// SPDX-License-Identifier: Apache-2.0
use crate::{ffi, DevicePtr, IndexKind};
use core::marker::PhantomData;

/// A set of indices: what a layer must attend to. Those of a [`Cache`](crate::Cache) stay valid until their slot is
/// written again, which is why they hold on to it.
#[derive(Clone, Debug)]
pub struct IndexView<'a> {
    raw: ffi::ic_index_view,
    host: bool,
    borrowed: PhantomData<&'a [i32]>,
}

impl<'a> IndexView<'a> {
    /// A view of the library, or one that the caller has filled to use
    /// [`Attention::run`](crate::Attention::run) or [`Context::index_overlap`](crate::Context::index_overlap) alone.
    /// `host`: the arrays are host memory.
    ///
    /// # Safety
    /// The arrays have the shapes that the C struct says, and stay for `'a`.
    #[must_use]
    pub unsafe fn from_raw(raw: ffi::ic_index_view, host: bool) -> Self {
        Self { raw, host, borrowed: PhantomData }
    }

    /// The C struct.
    #[must_use]
    pub fn as_raw(&self) -> &ffi::ic_index_view {
        &self.raw
    }

    /// `[num_rows, row_stride]`, front-packed, -1 behind.
    #[must_use]
    pub fn indices(&self) -> DevicePtr<'a, i32> {
        // SAFETY: valid for 'a.
        unsafe { DevicePtr::from_raw(self.raw.indices) }
    }

    /// `[num_rows]`, valid entries per row.
    #[must_use]
    pub fn lengths(&self) -> DevicePtr<'a, i32> {
        // SAFETY: valid for 'a.
        unsafe { DevicePtr::from_raw(self.raw.lengths) }
    }

    /// `[num_rows, row_stride]`, when the cache keeps scores.
    #[must_use]
    pub fn scores(&self) -> Option<DevicePtr<'a, f32>> {
        // SAFETY: valid for 'a.
        (!self.raw.scores.is_null()).then(|| unsafe { DevicePtr::from_raw(self.raw.scores) })
    }

    /// Elements from row to row.
    #[must_use]
    pub fn row_stride(&self) -> i64 {
        self.raw.row_stride
    }

    /// Number of rows.
    #[must_use]
    pub fn num_rows(&self) -> i32 {
        self.raw.num_rows
    }

    /// Most valid entries of a row.
    #[must_use]
    pub fn k(&self) -> i32 {
        self.raw.k
    }

    /// Positions in the row's sequence, or slots.
    #[must_use]
    pub fn kind(&self) -> IndexKind {
        IndexKind(self.raw.kind)
    }

    /// The Full layer that computed them, if they are from a cache.
    #[must_use]
    pub fn source_layer(&self) -> Option<i32> {
        (self.raw.source_layer >= 0).then_some(self.raw.source_layer)
    }

    /// Generation of the cache at the time; 0 = not from a cache.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.raw.generation
    }

    /// Arithmetic that they were selected by; 0 = unknown.
    #[must_use]
    pub fn numerics_id(&self) -> u64 {
        self.raw.numerics_id
    }

    /// The valid indices of one row, on the CPU.
    ///
    /// # Panics
    /// When there is no such row, or the indices are in the memory of a GPU.
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [i32] {
        self.host_row(self.raw.indices, row)
    }

    /// The scores of [`row`](Self::row), when the cache keeps scores.
    ///
    /// # Panics
    /// When there is no such row, or the scores are in the memory of a GPU.
    #[must_use]
    pub fn row_scores(&self, row: usize) -> Option<&'a [f32]> {
        (!self.raw.scores.is_null()).then(|| self.host_row(self.raw.scores, row))
    }

    fn host_row<T>(&self, array: *const T, row: usize) -> &'a [T] {
        assert!(self.host, "these indices are in the memory of a GPU: copy them from there");
        let rows = usize::try_from(self.raw.num_rows).unwrap_or(0);
        assert!(row < rows, "row {row} of {rows}");
        let stride = usize::try_from(self.raw.row_stride).unwrap_or(0);
        // SAFETY: host memory of the view's shape, valid for 'a; no length is above the stride.
        unsafe {
            let length = usize::try_from(*self.raw.lengths.add(row)).unwrap_or(0).min(stride);
            core::slice::from_raw_parts(array.add(row * stride), length)
        }
    }
}

// SAFETY: addresses of arrays that are only read through it, like a slice.
unsafe impl Send for IndexView<'_> {}
// SAFETY: as above.
unsafe impl Sync for IndexView<'_> {}
