// SPDX-License-Identifier: Apache-2.0
use crate::handle::{create, handle};
use crate::{check, ffi, Backend, ContextDesc, IndexView, LogLevel, OverlapArgs, Result, Stream};
use core::ffi::{c_char, c_void, CStr};
use core::fmt;
use core::ptr::NonNull;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;

/// Where operations run: a backend, a device, its threads and memory. A clone is the same context.
#[derive(Clone, Debug)]
pub struct Context(Arc<Shared>);

/// Every handle that is made on a context keeps it, so that the callbacks outlive the last call of them.
struct Shared {
    raw: NonNull<ffi::ic_context>,
    backend: Backend,
    #[allow(dead_code)] // used by C
    callbacks: Arc<Callbacks>,
}

handle!(Shared, ic_context, ic_context_destroy, immutable);

impl Context {
    /// Creates a context; `backend` must be set. The CPU backend starts `num_threads - 1` threads, which sleep between
    /// operations and end with the context.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT),
    /// [`UNSUPPORTED`](crate::Status::UNSUPPORTED) (`cpu_isa` is not on this machine), `CUDA_*`,
    /// [`OUT_OF_MEMORY`](crate::Status::OUT_OF_MEMORY).
    pub fn new(desc: &ContextDesc) -> Result<Self> {
        Self::with_callbacks(desc, Callbacks::default())
    }

    /// A context on the CPU with as many threads as the machine has.
    ///
    /// # Errors
    /// [`Status::OUT_OF_MEMORY`](crate::Status::OUT_OF_MEMORY).
    pub fn cpu() -> Result<Self> {
        Self::new(&ContextDesc::new().backend(Backend::CPU))
    }

    /// A context that logs, allocates or runs its tasks through the host program.
    ///
    /// # Errors
    /// Those of [`Context::new`].
    pub fn with_callbacks(desc: &ContextDesc, callbacks: Callbacks) -> Result<Self> {
        let callbacks = Arc::new(callbacks);
        let user = Arc::as_ptr(&callbacks).cast_mut().cast::<c_void>();
        let mut raw = *desc.as_raw();
        if callbacks.log.is_some() {
            raw.log = Some(log);
            raw.log_user = user;
        }
        if callbacks.allocator.is_some() {
            raw.alloc = Some(allocate);
            raw.free = Some(release);
            raw.alloc_user = user;
        }
        if callbacks.parallel_for.is_some() {
            raw.parallel_for = Some(parallel_for);
            raw.parallel_user = user;
        }
        // SAFETY: the desc is complete, and its callbacks live as long as the context: see Shared.
        let raw = create(|out| unsafe { ffi::ic_context_create(&raw, out) })?;
        Ok(Self(Arc::new(Shared { raw, backend: Backend(desc.as_raw().backend), callbacks })))
    }

    /// Compares two sets of logical indices row by row.
    ///
    /// # Safety
    /// The views are of this context's device and still valid, and the arrays of `out` have as many elements as the
    /// views have rows.
    ///
    /// # Errors
    /// [`Status::INVALID_ARGUMENT`](crate::Status::INVALID_ARGUMENT) when the views do not fit together.
    pub unsafe fn index_overlap(
        &self,
        a: &IndexView<'_>,
        b: &IndexView<'_>,
        out: &OverlapArgs<'_>,
        stream: Stream,
    ) -> Result<()> {
        // SAFETY: as the caller promises.
        check(unsafe { ffi::ic_index_overlap(self.as_raw(), a.as_raw(), b.as_raw(), out.as_raw(), stream.as_raw()) })
    }

    /// Where operations run.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.0.backend
    }

    /// The C handle; it lives as long as `self`.
    #[must_use]
    pub fn as_raw(&self) -> *mut ffi::ic_context {
        self.0.as_raw()
    }
}

type Log = dyn Fn(LogLevel, &str) + Send + Sync;
type ParallelFor = dyn Fn(i64, &(dyn Fn(i64) + Sync)) + Send + Sync;

/// What a context asks of the host program.
#[derive(Default)]
pub struct Callbacks {
    log: Option<Box<Log>>,
    parallel_for: Option<Box<ParallelFor>>,
    allocator: Option<Box<dyn DeviceAllocator>>,
}

/// Gives the persistent memory of handles that need some.
///
/// # Safety
/// What `allocate` returns stays valid until it is given back.
pub unsafe trait DeviceAllocator: Send + Sync {
    /// `size` bytes of device memory aligned to 256 bytes, or null. Called only inside functions that create handles.
    fn allocate(&self, size: usize) -> *mut c_void;

    /// Takes back what [`allocate`](Self::allocate) returned. Called only where handles end.
    ///
    /// # Safety
    /// `memory` came from `allocate` with the same size, and is not used any more.
    unsafe fn release(&self, memory: *mut c_void, size: usize);
}

impl Callbacks {
    /// No callbacks: messages go to stderr, threads and memory are the context's own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Receives messages, from any thread. It must not call this library.
    #[must_use]
    pub fn log(mut self, log: impl Fn(LogLevel, &str) + Send + Sync + 'static) -> Self {
        self.log = Some(Box::new(log));
        self
    }

    /// Runs `task(i)` for every `i` below `count`, at most `num_threads` of the [`ContextDesc`] at the same time, in any
    /// order, and returns when all are done. A panic in it aborts the process: the library could not go on.
    #[must_use]
    pub fn parallel_for(mut self, run: impl Fn(i64, &(dyn Fn(i64) + Sync)) + Send + Sync + 'static) -> Self {
        self.parallel_for = Some(Box::new(run));
        self
    }

    /// Persistent memory of handles that need some.
    #[must_use]
    pub fn allocator(mut self, allocator: impl DeviceAllocator + 'static) -> Self {
        self.allocator = Some(Box::new(allocator));
        self
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks")
            .field("log", &self.log.is_some())
            .field("parallel_for", &self.parallel_for.is_some())
            .field("allocator", &self.allocator.is_some())
            .finish()
    }
}

/// # Safety
/// `user` is the address that [`Context::with_callbacks`] gave.
unsafe fn callbacks<'a>(user: *mut c_void) -> &'a Callbacks {
    // SAFETY: as above; only ever shared.
    unsafe { &*user.cast::<Callbacks>() }
}

unsafe extern "C" fn log(user: *mut c_void, level: i32, message: *const c_char) {
    // SAFETY: the library's contract of ic_log_fn.
    let (callbacks, message) = unsafe { (callbacks(user), CStr::from_ptr(message)) };
    if let Some(log) = &callbacks.log {
        // A panic must not reach C; its own message has been printed.
        let _ = catch_unwind(AssertUnwindSafe(|| log(LogLevel(level), &message.to_string_lossy())));
    }
}

unsafe extern "C" fn allocate(user: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the library's contract of ic_alloc_fn.
    let allocator = unsafe { callbacks(user) }.allocator.as_ref();
    let memory = catch_unwind(AssertUnwindSafe(|| allocator.map(|allocator| allocator.allocate(size))));
    memory.ok().flatten().unwrap_or(core::ptr::null_mut())
}

unsafe extern "C" fn release(user: *mut c_void, pointer: *mut c_void, size: usize) {
    // SAFETY: the library's contract of ic_free_fn.
    if let Some(allocator) = unsafe { callbacks(user) }.allocator.as_ref() {
        // SAFETY: as above.
        let _ = catch_unwind(AssertUnwindSafe(|| unsafe { allocator.release(pointer, size) }));
    }
}

unsafe extern "C" fn parallel_for(user: *mut c_void, count: i64, task: ffi::ic_task_fn, data: *mut c_void) {
    struct Task {
        run: unsafe extern "C" fn(*mut c_void, i64),
        data: *mut c_void,
    }
    // SAFETY: the library's tasks may run on any thread, at the same time.
    unsafe impl Sync for Task {}
    impl Task {
        fn run(&self, index: i64) {
            // SAFETY: the index is below count, or the caller has been told.
            unsafe { (self.run)(self.data, index) }
        }
    }

    // SAFETY: the library's contract of ic_parallel_for_fn.
    let host = unsafe { callbacks(user) }.parallel_for.as_ref();
    let done = catch_unwind(AssertUnwindSafe(|| {
        let (host, task) = (host.unwrap(), Task { run: task.unwrap(), data });
        host(count, &|index| {
            assert!((0..count).contains(&index), "task {index} of {count}");
            task.run(index);
        });
    }));
    if done.is_err() {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn a_message_arrives_and_a_panic_does_not_leave() {
        let messages = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&messages);
        let callbacks = Callbacks::new().log(move |level, text| {
            sink.lock().unwrap().push((level, text.to_string()));
            assert_ne!(level, LogLevel::ERROR, "on purpose");
        });
        let user = core::ptr::from_ref(&callbacks).cast_mut().cast();
        for (level, text) in [(ffi::IC_LOG_WARN, c"one"), (ffi::IC_LOG_ERROR, c"two")] {
            // SAFETY: what the library passes.
            unsafe { log(user, level, text.as_ptr()) };
        }
        let sent = [(LogLevel::WARN, "one".to_string()), (LogLevel::ERROR, "two".to_string())];
        assert_eq!(*messages.lock().unwrap_or_else(std::sync::PoisonError::into_inner), sent);
    }
}
