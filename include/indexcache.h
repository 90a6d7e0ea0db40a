/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file indexcache.h
 * libindexcache: DeepSeek Sparse Attention (DSA) with index sharing between layers (IndexCache, arXiv 2603.12201).
 *
 * In DSA a cheap "lightning indexer" scores every key for every query and the attention then reads only the k best
 * keys (k = 2048 in the published models). Scoring costs O(L^2) in every layer. IndexCache runs the indexer in a few
 * *Full* layers; the *Shared* layers between them reuse the indices of the nearest preceding Full layer. This library
 * is that mechanism: the schedule of Full and Shared layers, the indexer, the exact top-k, the index cache with its
 * bookkeeping, and sparse MLA attention over the indices, on a CPU and on NVIDIA GPUs.
 *
 * One decode step, from examples/quickstart.c (complete there, compiled and run by the tests):
 *
 *     check(ic_cache_begin(cache, &batch));
 *     for (int32_t layer = 0; layer < kLayers; ++layer) {
 *       ic_index_view view = IC_INDEX_VIEW_INIT;
 *       check(ic_forward(cache, &args[layer], &view, NULL));  // Full: score, select. Shared: the source's indices
 *       printf("layer %d attends to %d keys selected by layer %d\n", (int)layer, (int)view.lengths[0],
 *              (int)view.source_layer);
 *     }
 *
 * The order of calls in an engine (examples/engine_loop.c: continuous batching, pages, prefill beside decode, drafts,
 * two pipeline stages):
 *
 *     ic_cache_begin()                 the rows of this forward, what each may see, and the block tables
 *     for every layer
 *       ic_indexer_prepare_keys()      a layer that keeps index keys: those of the new tokens, into its pool
 *       the engine's own work          the layer's latent KV of the new tokens, into its pool
 *       ic_indexer_prepare_queries()   a Full layer
 *       ic_forward()                   indices, then attention; once, or part by part
 *     ic_cache_faults()                now and then: 0, or an array was wrong
 *
 * and for every draft step that shares: ic_cache_begin() with IC_BATCH_KEEP, ic_cache_compact() when the rows are
 * others, ic_forward() with mode IC_LAYER_SHARED.
 *
 * Reading order: Conventions, Version, Status, Context, Schedule, Pools, Batch, Indexer, Top-k, Attention, Cache and
 * Forward are what an engine needs; Preparation and Index transport come when they are wanted; Search is for tools that
 * look for a schedule. What is marked "experimental" (the device epoch, candidate lists, Search) may still change
 * within a minor series.
 *
 * ---------------------------------------------------------------------------------------------------------------------
 * CONVENTIONS (every function obeys them; the comments below only add to them)
 *
 * Words. *row*: one query token of this forward; there are num_rows. *sequence*: the keys that a row may see, at
 * logical positions 0, 1, ...; every row names its sequence. *logical index*: the position of a key in its own
 * sequence, int32, counted from the sequence's 0; the only kind of index that is stored, exported or compared.
 * *slot*: the physical place of a key, page * page_tokens + offset or a flat vector number. *pool*: memory that holds
 * one vector per key. *generation*: counts the forwards on one cache. *part*: some consecutive rows of a batch.
 *
 * Structs. The caller sets struct_size to sizeof and everything else to zero or to a value; zero is always the default
 * or "not given" (`ic_batch batch = IC_BATCH_INIT;`, a designated initialiser, or memset and then struct_size). Structs
 * only ever grow at their end. A smaller struct_size (an older header) is extended by zeros; a larger one (a newer
 * header) is accepted when the part that this library does not know is zero, else IC_ERROR_UNKNOWN_FIELD. Flag bits
 * that are not listed are refused. The two structs tagged @frozen have no struct_size and never change. Structs that
 * the library fills (the *_info structs, ic_index_view, ic_device_caps) are written up to the caller's struct_size;
 * what a newer header has behind this library's fields becomes zero. There is no padding in any struct. Fields named
 * reserved must be zero.
 *
 * Errors. A function that can fail returns ic_status. Everything that the host can see is checked before any work
 * starts: after an error nothing has been changed and out parameters are untouched (create functions set *out to
 * NULL). The message names the argument, the value and what is allowed: ic_last_error(). Lists behind @errors
 * need not repeat what every function answers to a bad pointer, struct or flag.
 *
 * Ownership. Create functions return a handle that its destroy function releases; destroying NULL is fine. Handles
 * keep what they were made from alive, so handles may be destroyed in any order. Arrays, pools and strings belong to
 * the caller. Those passed to a create function are read before it returns, unless it says otherwise. Those passed to
 * an operation must stay valid until the operation has run on its stream; on the CPU backend it has when the call
 * returns.
 *
 * Memory. "Device memory" is host memory on the CPU backend and GPU memory on CUDA. Arrays of rows, keys, indices and
 * scores are device memory. Pointers are aligned to their element (int64_t: 8, int32_t and float: 4, bf16 and fp16: 2);
 * workspaces to 256 bytes. Strides count elements unless they end in _bytes; stride 0 means dense. A stride of
 * rows is below 2^31. No operation allocates: each has a workspace size query that depends on maxima only, and what it
 * says is enough for every smaller call. Workspace sizes are multiples of 256 (0: none is needed), a workspace needs no
 * clearing, and operations that run one after the other, also on different caches, may have the same one.
 *
 * Streams. Operations on the CUDA backend are asynchronous on `stream`, a cudaStream_t or CUstream (NULL = the legacy
 * default stream); order between streams is the caller's. They may be captured into a CUDA graph. On the CPU backend
 * `stream` must be NULL and the operation has finished when the call returns.
 * On compute capability 9.0 a kernel of ic_forward, ic_indexer_scores or ic_topk_select may start before the one in
 * front of it on the stream has ended, and may let the next one start early (programmatic dependent launch). It waits
 * for what is in front before it touches memory. Kernels that are launched as usual need nothing. One of yours that is
 * launched to start early must call cudaGridDependencySynchronize() before it touches memory that anything earlier on
 * the stream reads or writes (what is in front of the library's kernel may still be running), and before it ends, even
 * if it has nothing to do. A captured graph has programmatic edges, which its queries return with edge data only. In a
 * context with max_ctas there is none of this.
 *
 * Values in device memory (row_seq, key_begin, key_end, block tables, slots, indices) are never trusted: an illegal
 * one makes its row or key absent and never reads or writes out of bounds; operations on a cache also set a bit that
 * ic_cache_faults() returns. The CPU backend looks at them on the host first and refuses with IC_ERROR_OUT_OF_RANGE
 * where a function says so.
 *
 * Threads.
 *     | handle                                                     | may be used by                             |
 *     | ---------------------------------------------------------- | ------------------------------------------ |
 *     | ic_context, ic_schedule, ic_indexer, ic_topk, ic_attention | any number of threads at once; immutable   |
 *     | ic_cache, ic_search                                        | one thread at a time (the caller locks)    |
 *     | workspace                                                  | one running operation at a time            |
 *     | ic_last_error                                              | each OS thread has a message of its own    |
 *     | create, destroy, version, status and caps functions        | any thread, any time                       |
 * Destroying a handle while another thread is inside a call on it is an error of the caller. The log callback may be
 * called from any thread. One cache per micro-batch and per draft model.
 *
 * Numbers. Layer ids, rows, positions and k are int32_t; byte offsets and strides int64_t; sizes of memory size_t.
 */
#ifndef INDEXCACHE_H
#define INDEXCACHE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define IC_API __attribute__((visibility("default")))
#else
#define IC_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ==================================================================================================================
 * Version
 * ================================================================================================================ */

/** Version of this header; the only place where it is written. Before 1.0 a minor version may break the ABI; within a
 *  minor series the ABI only grows. The shared library is libindexcache.so.0.<minor>. */
#define IC_VERSION_MAJOR 0
#define IC_VERSION_MINOR 1
#define IC_VERSION_PATCH 0

/** Version of the library that is loaded: MAJOR * 65536 + MINOR * 256 + PATCH. Never fails. @since 0.1 */
IC_API uint32_t ic_version(void);

/** How the library was built: one JSON object with "version", "git", "compiler", "cuda" (toolkit version or null),
 *  "cuda_archs", "cpu_isas". Static text, never NULL. @since 0.1 */
IC_API const char *ic_build_info(void);

/* ==================================================================================================================
 * Status
 * ================================================================================================================ */

/** Result of a call: IC_OK or one of IC_ERROR_*. Numbers never change their meaning. */
typedef int32_t ic_status;

/** Success. */
#define IC_OK 0

/* 1-19: the caller's arguments. */
/** A value is outside what is allowed (k, heads, page_tokens, a negative length, a mode ...). */
#define IC_ERROR_INVALID_ARGUMENT 1
/** A pointer that must be given is NULL. */
#define IC_ERROR_NULL_POINTER 2
/** struct_size is smaller than the first released version of the struct, or larger than 4096. */
#define IC_ERROR_STRUCT_SIZE 3
/** A struct from a newer header has a non-zero field that this library does not know, or a reserved field is set. */
#define IC_ERROR_UNKNOWN_FIELD 4
/** A flag bit that this library does not know. */
#define IC_ERROR_UNKNOWN_FLAG 5
/** A pointer or byte stride is not aligned as required. */
#define IC_ERROR_MISALIGNED 6
/** The workspace is smaller than its size query says; the message has both sizes. */
#define IC_ERROR_WORKSPACE_TOO_SMALL 7
/** Handles that do not fit together: other contexts, other k, a cache made without attention ... */
#define IC_ERROR_HANDLE_MISMATCH 8
/** A value inside an array (a position, page, row, slot or sequence number) is out of range. */
#define IC_ERROR_OUT_OF_RANGE 9
/** A meaningful request that this version or backend does not implement (named in the message). */
#define IC_ERROR_UNSUPPORTED 10
/** The caller's output buffer is too small; the needed size is in *size (text functions) or in the message. */
#define IC_ERROR_BUFFER_TOO_SMALL 11
/** A text or an exported block cannot be read (JSON, pattern letter, magic number, truncated). */
#define IC_ERROR_PARSE 12
/** Two schedule fields disagree, and no flag says which one decides. */
#define IC_ERROR_SCHEDULE_CONFLICT 13
/** A schedule that cannot run: the first layer is Shared, a layer without indexer weights is Full ... */
#define IC_ERROR_SCHEDULE_INVALID 14
/** The model's sparse attention is of another kind than the one that this library computes (named in the message). */
#define IC_ERROR_MODEL_UNSUPPORTED 15

/* 20-29: the indices asked for are not there; the caller must run (or import) the source layer first. */
/** The source layer published in an earlier generation, not in this one. */
#define IC_ERROR_STALE 20
/** The source layer has never published on this cache. */
#define IC_ERROR_STALE_UNPUBLISHED 21
/** The source layer has published some parts; rows are missing. */
#define IC_ERROR_STALE_INCOMPLETE 22
/** A later Full layer has overwritten the source's slot. */
#define IC_ERROR_STALE_OVERWRITTEN 23
/** The source was published inside another stream capture (or outside of this one). */
#define IC_ERROR_STALE_CAPTURE 24
/** The source was kept from a batch with another number of rows: compact it first. */
#define IC_ERROR_STALE_ROWS 25
/** True for every status that says "these indices are not there". */
#define IC_STATUS_IS_STALE(status) ((status) >= 20 && (status) <= 29)

/* 30-39: other wrong states. */
/** No generation is open: ic_cache_begin() has not been called (or ic_cache_reset() was). */
#define IC_ERROR_NO_BATCH 30
/** A part covers a row that the same layer has already covered in this generation. */
#define IC_ERROR_PART_OVERLAP 31
/** An imported block was made under another schedule. */
#define IC_ERROR_SCHEDULE_HASH 32
/** An imported block was made by another arithmetic, and the caller asked to refuse that. */
#define IC_ERROR_NUMERICS 33
/** The candidate of a search has another answer already. */
#define IC_ERROR_ALREADY_TOLD 34
/** The journal of a search was written under another desc; the message names the first field that differs. */
#define IC_ERROR_JOURNAL 35

/* 40-59: the device. */
/** The library was built without CUDA. */
#define IC_ERROR_CUDA_NOT_BUILT 40
/** No NVIDIA driver, or one that is too old for the CUDA runtime inside this library. */
#define IC_ERROR_CUDA_NO_DRIVER 41
/** There is a driver but no such device. */
#define IC_ERROR_CUDA_NO_DEVICE 42
/** The device's compute capability is not supported by this build. */
#define IC_ERROR_CUDA_UNSUPPORTED_DEVICE 43
/** A CUDA call failed; the message has its name and error. */
#define IC_ERROR_CUDA 44

/* 60-69: the library. */
/** Memory could not be allocated (operator new or the allocator callback). */
#define IC_ERROR_OUT_OF_MEMORY 60
/** A defect of the library. */
#define IC_ERROR_INTERNAL 61

/** Name and meaning of a status, for example "IC_ERROR_STALE: the source layer published in an earlier generation".
 *  Static text, never NULL, for any number. @since 0.1 */
IC_API const char *ic_status_string(ic_status status);

/** Copies the message of the last failed call on this OS thread into buffer (at most size bytes with the closing zero)
 *  and returns the length of the whole message without the zero; 0 when no call has failed yet. A successful call does
 *  not clear it. buffer may be NULL when size is 0. Languages that move between OS threads must call this on the same
 * thread as the failing call, directly after it. @since 0.1 */
IC_API size_t ic_last_error(char *buffer, size_t size);

/* ==================================================================================================================
 * Context: a backend, a device, threads, memory, log
 * ================================================================================================================ */

/** A CUDA stream without the CUDA header: cudaStream_t and CUstream convert to it as they are. */
typedef struct CUstream_st *ic_stream;

/** Where operations run; shared by any number of handles and threads. */
typedef struct ic_context ic_context;

/** The CPU: always there. */
#define IC_BACKEND_CPU 1
/** One NVIDIA GPU, compute capability 8.0 or newer. */
#define IC_BACKEND_CUDA 2

/** Instruction level of the CPU backend. Scores, selections and attention have the same bits at every level. */
#define IC_CPU_ISA_AUTO 0
/** Plain C++; every machine. */
#define IC_CPU_ISA_PORTABLE 1
/** x86-64 with AVX2, FMA and F16C. */
#define IC_CPU_ISA_AVX2 2
/** x86-64 with AVX-512 F, BW, DQ and VL. */
#define IC_CPU_ISA_AVX512 3

/** Element types. fp8 is OCP e4m3 without infinities ("e4m3fn"). */
#define IC_DTYPE_F32 1
#define IC_DTYPE_F16 2
#define IC_DTYPE_BF16 3
#define IC_DTYPE_E4M3 4
/** Two 4-bit floats per byte; known, not implemented: IC_ERROR_UNSUPPORTED. */
#define IC_DTYPE_FP4 5

/** Severity of a log message, also the threshold in ic_context_desc. */
#define IC_LOG_OFF 1
#define IC_LOG_ERROR 2
#define IC_LOG_WARN 3
#define IC_LOG_INFO 4
#define IC_LOG_DEBUG 5

/** Receives a message (valid during the call, no newline). Must not throw or call back into the library. */
typedef void (*ic_log_fn)(void *user, int32_t level, const char *message);

/** Returns size bytes of device memory aligned to 256 bytes, or NULL. Called only inside create functions. */
typedef void *(*ic_alloc_fn)(void *user, size_t size);

/** Releases what the matching ic_alloc_fn returned. Called only inside destroy functions and failing create functions.
 */
typedef void (*ic_free_fn)(void *user, void *pointer, size_t size);

/** One piece of work: the library's, to be called by the host's scheduler. Never throws. */
typedef void (*ic_task_fn)(void *data, int64_t index);

/** Runs task(data, i) for every i in [0, count), at most num_threads of ic_context_desc at the same time, in any order,
 * and returns when all are done. */
typedef void (*ic_parallel_for_fn)(void *user, int64_t count, ic_task_fn task, void *data);

/** For debugging, CUDA: every operation waits for its stream and fails with IC_ERROR_OUT_OF_RANGE when it met an
 * illegal value in device memory; the message names the operation and what was wrong (IC_FAULT_*). The operation has
 * run then: illegal rows and keys are absent, and what it was to publish is not published. Covers also the operations
 * that have no cache to keep a fault bit in. Calls on a stream that is being captured are refused with
 * IC_ERROR_INVALID_ARGUMENT, and operations of one context run one after the other. Changes nothing on the CPU, which
 * always looks first. */
#define IC_CONTEXT_CHECK_VALUES 0x1u

/** What ic_context_create() needs. */
typedef struct ic_context_desc {
  /** sizeof(ic_context_desc) */
  size_t struct_size;
  /** IC_BACKEND_CPU or IC_BACKEND_CUDA; never chosen for you, because it says where your pointers must point */
  int32_t backend;
  /** CUDA device ordinal; 0 on the CPU. Fixed for the context's life, the caller's current device is always restored */
  int32_t device;
  /** CPU threads, 0 = as many as the machine has, at most 1024. With parallel_for: how many tasks it runs at once, at
   * least 1 */
  int32_t num_threads;
  /** IC_CPU_ISA_*: forces an instruction level (tests, comparisons); refused where the machine lacks it */
  int32_t cpu_isa;
  /** CUDA: most thread blocks in flight, so that an indexer on a side stream leaves room; 0 = no limit */
  int32_t max_ctas;
  /** IC_LOG_*: messages at or below this severity number are delivered; 0 = IC_LOG_WARN */
  int32_t log_level;
  /** Where messages go; NULL = stderr */
  ic_log_fn log;
  void *log_user;
  /** Persistent memory of handles that need some; both NULL = malloc or cudaMalloc. Never used outside create and
   * destroy */
  ic_alloc_fn alloc;
  ic_free_fn free;
  void *alloc_user;
  /** The host engine's own thread pool; NULL = threads of the context */
  ic_parallel_for_fn parallel_for;
  void *parallel_user;
  /** IC_CONTEXT_* */
  uint32_t flags;
  int32_t reserved;
} ic_context_desc;

/** Initialiser: all defaults. backend must still be set. */
#define IC_CONTEXT_DESC_INIT {sizeof(ic_context_desc), 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0}

/** Creates a context. The CPU backend starts num_threads - 1 threads; they sleep between operations and end with the
 * context.
 *  @errors IC_ERROR_INVALID_ARGUMENT, IC_ERROR_UNSUPPORTED (cpu_isa not on this machine), IC_ERROR_CUDA_*,
 *  IC_ERROR_OUT_OF_MEMORY @since 0.1 */
IC_API ic_status ic_context_create(const ic_context_desc *desc, ic_context **out);

/** Drops the caller's hold; the context ends with its last handle. @since 0.1 */
IC_API void ic_context_destroy(ic_context *context);

/** What a device can do. */
typedef struct ic_device_caps {
  /** sizeof(ic_device_caps) */
  size_t struct_size;
  /** IC_BACKEND_* */
  int32_t backend;
  int32_t device;
  /** CUDA compute capability, 90 for 9.0; 0 on the CPU */
  int32_t compute_capability;
  /** Streaming multiprocessors; hardware threads on the CPU */
  int32_t num_processors;
  /** Bytes of device memory; of physical memory on the CPU */
  uint64_t memory_bytes;
  /** Bit n is set when indexers of IC_DTYPE n run here */
  uint32_t indexer_dtypes;
  /** Bit n is set when attention over KV of IC_DTYPE n runs here */
  uint32_t attention_dtypes;
  /** Best IC_CPU_ISA_* of this machine; 0 on CUDA */
  int32_t cpu_isa;
  /** Largest k of a top-k */
  int32_t max_k;
  /** CUDA driver and runtime versions as CUDA numbers them (13000 = 13.0); 0 on the CPU */
  int32_t driver_version;
  int32_t runtime_version;
  /** Name, zero-terminated */
  char name[64];
} ic_device_caps;

/** Initialiser. */
#define IC_DEVICE_CAPS_INIT {sizeof(ic_device_caps), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}}

/** Number of devices of a backend that this build can use: 1 for the CPU. For IC_BACKEND_CUDA it returns
 *  IC_ERROR_CUDA_NOT_BUILT or IC_ERROR_CUDA_NO_DRIVER with *count = 0 where that is so. @since 0.1 */
IC_API ic_status ic_device_count(int32_t backend, int32_t *count);

/** Fills caps (an output struct: see Conventions) for one device. @since 0.1 */
IC_API ic_status ic_device_get_caps(int32_t backend, int32_t device, ic_device_caps *caps);

/* ==================================================================================================================
 * Schedule: which layers compute indices, which reuse whose
 * ================================================================================================================ */

/** A resolved schedule; immutable. Needs no context. */
typedef struct ic_schedule ic_schedule;

/** Not a layer with sparse attention of this kind (for example the layers of DeepSeek-V4 that are not C4). */
#define IC_LAYER_NONE 1
/** Full: runs the indexer and publishes its indices. */
#define IC_LAYER_FULL 2
/** Shared: reads the indices of the nearest preceding Full layer. */
#define IC_LAYER_SHARED 3
/** Scores only inside a candidate list of an earlier layer (DeepSeek-V4.1); known, not implemented:
 * IC_ERROR_UNSUPPORTED. */
#define IC_LAYER_REINDEX 4

/** Where fields of one input disagree, let indexer_types win over the pattern and the pattern over freq and offset,
 *  instead of refusing with IC_ERROR_SCHEDULE_CONFLICT. ic_schedule_explain() still lists what disagreed. */
#define IC_SCHEDULE_PRECEDENCE 0x1u

/** What ic_schedule_create() resolves. Two inputs are kept apart.
 *
 *  *Architecture*: which layers have an indexer at all. Only indexer_layers here, or "indexer_types" in the config,
 * prove that one is absent; without either, every sparse layer has one.
 *
 *  *Override*: which layers run it in this deployment: pattern, or freq and offset, from this struct or, when this
 *  struct gives none, from the config. It may turn Full into Shared anywhere but at the first layer that has an
 * indexer, and Shared into Full only where there is an indexer. Without an override every layer that has an indexer is
 * Full.
 *
 *  freq f and offset o: layer l is Full iff max(l - o + 1, 0) % f == 0, l counted from 0. o = 2 is the rule of the
 * paper's own patches; GLM-5.2 ships f = 4, o = 3. On models where only some layers are sparse (DeepSeek-V4) l counts
 * those layers. */
typedef struct ic_schedule_desc {
  /** sizeof(ic_schedule_desc) */
  size_t struct_size;
  /** Layers of the stack without MTP layers, 1 to 4096; may be 0 when config_json says it */
  int32_t num_layers;
  /** Multi-token-prediction layers behind the stack: their ids are num_layers, num_layers + 1, ...; 0 = as in the
   * config, else none */
  int32_t num_mtp_layers;
  /** F and S, one letter per layer (or per sparse layer), zero-terminated; NULL = not given */
  const char *pattern;
  /** One Full layer in freq, at least 1; 0 = not given */
  int32_t freq;
  /** At least 1; 0 = not given, then 2. Needs freq */
  int32_t offset;
  /** Ids of the layers that have indexer weights, ascending; NULL = not given */
  const int32_t *indexer_layers;
  /** Entries of indexer_layers */
  int32_t num_indexer_layers;
  /** IC_SCHEDULE_* */
  uint32_t flags;
  /** Text of a Hugging Face config.json, zero-terminated; NULL = none. Known: GLM-5, 5.1, 5.2, DeepSeek-V3.2, V4, Hy4
   * and models of the same types; a model type whose sparse attention is another is refused by name. Read are
   * model_type, num_hidden_layers, num_nextn_predict_layers, indexer_types, index_topk_pattern, index_topk_freq,
   * index_skip_topk_offset, index_share_for_mtp_iteration, of V4 compress_ratios and layer_types; sizes such as
   * index_topk are not: they go into the other descs */
  const char *config_json;
} ic_schedule_desc;

/** Initialiser. */
#define IC_SCHEDULE_DESC_INIT {sizeof(ic_schedule_desc), 0, 0, NULL, 0, 0, NULL, 0, 0, NULL}

/** Resolves a schedule.
 *  @errors IC_ERROR_PARSE (JSON; a letter that is neither F nor S), IC_ERROR_INVALID_ARGUMENT (freq, offset, length,
 * layer ids), IC_ERROR_SCHEDULE_CONFLICT (two fields of one input disagree; the message names the first layer and both
 * values), IC_ERROR_SCHEDULE_INVALID (first layer Shared; Full where there is no indexer), IC_ERROR_MODEL_UNSUPPORTED
 *  @since 0.1 */
IC_API ic_status ic_schedule_create(const ic_schedule_desc *desc, ic_schedule **out);

/** Drops the caller's hold. @since 0.1 */
IC_API void ic_schedule_destroy(ic_schedule *schedule);

/** Counts and identity of a schedule. */
typedef struct ic_schedule_info {
  /** sizeof(ic_schedule_info) */
  size_t struct_size;
  int32_t num_layers;
  int32_t num_mtp_layers;
  /** Layers of the stack by mode; the three add up to num_layers */
  int32_t num_full;
  int32_t num_shared;
  int32_t num_none;
  /** Layers, MTP included, that have an indexer (weights); indexer ordinals are 0 ... num_indexers - 1 */
  int32_t num_indexers;
  /** Layers, MTP included, whose index keys must be kept: the Full ones. Key slots are 0 ... num_key_slots - 1. An
   * engine that means to force Shared layers to Full keeps num_indexers pools instead */
  int32_t num_key_slots;
  /** 1 when the config declares index_share_for_mtp_iteration: later draft steps *may* share; never done by itself */
  int32_t mtp_can_share;
  /** First 8 bytes, read as little-endian, of the SHA-256 of the F/S string over the sparse layers; equal on every
   * machine */
  uint64_t hash;
} ic_schedule_info;

/** Initialiser. */
#define IC_SCHEDULE_INFO_INIT {sizeof(ic_schedule_info), 0, 0, 0, 0, 0, 0, 0, 0, 0}

/** Fills info. @since 0.1 */
IC_API ic_status ic_schedule_get_info(const ic_schedule *schedule, ic_schedule_info *info);

/** One layer of a schedule. -1 stands for "none" in every field. */
typedef struct ic_layer_info {
  /** sizeof(ic_layer_info) */
  size_t struct_size;
  /** Global id, as asked */
  int32_t layer;
  /** IC_LAYER_NONE, IC_LAYER_FULL (MTP layers too) or IC_LAYER_SHARED */
  int32_t mode;
  /** Global id of the layer whose indices this one uses: itself when Full */
  int32_t source_layer;
  /** Rank among the layers that have indexer weights */
  int32_t indexer_ordinal;
  /** Rank among the layers whose index keys are kept (the Full ones): where its index K lives in a compact pool */
  int32_t key_slot;
  /** Shared layers that read this layer's indices */
  int32_t num_consumers;
  /** The last of them */
  int32_t last_consumer;
  /** 1 for an MTP layer: Full at draft step 0; when a later draft step shares, its source is itself */
  int32_t is_mtp;
} ic_layer_info;

/** Initialiser. */
#define IC_LAYER_INFO_INIT {sizeof(ic_layer_info), 0, 0, 0, 0, 0, 0, 0, 0}

/** Fills info for a layer in [0, num_layers + num_mtp_layers). @since 0.1 */
IC_API ic_status ic_schedule_get_layer(const ic_schedule *schedule, int32_t layer, ic_layer_info *info);

/** The source layer whose indices must be handed over at a pipeline cut in front of first_layer, or -1 when nothing
 * must: that is so when first_layer (or, if that has no sparse attention, the next layer that has) is Full. With
 * several cuts ask at each one: a stage that only reuses has the same answer in front of it and behind it and must pass
 * the indices on (ic_cache_export(), ic_cache_import()). Every stage has a cache of its own over the schedule of the
 * whole model and the same rows; layer ids stay global. MTP layers need nothing.
 *  @errors IC_ERROR_INVALID_ARGUMENT (first_layer outside 1 ... num_layers) @since 0.1 */
IC_API ic_status ic_schedule_get_cut(const ic_schedule *schedule, int32_t first_layer, int32_t *source_layer);

/** Which of num_slots slots of a cache a Full or MTP layer writes: its key slot modulo num_slots. A Shared layer that
 * is forced to Full writes the slot of the source that it has in the schedule. @since 0.1 */
IC_API ic_status ic_schedule_get_cache_slot(const ic_schedule *schedule, int32_t layer, int32_t num_slots,
                                            int32_t *slot);

/** Engines that ic_schedule_export() writes for. */
#define IC_ENGINE_VLLM 1
#define IC_ENGINE_SGLANG 2
#define IC_ENGINE_TENSORRT_LLM 3
#define IC_ENGINE_TRANSFORMERS 4

/** The F/S string, one letter per sparse layer of the stack. Text functions: *size is the buffer's size on entry and
 * the text's size with its closing zero on return; a smaller buffer (NULL with size 0 included) gives
 * IC_ERROR_BUFFER_TOO_SMALL and writes only *size. @since 0.1 */
IC_API ic_status ic_schedule_pattern(const ic_schedule *schedule, char *buffer, size_t *size);

/** Text for people: every layer with its mode and source, where each came from, every disagreement between fields, and
 *  warnings (sharing that the config declares but nobody requested ...). A text function: see ic_schedule_pattern().
 * @since 0.1 */
IC_API ic_status ic_schedule_explain(const ic_schedule *schedule, char *buffer, size_t *size);

/** What an engine takes to run this schedule: the JSON for vLLM's --hf-overrides, SGLang's --json-model-override-args,
 * or the fields to merge into config.json for TensorRT-LLM and transformers. A text function: see
 * ic_schedule_pattern().
 *  @errors IC_ERROR_UNSUPPORTED when that engine cannot express it (the message says why) @since 0.1 */
IC_API ic_status ic_schedule_export(const ic_schedule *schedule, int32_t engine, char *buffer, size_t *size);

/* ==================================================================================================================
 * Pools and block tables: where keys live
 * ================================================================================================================ */

/** Vectors one behind the other; sequence i starts at vector key_offsets[i] of the batch. */
#define IC_LAYOUT_CONTIGUOUS 1
/** Pages of page_tokens vectors, found through a block table of the batch. */
#define IC_LAYOUT_PAGED 2

/** Logical block -> physical page, one row per sequence. Used in arrays, so it has no struct_size and never changes.
 * @frozen */
typedef struct ic_block_table {
  /** [num_seqs, stride] device memory; -1 = the page is not there: its keys are never read, selected or counted as
   * visible */
  const int32_t *pages;
  /** Entries from one sequence to the next; 0 = num_blocks */
  int64_t stride;
  /** Blocks of a sequence that may be looked at, at least 0; keys beyond them are not there */
  int32_t num_blocks;
  /** Keys of a page: 1, 16, 32, 64 (the fast one) or 128 */
  int32_t page_tokens;
} ic_block_table;

/** Initialiser. */
#define IC_BLOCK_TABLE_INIT {NULL, 0, 0, 0}

/** Memory that holds one vector per key: index keys, or the latent KV of MLA, of one layer. The library writes index
 * keys (new_keys of ic_forward(), ic_indexer_prepare_keys()); latent KV is written by the engine alone. Layers may lie
 * in one allocation and use the same page numbers: `data` then points at the layer's share of page 0, and stride_bytes
 * is the distance to its share of the next page.
 *
 *  Index keys, contiguous: [capacity, head_dim] elements, and for e4m3 one fp32 scale per key in `scales`.
 *  Index keys, paged: [capacity] pages of page_tokens * head_dim elements; e4m3 pages are page_tokens * head_dim bytes
 * and then page_tokens fp32 scales, byte for byte as DeepGEMM, vLLM and SGLang have them (64 tokens of 128: 8448
 * bytes), and `scales` is NULL. KV of MLA, contiguous: [capacity] tokens; paged: [capacity] pages of page_tokens
 * tokens. A token is d_latent, then d_rope elements (fp32, bf16), or 656 bytes: 512 e4m3, 4 fp32 scales (one per 128),
 * 64 bf16. */
typedef struct ic_pool {
  /** sizeof(ic_pool) */
  size_t struct_size;
  /** Device memory; written only by operations that say so */
  void *data;
  /** [capacity] device memory, contiguous e4m3 index keys only */
  float *scales;
  /** Bytes from one vector (contiguous) or page (paged) to the next; 0 = dense. A multiple of the element size, of 4
   * for e4m3 */
  int64_t stride_bytes;
  /** Vectors (contiguous) or pages (paged) in the pool; nothing beyond is ever touched */
  int64_t capacity;
  /** IC_LAYOUT_CONTIGUOUS or IC_LAYOUT_PAGED */
  int32_t layout;
  /** Paged: which block table of the batch, from 0; index keys and latent KV may have different ones. Ignored by
   * ic_indexer_prepare_keys(), which has no batch */
  int32_t block_table;
} ic_pool;

/** Initialiser. */
#define IC_POOL_INIT {sizeof(ic_pool), NULL, NULL, 0, 0, 0, 0}

/* ==================================================================================================================
 * Batch: what all layers of one forward share
 * ================================================================================================================ */

/** Carry complete publications over from the previous generation, also those that it had been given itself (draft steps
 * that share: see ic_cache_compact()). Each can be read while the number of rows is the same, else compact it first. */
#define IC_BATCH_KEEP 0x1u
/** Rows that see a tree of draft tokens; known, not implemented: visibility is a range. Refused with
 * IC_ERROR_UNSUPPORTED. */
#define IC_BATCH_TREE_DRAFT 0x2u

/** The rows of one forward, in any order and of any number of sequences: decode rows, prefill chunks, tokens to verify.
 * Row t sees the keys at positions [key_begin[t], key_end[t]) of sequence row_seq[t]; causal attention has key_end =
 * position + 1. key_end <= key_begin marks a padded row: length 0, indices all -1, attention output zeros. */
typedef struct ic_batch {
  /** sizeof(ic_batch) */
  size_t struct_size;
  /** T, 0 to the cache's max_rows */
  int32_t num_rows;
  /** Sequences, at least 1 when there are rows */
  int32_t num_seqs;
  /** No key_end of this batch, or of a replay of it, is larger: 0 to 2^24. A larger key_end makes its row empty and
   * sets IC_FAULT_KEY_END */
  int32_t max_key_end;
  /** Entries of block_tables, 0 to 8 */
  int32_t num_block_tables;
  /** [num_rows] device memory, sequence of each row; NULL = all rows belong to sequence 0 */
  const int32_t *row_seq;
  /** [num_rows] device memory; NULL = all 0 */
  const int32_t *key_begin;
  /** [num_rows] device memory */
  const int32_t *key_end;
  /** [num_block_tables] host memory, copied */
  const ic_block_table *block_tables;
  /** [num_seqs] device memory: vector of a contiguous pool that holds key 0 of each sequence; NULL = all 0 */
  const int64_t *key_offsets;
  /** 0 outside of stream capture; inside, a number of the caller's that names the capture. What is published inside a
   *  capture serves only calls with the same number, because a capture publishes without running */
  uint64_t capture_id;
  /** IC_BATCH_* */
  uint32_t flags;
  /** Tokens per key: 0 or 1. Pooled and compressed keys are known, not implemented: IC_ERROR_UNSUPPORTED */
  int32_t unit_tokens;
  /** Context parallelism with interleaved keys, position = local * interleave + rank: 0 or 1, else IC_ERROR_UNSUPPORTED
   */
  int32_t interleave;
  int32_t interleave_rank;
} ic_batch;

/** Initialiser. */
#define IC_BATCH_INIT {sizeof(ic_batch), 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0}

/* ==================================================================================================================
 * Indexer: the scores
 * ================================================================================================================ */

/** One indexer geometry on one context; immutable. Holds no weights.
 *
 *  The score of key s for row t (DeepSeek-V3.2; IndexCache paper, section 2):
 *
 *      I[t, s] = ks[s] * sum_h w[t, h] * relu(sum_d q[t, h, d] * k[s, d])
 *
 *  ks is the key's scale (e4m3; 1 otherwise). w is signed. The library multiplies by no other factor: fold H^-1/2,
 *  D^-1/2 and, for e4m3, the scale of q into w, or give the latter as q_scale: w' = w * q_scale, rounded to fp32 first,
 * so that both ways give the same bits. relu(NaN) = 0; a NaN score counts as -inf; -0 is made +0. A key whose score is
 * -inf is visible and comes last.
 *
 *  Numerics. An indexer has exactly one numerics id: it names one arithmetic (element type, instruction family, order
 * of the head sum). A score's bits depend on q, k, w, q_scale and ks alone, never on the batch, splits, pages, threads,
 * instruction level or the operation that computed it. On the CPU: all types are converted to fp32 exactly; the dot
 * product is one chain of fused multiply-adds with d ascending from +0; the head sum is one chain of fused
 * multiply-adds with h ascending from +0. Selections are exact against these scores. */
typedef struct ic_indexer ic_indexer;

/** What ic_indexer_create() needs. */
typedef struct ic_indexer_desc {
  /** sizeof(ic_indexer_desc) */
  size_t struct_size;
  /** H: 1 to 128 (32 and 64 in the published models) */
  int32_t num_heads;
  /** D: 32, 64 or 128 */
  int32_t head_dim;
  /** IC_DTYPE_F32, F16, BF16 or E4M3: type of q and of the keys */
  int32_t dtype;
  /** must be 0 */
  uint32_t flags;
} ic_indexer_desc;

/** Initialiser. */
#define IC_INDEXER_DESC_INIT {sizeof(ic_indexer_desc), 0, 0, 0, 0}

/** Creates an indexer. @errors IC_ERROR_INVALID_ARGUMENT, IC_ERROR_UNSUPPORTED @since 0.1 */
IC_API ic_status ic_indexer_create(ic_context *context, const ic_indexer_desc *desc, ic_indexer **out);

/** Drops the caller's hold. @since 0.1 */
IC_API void ic_indexer_destroy(ic_indexer *indexer);

/** Identity and sizes of an indexer. */
typedef struct ic_indexer_info {
  /** sizeof(ic_indexer_info) */
  size_t struct_size;
  /** Names the arithmetic; equal ids give equal bits on any machine */
  uint64_t numerics_id;
  /** eps of |I - I_exact| <= eps * ks * sum_h |w_h| * sum_d |q_hd * k_d| for this id (no overflow, no NaN) */
  double error_bound;
  /** Bytes of one key with its scale: what a Full layer's index cache takes per token */
  int64_t key_bytes;
} ic_indexer_info;

/** Initialiser. */
#define IC_INDEXER_INFO_INIT {sizeof(ic_indexer_info), 0, 0, 0}

/** Fills info. @since 0.1 */
IC_API ic_status ic_indexer_get_info(const ic_indexer *indexer, ic_indexer_info *info);

/** Indexer queries of some consecutive rows, after every rotation, Hadamard transform and quantisation. */
typedef struct ic_queries {
  /** sizeof(ic_queries) */
  size_t struct_size;
  /** [rows, H, D] of the indexer's dtype, heads dense; points at the first row of the part */
  const void *q;
  /** Elements from row to row; 0 = H * D */
  int64_t q_row_stride;
  /** [rows, H] head weights, signed */
  const float *w;
  /** 0 = H */
  int64_t w_row_stride;
  /** [rows, H] factor for w, see ic_indexer; NULL = none */
  const float *q_scale;
  /** 0 = H */
  int64_t q_scale_row_stride;
} ic_queries;

/** Initialiser. */
#define IC_QUERIES_INIT {sizeof(ic_queries), NULL, 0, NULL, 0, NULL, 0}

/** Write -inf into every column of the window that holds no visible key; without it such columns stay untouched. */
#define IC_SCORES_CLEAN 0x1u

/** row_count that means "from row_begin to the end of the batch". A row_count of 0 is an empty part, not all rows. */
#define IC_ALL_ROWS (-1)

/** What ic_indexer_scores() computes. */
typedef struct ic_scores_args {
  /** sizeof(ic_scores_args) */
  size_t struct_size;
  /** First row of the batch and number of rows; IC_ALL_ROWS = to the end of the batch */
  int32_t row_begin;
  int32_t row_count;
  /** Window of positions: column c holds position first_column + c. num_columns 0 = up to the batch's max_key_end */
  int32_t first_column;
  int32_t num_columns;
  const ic_queries *queries;
  const ic_pool *keys;
  /** [row_count, num_columns] device memory */
  float *scores;
  /** Elements from row to row, at least num_columns; 0 = num_columns */
  int64_t score_stride;
  /** At least ic_indexer_scores_workspace_size() bytes, aligned to 256 */
  void *workspace;
  size_t workspace_size;
  /** IC_SCORES_* */
  uint32_t flags;
  int32_t reserved;
} ic_scores_args;

/** Initialiser. row_count must still be set. */
#define IC_SCORES_ARGS_INIT {sizeof(ic_scores_args), 0, 0, 0, 0, NULL, NULL, NULL, 0, NULL, 0, 0, 0}

/** Bytes of workspace for ic_indexer_scores() with up to max_rows rows and keys up to max_key_end. @since 0.1 */
IC_API ic_status ic_indexer_scores_workspace_size(const ic_indexer *indexer, int32_t max_rows, int32_t max_key_end,
                                                  size_t *size);

/** Writes the scores of every visible key in the window: the same bits that a Full layer selects from. Meant for
 * checks, rescoring and engines that bring their own selection. The batch is read as in ic_cache_begin(); KEEP and
 * capture_id play no part.
 *  @errors IC_ERROR_INVALID_ARGUMENT, IC_ERROR_NULL_POINTER, IC_ERROR_MISALIGNED, IC_ERROR_WORKSPACE_TOO_SMALL; CPU:
 * IC_ERROR_OUT_OF_RANGE
 *  @since 0.1 */
IC_API ic_status ic_indexer_scores(const ic_indexer *indexer, const ic_batch *batch, const ic_scores_args *args,
                                   ic_stream stream);

/* ==================================================================================================================
 * Top-k: the selection
 * ================================================================================================================ */

/** One exact selection rule on one context; immutable.
 *
 *  The k best of each row by (score descending, position ascending): ties go to the smaller position, always. Result
 * per row: int32 indices, ascending, front-packed, -1 behind up to IC_K_PADDED(k) entries; their number in lengths; on
 * request their scores, -inf behind. A row with at most k visible keys gets all of them. NaN counts as -inf, -0 as +0;
 * a -inf key is selectable and comes last. */
typedef struct ic_topk ic_topk;

/** Entries of a row as they are written: k rounded up to 128. */
#define IC_K_PADDED(k) (((k) + 127) / 128 * 128)

/** Indices ascending by position (the default). */
#define IC_ORDER_POSITION 0
/** Best score first, ties by position. */
#define IC_ORDER_SCORE 1
/** The same set in an order that the backend likes best. */
#define IC_ORDER_ANY 2

/** What ic_topk_create() needs. */
typedef struct ic_topk_desc {
  /** sizeof(ic_topk_desc) */
  size_t struct_size;
  /** 1 to 4096 */
  int32_t k;
  /** IC_ORDER_*. A cache needs IC_ORDER_POSITION */
  int32_t order;
  /** Positions that are always selected at the start and the end of a row's range; known, not implemented: must be 0 */
  int32_t force_first;
  int32_t force_last;
  /** must be 0 */
  uint32_t flags;
  int32_t reserved;
} ic_topk_desc;

/** Initialiser. */
#define IC_TOPK_DESC_INIT {sizeof(ic_topk_desc), 0, 0, 0, 0, 0, 0}

/** Creates a selection. @errors IC_ERROR_INVALID_ARGUMENT, IC_ERROR_UNSUPPORTED @since 0.1 */
IC_API ic_status ic_topk_create(ic_context *context, const ic_topk_desc *desc, ic_topk **out);

/** Drops the caller's hold. @since 0.1 */
IC_API void ic_topk_destroy(ic_topk *topk);

/** What ic_topk_select() selects from and where to. */
typedef struct ic_select_args {
  /** sizeof(ic_select_args) */
  size_t struct_size;
  /** [num_rows, score_stride] device memory */
  const float *scores;
  /** Elements from row to row; 0 = max_end */
  int64_t score_stride;
  /** [num_rows] device memory: row r offers the columns [begin[r], end[r]); begin NULL = all 0. end <= begin: an empty
   * row */
  const int32_t *begin;
  const int32_t *end;
  /** Any number */
  int32_t num_rows;
  /** No end is larger: 0 to 2^24; a row with a larger end comes out empty (CPU: IC_ERROR_OUT_OF_RANGE) */
  int32_t max_end;
  /** [num_rows, index_stride] device memory: column numbers */
  int32_t *indices;
  /** At least IC_K_PADDED(k); 0 = that */
  int64_t index_stride;
  /** [num_rows] device memory */
  int32_t *lengths;
  /** [num_rows, index_stride] device memory; NULL = not wanted */
  float *selected_scores;
  /** At least ic_topk_select_workspace_size() bytes, aligned to 256 */
  void *workspace;
  size_t workspace_size;
} ic_select_args;

/** Initialiser. */
#define IC_SELECT_ARGS_INIT {sizeof(ic_select_args), NULL, 0, NULL, NULL, 0, 0, NULL, 0, NULL, NULL, NULL, 0}

/** Bytes of workspace for ic_topk_select(). @since 0.1 */
IC_API ic_status ic_topk_select_workspace_size(const ic_topk *topk, int32_t max_rows, int32_t max_end, size_t *size);

/** Selects from a score matrix. @since 0.1 */
IC_API ic_status ic_topk_select(const ic_topk *topk, const ic_select_args *args, ic_stream stream);

/** What ic_topk_merge() merges: selections (with scores) of the same rows over disjoint keys, for example of
 * context-parallel ranks. */
typedef struct ic_merge_args {
  /** sizeof(ic_merge_args) */
  size_t struct_size;
  /** [num_parts, num_rows, in_stride] device memory: positions in the whole sequence, -1 is ignored */
  const int32_t *in_indices;
  /** Same shape */
  const float *in_scores;
  /** [num_parts, num_rows] device memory */
  const int32_t *in_lengths;
  /** Elements from row to row; 0 = IC_K_PADDED(k) */
  int64_t in_stride;
  /** Elements from part to part; 0 = num_rows * in_stride */
  int64_t in_part_stride;
  /** 1 to 1024 */
  int32_t num_parts;
  int32_t num_rows;
  /** [num_rows, index_stride] device memory; must not overlap the inputs */
  int32_t *indices;
  /** At least IC_K_PADDED(k); 0 = that */
  int64_t index_stride;
  /** [num_rows] device memory */
  int32_t *lengths;
  /** [num_rows, index_stride] device memory; NULL = not wanted */
  float *selected_scores;
  /** At least ic_topk_merge_workspace_size() bytes, aligned to 256 */
  void *workspace;
  size_t workspace_size;
} ic_merge_args;

/** Initialiser. */
#define IC_MERGE_ARGS_INIT {sizeof(ic_merge_args), NULL, NULL, NULL, 0, 0, 0, 0, NULL, 0, NULL, NULL, NULL, 0}

/** Bytes of workspace for ic_topk_merge(). @since 0.1 */
IC_API ic_status ic_topk_merge_workspace_size(const ic_topk *topk, int32_t max_rows, int32_t max_parts, size_t *size);

/** Merges per-part selections into one, exactly: the result equals a selection over all keys at once, provided that
 * every part was selected with the same k. @since 0.1 */
IC_API ic_status ic_topk_merge(const ic_topk *topk, const ic_merge_args *args, ic_stream stream);

/* ==================================================================================================================
 * Attention: sparse MLA over selected keys
 * ================================================================================================================ */

/** One geometry of multi-head latent attention in its absorbed form on one context; immutable.
 *
 *      out[t, h] = sum_j softmax_j(scale * q[t, h] . kv[j]) * kv[j][0 : d_latent]      j over the row's indices
 *
 *  Scores use all d_latent + d_rope elements, values are the latent part; the caller projects. An index that is -1 or
 * points at nothing is skipped; a row without any valid index gives zeros and LSE -inf, never NaN. A row's result does
 * not depend on its batch. */
typedef struct ic_attention ic_attention;

/** What ic_attention_create() needs. */
typedef struct ic_attention_desc {
  /** sizeof(ic_attention_desc) */
  size_t struct_size;
  /** Query heads, 1 to 1024 */
  int32_t num_heads;
  /** Latent (value) dimensions: a multiple of 16 up to 1024; 512 in the published models */
  int32_t d_latent;
  /** Rotary dimensions: a multiple of 16 up to 256, or 0; 64 in the published models */
  int32_t d_rope;
  /** IC_DTYPE_F32, IC_DTYPE_BF16, or IC_DTYPE_E4M3 for 656-byte tokens (d_latent 512, d_rope 64) */
  int32_t kv_dtype;
  /** IC_DTYPE_F32 or IC_DTYPE_BF16 */
  int32_t q_dtype;
  /** IC_DTYPE_F32 or IC_DTYPE_BF16; 0 = q_dtype */
  int32_t out_dtype;
  /** Factor for q . kv, finite and positive, for example (d_nope + d_rope)^-1/2 */
  float softmax_scale;
  /** must be 0 */
  uint32_t flags;
} ic_attention_desc;

/** Initialiser. */
#define IC_ATTENTION_DESC_INIT {sizeof(ic_attention_desc), 0, 0, 0, 0, 0, 0, 0, 0}

/** Creates an attention. @errors IC_ERROR_INVALID_ARGUMENT, IC_ERROR_UNSUPPORTED @since 0.1 */
IC_API ic_status ic_attention_create(ic_context *context, const ic_attention_desc *desc, ic_attention **out);

/** Drops the caller's hold. @since 0.1 */
IC_API void ic_attention_destroy(ic_attention *attention);

/** What attention reads and writes for some consecutive rows. */
typedef struct ic_attention_args {
  /** sizeof(ic_attention_args) */
  size_t struct_size;
  /** [rows, num_heads, d_latent + d_rope] of q_dtype, heads dense; points at the first row of the part */
  const void *q;
  /** Elements from row to row; 0 = dense */
  int64_t q_row_stride;
  /** Latent KV. A page or vector outside of the pool is skipped and sets IC_FAULT_PAGE (ic_forward() on the CPU:
   * IC_ERROR_OUT_OF_RANGE) */
  const ic_pool *kv;
  /** [num_heads] device memory: a logit per head that joins the softmax's denominator, not the LSE; NULL = none */
  const float *sink;
  /** [rows, num_heads, d_latent] of out_dtype, heads dense */
  void *out;
  /** Elements from row to row; 0 = dense */
  int64_t out_row_stride;
  /** [rows, num_heads] natural logarithm of the sum of exp(scale * q . kv); NULL = not wanted */
  float *lse;
  /** 0 = num_heads */
  int64_t lse_row_stride;
} ic_attention_args;

/** Initialiser. */
#define IC_ATTENTION_ARGS_INIT {sizeof(ic_attention_args), NULL, 0, NULL, NULL, NULL, 0, NULL, 0}

/** Indices are positions in the row's sequence. */
#define IC_INDEX_LOGICAL 1
/** Indices are slots: page * page_tokens + offset, or flat vector numbers. */
#define IC_INDEX_SLOT 2

/** A set of indices: what a layer must attend to. Filled by ic_forward(), ic_cache_get_view() and ic_cache_remap(); an
 * engine may also fill one from its own arrays to use ic_attention_run() or ic_index_overlap() alone. */
typedef struct ic_index_view {
  /** sizeof(ic_index_view) */
  size_t struct_size;
  /** [num_rows, row_stride] device memory, front-packed, -1 behind */
  const int32_t *indices;
  /** [num_rows] device memory: valid entries per row */
  const int32_t *lengths;
  /** [num_rows, row_stride] device memory, or NULL */
  const float *scores;
  /** Elements from row to row */
  int64_t row_stride;
  int32_t num_rows;
  /** Most valid entries of a row */
  int32_t k;
  /** IC_INDEX_LOGICAL or IC_INDEX_SLOT */
  int32_t kind;
  /** Full layer that computed them; -1 = not from a cache */
  int32_t source_layer;
  /** Generation of the cache at the time; 0 = not from a cache */
  uint64_t generation;
  /** Arithmetic that they were selected by; 0 = unknown */
  uint64_t numerics_id;
} ic_index_view;

/** Initialiser. */
#define IC_INDEX_VIEW_INIT {sizeof(ic_index_view), NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0}

/** Bytes of workspace for ic_attention_run() with up to max_rows rows of up to max_k indices. @since 0.1 */
IC_API ic_status ic_attention_workspace_size(const ic_attention *attention, int32_t max_rows, int32_t max_k,
                                             size_t *size);

/** Attention alone, over any set of indices. Row r of `indices` and of `args` is row row_begin + r of the batch (its
 * sequence, block tables and key offsets are used; its key range is not). Slot indices need no batch: it may then be
 * NULL when the pool is contiguous.
 *  @since 0.1 */
IC_API ic_status ic_attention_run(const ic_attention *attention, const ic_batch *batch, int32_t row_begin,
                                  const ic_index_view *indices, const ic_attention_args *args, void *workspace,
                                  size_t workspace_size, ic_stream stream);

/** What ic_attention_mass() reads and writes for some consecutive rows. */
typedef struct ic_mass_args {
  /** sizeof(ic_mass_args) */
  size_t struct_size;
  /** [rows, num_heads, d_latent + d_rope] of q_dtype, heads dense; points at the first row of the part */
  const void *q;
  /** Elements from row to row; 0 = dense */
  int64_t q_row_stride;
  /** Latent KV, as in ic_attention_args */
  const ic_pool *kv;
  /** [num_heads] device memory, as in ic_attention_args; NULL = none */
  const float *sink;
  /** [rows, k] with the k of the indices, device memory */
  float *mass;
  /** Elements from row to row, at least k; 0 = k */
  int64_t mass_row_stride;
} ic_mass_args;

/** Initialiser. */
#define IC_MASS_ARGS_INIT {sizeof(ic_mass_args), NULL, 0, NULL, NULL, NULL, 0}

/** Bytes of workspace for ic_attention_mass() with up to max_rows rows of up to max_k indices. @since 0.1 */
IC_API ic_status ic_attention_mass_workspace_size(const ic_attention *attention, int32_t max_rows, int32_t max_k,
                                                  size_t *size);

/** Attention mass: how much of its attention a row gives to every entry of its list.
 *
 *      mass[t, j] = mean_h softmax_j(scale * q[t, h] . kv[j])      j over the row's indices
 *
 *  In fp32. Written are the first k entries of every row: 0 for one that is skipped and behind the length, and all
 * zeros for a row without any valid index. A row's masses add up to 1 within rounding. A sink joins the denominator and
 * takes its part: they then add up to less than 1. A head whose scores are all -inf has nothing to give: its part is
 * missing in the sum. A NaN score makes the masses of its row NaN. Batch, rows and slot indices are as in
 * ic_attention_run(). For analysis: with ic_index_overlap() it says which share of a layer's attention another layer's
 * indices would keep.
 *  @errors IC_ERROR_INVALID_ARGUMENT, IC_ERROR_NULL_POINTER, IC_ERROR_MISALIGNED, IC_ERROR_WORKSPACE_TOO_SMALL
 *  @since 0.1 */
IC_API ic_status ic_attention_mass(const ic_attention *attention, const ic_batch *batch, int32_t row_begin,
                                   const ic_index_view *indices, const ic_mass_args *args, void *workspace,
                                   size_t workspace_size, ic_stream stream);

/* ==================================================================================================================
 * Cache: who has published what
 * ================================================================================================================ */

/** The indices of one stream of forwards, with the bookkeeping that makes a stale or missing one an error. One owner at
 * a time.
 *
 *  A cache has num_slots buffers of [max_rows, IC_K_PADDED(k)] int32 and [max_rows] lengths (1 by default: each Full
 * layer overwrites the last). Their addresses never change.
 *
 *  ic_cache_begin() opens a generation. A Full layer's first part un-publishes its slot; the layer is published when
 * its parts, in any order, have covered every row once. A Shared call of any part needs the whole publication of its
 * source in this generation, else one of IC_ERROR_STALE*. Zero rows publish an empty result. "Published" means
 * enqueued: order between streams is the caller's. */
typedef struct ic_cache ic_cache;

/** Keep the scores of the selected keys (needed to merge, export or view them). */
#define IC_CACHE_SCORES 0x1u

/** What ic_cache_create() needs. All handles must be of one context. */
typedef struct ic_cache_desc {
  /** sizeof(ic_cache_desc) */
  size_t struct_size;
  const ic_schedule *schedule;
  const ic_indexer *indexer;
  const ic_topk *topk;
  /** NULL when the engine brings its own attention */
  const ic_attention *attention;
  /** Most rows of a batch: 1 to 2^20 */
  int32_t max_rows;
  /** 0 = 1, at most 4096; more than one for side streams, or to keep several sources at once */
  int32_t num_slots;
  /** Device memory of the caller of at least ic_cache_memory_size() bytes, aligned to 256, that outlives the cache;
   * NULL = the context's allocator */
  void *memory;
  size_t memory_size;
  /** Experimental. Opt-in guard for graph replay: a device word that the caller changes once per step. Full layers
   * stamp every row with (source, *epoch); attention and remap give length 0 and set IC_FAULT_EPOCH for a row whose
   * stamp is another. Must outlive the cache. NULL = off */
  const uint32_t *epoch;
  /** IC_CACHE_* */
  uint32_t flags;
  int32_t reserved;
} ic_cache_desc;

/** Initialiser. */
#define IC_CACHE_DESC_INIT {sizeof(ic_cache_desc), NULL, NULL, NULL, NULL, 0, 0, NULL, 0, NULL, 0, 0}

/** Bytes of device memory that a cache with this desc needs; memory and memory_size are not looked at. @since 0.1 */
IC_API ic_status ic_cache_memory_size(const ic_cache_desc *desc, size_t *size);

/** Creates a cache. @errors IC_ERROR_HANDLE_MISMATCH, IC_ERROR_WORKSPACE_TOO_SMALL (memory), IC_ERROR_OUT_OF_MEMORY
 * @since 0.1 */
IC_API ic_status ic_cache_create(ic_context *context, const ic_cache_desc *desc, ic_cache **out);

/** Destroys the cache (the caller guarantees that its streams are done with it). @since 0.1 */
IC_API void ic_cache_destroy(ic_cache *cache);

/** Opens a generation for the rows of `batch`: the previous one's publications are gone, unless IC_BATCH_KEEP carries
 * them over. The struct and its block_tables are copied; its device arrays, those of the pages too, must stay
 * as they are until the next begin or reset: block tables grow between forwards. Host only: no stream, no device work.
 * The CPU backend refuses an illegal row_seq, key_begin or key_end and a page below -1 with IC_ERROR_OUT_OF_RANGE here;
 * whether a page lies inside a pool is for the operation on that pool to say. On failure the previous generation is
 * still open.
 *  @errors IC_ERROR_INVALID_ARGUMENT, IC_ERROR_NULL_POINTER, IC_ERROR_OUT_OF_RANGE, IC_ERROR_UNSUPPORTED @since 0.1 */
IC_API ic_status ic_cache_begin(ic_cache *cache, const ic_batch *batch);

/** Forgets the generation, its batch and every publication. @since 0.1 */
IC_API ic_status ic_cache_reset(ic_cache *cache);

/** State of a cache. */
typedef struct ic_cache_info {
  /** sizeof(ic_cache_info) */
  size_t struct_size;
  /** Generations opened so far */
  uint64_t generation;
  /** Rows of the open batch; -1 = no generation is open */
  int32_t num_rows;
  int32_t max_rows;
  int32_t num_slots;
  int32_t k;
  /** Entries from row to row of every slot */
  int64_t row_stride;
  /** Numerics id of the indexer */
  uint64_t numerics_id;
} ic_cache_info;

/** Initialiser. */
#define IC_CACHE_INFO_INIT {sizeof(ic_cache_info), 0, 0, 0, 0, 0, 0, 0}

/** Fills info. @since 0.1 */
IC_API ic_status ic_cache_get_info(const ic_cache *cache, ic_cache_info *info);

/** The publication of a source layer in the current generation, all rows. Of a Shared layer ask for the source_layer of
 * its ic_layer_info. The view is valid until the slot is written again. @errors IC_ERROR_STALE*, IC_ERROR_NO_BATCH
 * @since 0.1 */
IC_API ic_status ic_cache_get_view(const ic_cache *cache, int32_t source_layer, ic_index_view *view);

/** A row's key_end is above the batch's max_key_end; with IC_CONTEXT_CHECK_VALUES also a key_begin below 0. */
#define IC_FAULT_KEY_END 0x1u
/** A row's sequence number is out of range. */
#define IC_FAULT_SEQUENCE 0x2u
/** A block table names a page outside its pool, or a contiguous vector lies outside. */
#define IC_FAULT_PAGE 0x4u
/** A position is outside the cos/sin tables. */
#define IC_FAULT_POSITION 0x8u
/** A slot lies outside its pool, or does not fit into int32. */
#define IC_FAULT_SLOT 0x10u
/** An index row was published under another epoch or by another source. */
#define IC_FAULT_EPOCH 0x20u
/** A row number given to compact is out of range. */
#define IC_FAULT_ROW 0x40u
/** A list of indices is none: an imported one is not ascending or holds positions that its row does not see; with
 * IC_CONTEXT_CHECK_VALUES also a length that is negative or longer than a list can be. */
#define IC_FAULT_INDEX 0x80u

/** Reads the sticky IC_FAULT_* bits that operations of this cache have set, and clears them when `clear` is 1. On CUDA
 * it waits for `stream` and must not be captured. @since 0.1 */
IC_API ic_status ic_cache_faults(ic_cache *cache, int32_t clear, uint32_t *faults, ic_stream stream);

/* ==================================================================================================================
 * Forward: one call per layer and part
 * ================================================================================================================ */

/** Ready keys (rotated, transformed, quantised) that are written before scoring, in every mode: a layer that shares
 * today but is forced to Full tomorrow needs a pool without holes. A layer that never computes needs neither pool nor
 * keys. With several parts the first one may bring the keys of all; each at least those of its own rows, and parts of
 * one sequence then run in the order of their positions. */
typedef struct ic_new_keys {
  /** sizeof(ic_new_keys) */
  size_t struct_size;
  /** [count, D] of the indexer's dtype */
  const void *keys;
  /** Bytes from key to key; 0 = dense */
  int64_t key_stride_bytes;
  /** [count] device memory, e4m3 only */
  const float *scales;
  /** [count] device memory: slot of each key in the pool, page * page_tokens + offset or a vector number; -1 = skip. No
   * slot twice: what two keys leave in one slot is undefined */
  const int64_t *slots;
  /** Number of keys, at least 0 */
  int64_t count;
} ic_new_keys;

/** Initialiser. */
#define IC_NEW_KEYS_INIT {sizeof(ic_new_keys), NULL, 0, NULL, NULL, 0}

/** What belongs to one layer (and part); may be prebuilt once and used again in every step. */
typedef struct ic_forward_args {
  /** sizeof(ic_forward_args) */
  size_t struct_size;
  /** Global layer id */
  int32_t layer;
  /** 0 = as the schedule says; IC_LAYER_FULL or IC_LAYER_SHARED force a mode for this generation. A layer forced to
   * FULL serves the Shared layers behind it until the next Full one; one forced to SHARED reads the nearest preceding
   * Full one. An MTP layer runs Full unless it is told IC_LAYER_SHARED, and then reads itself */
  int32_t mode;
  /** The part: first row of the batch and number of rows; IC_ALL_ROWS = to the end of the batch, 0 = no rows (fine for
   * a part that happens to be empty) */
  int32_t row_begin;
  int32_t row_count;
  /** Full: the part's indexer queries. Ignored by a Shared layer */
  const ic_queries *queries;
  /** Full: the layer's index keys; also where new_keys go. Ignored by a Shared layer without new_keys */
  const ic_pool *keys;
  /** Keys to write first, in every mode; NULL = none */
  const ic_new_keys *new_keys;
  /** Attention over the indices, after the indices are there; NULL = not here */
  const ic_attention_args *attention;
  /** A guess of the selection (the previous step's indices, [row_count, IC_K_PADDED(k)]): may speed a backend up, never
   * changes the result; NULL = none */
  const int32_t *hint;
  /** Experimental. Candidate lists for IC_LAYER_REINDEX; known, not implemented: must be NULL */
  const int32_t *candidates;
  /** At least ic_forward_workspace_size() bytes, aligned to 256. A Shared call without new_keys and attention needs
   * none */
  void *workspace;
  size_t workspace_size;
  /** must be 0 */
  uint32_t flags;
  int32_t reserved;
} ic_forward_args;

/** Initialiser. layer and row_count must still be set. */
#define IC_FORWARD_ARGS_INIT {sizeof(ic_forward_args), 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0}

/** Bytes of workspace for any ic_forward() on this cache with up to max_rows rows and keys up to max_key_end. @since
 * 0.1 */
IC_API ic_status ic_forward_workspace_size(const ic_cache *cache, int32_t max_rows, int32_t max_key_end, size_t *size);

/** Runs one layer (or one part of its rows).
 *
 *  Full: writes new_keys, scores, selects into the cache, publishes; then attention when asked. Shared: writes new_keys
 * when given, finds the source's publication; then attention when asked. A Shared call with neither does no device work
 * at all. A Full part attends with its own indices, whether or not the others have run. `out` (may be NULL) receives
 * the part's indices (its row 0 is row_begin), valid until the slot is written again.
 *  @errors IC_ERROR_NO_BATCH, IC_ERROR_STALE*, IC_ERROR_PART_OVERLAP, IC_ERROR_INVALID_ARGUMENT, IC_ERROR_NULL_POINTER,
 * IC_ERROR_MISALIGNED, IC_ERROR_WORKSPACE_TOO_SMALL, IC_ERROR_HANDLE_MISMATCH, IC_ERROR_SCHEDULE_INVALID (Full without
 * an indexer), IC_ERROR_UNSUPPORTED; CPU: IC_ERROR_OUT_OF_RANGE (slots of new_keys, pages or vectors of `keys` and
 * of attention's `kv`)
 *  @since 0.1 */
IC_API ic_status ic_forward(ic_cache *cache, const ic_forward_args *args, ic_index_view *out, ic_stream stream);

/* ==================================================================================================================
 * Preparation: from projections to indexer queries and keys (optional)
 * ================================================================================================================ */

/** Rotate pairs (2i, 2i + 1); without it pairs (i, i + rope_dim / 2). Models differ: GLM-5 interleaves, DeepSeek-V3.2's
 * indexer does not. */
#define IC_PREPARE_ROPE_INTERLEAVED 0x1u
/** Rotate the last rope_dim dimensions; without it the first. */
#define IC_PREPARE_ROPE_LAST 0x2u
/** Multiply by the orthonormal Hadamard matrix (head_dim a power of two, as all allowed are). */
#define IC_PREPARE_HADAMARD 0x4u
/** Round e4m3 scales up to a power of two ("ue8m0"). */
#define IC_PREPARE_UE8M0 0x8u

/** Input of both preparation functions. Steps, in fp32, in this order, each optional: LayerNorm (keys), rotation,
 * Hadamard; at the end one rounding to the indexer's dtype, to nearest even. e4m3: scale = max(amax, 1e-4) / 448 over
 * the head's vector, value = x / scale. The caller folds H^-1/2 * D^-1/2 into the head weights. */
typedef struct ic_prepare_args {
  /** sizeof(ic_prepare_args) */
  size_t struct_size;
  /** Queries: [count, H, D], heads dense. Keys: [count, D]. Of x_dtype */
  const void *x;
  /** Elements from row to row; 0 = dense */
  int64_t x_row_stride;
  /** Rows, at least 0 */
  int64_t count;
  /** IC_DTYPE_F32, IC_DTYPE_F16 or IC_DTYPE_BF16 */
  int32_t x_dtype;
  /** IC_PREPARE_* */
  uint32_t flags;
  /** [count] device memory: row of the cos/sin tables; needed when rope_dim > 0. Out of range: the row is written as
   * zeros (queries) or skipped (keys) */
  const int32_t *positions;
  /** [num_positions, rope_dim / 2] device memory */
  const float *cos_table;
  const float *sin_table;
  int32_t num_positions;
  /** Even, 0 to D; 0 = no rotation */
  int32_t rope_dim;
  /** Keys: [D] LayerNorm weight and bias, device memory; NULL = no LayerNorm, no bias */
  const float *norm_weight;
  const float *norm_bias;
  /** Positive when norm_weight is given (1e-6 in the published models) */
  float norm_eps;
  int32_t reserved;
  /** Queries: [count, H, D] of the indexer's dtype, device memory */
  void *q_out;
  /** Elements from row to row; 0 = dense */
  int64_t q_out_row_stride;
  /** Queries, e4m3: [count, H] scales, to be given as q_scale; NULL for the other types */
  float *q_scale_out;
  /** Keys: pool and slots ([count] device memory, -1 = skip, none twice) to write into */
  const ic_pool *pool;
  const int64_t *slots;
  /** Keys, paged pool: its page size (there is no batch here); 0 when contiguous */
  int32_t page_tokens;
  int32_t reserved2;
} ic_prepare_args;

/** Initialiser. */
#define IC_PREPARE_ARGS_INIT \
  {sizeof(ic_prepare_args), NULL, 0, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, NULL, 0, 0, NULL, 0, NULL, NULL, NULL, 0, 0}

/** Projected queries to indexer queries (Full layers need them); the fields of keys must be unset. @since 0.1 */
IC_API ic_status ic_indexer_prepare_queries(const ic_indexer *indexer, const ic_prepare_args *args, ic_stream stream);

/** Projected keys into an index-key pool, instead of new_keys: before the ic_forward() whose rows see them; the fields
 * of queries must be unset. Illegal slots and positions are skipped (CPU: IC_ERROR_OUT_OF_RANGE before anything is
 * written). @since 0.1 */
IC_API ic_status ic_indexer_prepare_keys(const ic_indexer *indexer, const ic_prepare_args *args, ic_stream stream);

/* ==================================================================================================================
 * Index transport: slots, speculative decoding, other processes, comparison
 * ================================================================================================================ */

/** What ic_cache_remap() maps to. */
typedef struct ic_remap_args {
  /** sizeof(ic_remap_args) */
  size_t struct_size;
  /** Publication to map */
  int32_t source_layer;
  /** IC_LAYOUT_PAGED: page * page_tokens + offset through block_table. IC_LAYOUT_CONTIGUOUS: key_offsets[sequence] +
   * position */
  int32_t layout;
  /** Which block table of the batch, from 0 */
  int32_t block_table;
  int32_t reserved;
  /** [num_rows, row_stride] device memory */
  int32_t *slots;
  /** [num_rows] device memory: the length, 0 where the epoch does not match */
  int32_t *lengths;
  /** At least IC_K_PADDED(k); 0 = that */
  int64_t row_stride;
} ic_remap_args;

/** Initialiser. */
#define IC_REMAP_ARGS_INIT {sizeof(ic_remap_args), 0, 0, 0, 0, NULL, NULL, 0}

/** Logical indices to slots, once for a whole group: every layer that reads this source through the same block table
 * uses the same array (a layer's own offset is its base pointer). Asked again for the same source, table and arrays in
 * one generation it does nothing: leave the arrays alone in between, and give each cache arrays of its own (a temporary
 * that an allocator hands out twice would pass for mapped). A key without a page becomes -1 in its place, so entries
 * keep their rank. `out` (may be NULL) receives a view of kind IC_INDEX_SLOT.
 *  @errors IC_ERROR_STALE*, IC_ERROR_INVALID_ARGUMENT @since 0.1 */
IC_API ic_status ic_cache_remap(ic_cache *cache, const ic_remap_args *args, ic_index_view *out, ic_stream stream);

/** What ic_cache_compact() keeps. */
typedef struct ic_compact_args {
  /** sizeof(ic_compact_args) */
  size_t struct_size;
  /** Publication to take rows from: of this generation, or kept from the previous one */
  int32_t source_layer;
  /** Layer under which the result is published: source_layer again, or an MTP layer */
  int32_t publish_layer;
  /** [num_rows] device memory: for every row of the open batch the row of the source publication; -1 = an empty row */
  const int32_t *rows;
  /** Rows of the open batch */
  int32_t num_rows;
  int32_t reserved;
  /** At least ic_cache_compact_workspace_size() bytes, aligned to 256 */
  void *workspace;
  size_t workspace_size;
} ic_compact_args;

/** Initialiser. */
#define IC_COMPACT_ARGS_INIT {sizeof(ic_compact_args), 0, 0, NULL, 0, 0, NULL, 0}

/** Bytes of workspace for ic_cache_compact(). @since 0.1 */
IC_API ic_status ic_cache_compact_workspace_size(const ic_cache *cache, int32_t max_rows, size_t *size);

/** Speculative decoding: of the rows that a draft's step 0 published keep the last *accepted* one of each request, in
 * the batch of the next step. Order: ic_cache_begin() with IC_BATCH_KEEP and the new rows, then this, then ic_forward()
 * of the MTP layer with mode IC_LAYER_SHARED. Further steps of the same requests need IC_BATCH_KEEP only. Indices are
 * taken as they are: that a later row also sees newer keys does not add them.
 *  @errors IC_ERROR_STALE*, IC_ERROR_NO_BATCH, IC_ERROR_WORKSPACE_TOO_SMALL, IC_ERROR_INVALID_ARGUMENT (num_rows;
 * publish_layer is another layer of the stack); CPU: IC_ERROR_OUT_OF_RANGE (rows) @since 0.1 */
IC_API ic_status ic_cache_compact(ic_cache *cache, const ic_compact_args *args, ic_stream stream);

/** Where an exported block lies. */
#define IC_MEMORY_HOST 1
#define IC_MEMORY_DEVICE 2

/** First 64 bytes of an exported block, little-endian. Behind it: int32 lengths[rows], int32 indices[rows, k], and with
 *  IC_EXPORT_SCORES float scores[rows, k]. A format, so it has no struct_size and never changes. @frozen */
typedef struct ic_export_header {
  /** 0x58494349, the bytes "ICIX" */
  uint32_t magic;
  /** 1 */
  uint32_t version;
  uint64_t schedule_hash;
  uint64_t numerics_id;
  int32_t source_layer;
  int32_t num_rows;
  int32_t k;
  /** IC_EXPORT_* */
  uint32_t flags;
  /** Zeros */
  uint64_t reserved[3];
} ic_export_header;

/** The block has scores. */
#define IC_EXPORT_SCORES 0x1u

/** Bytes of an exported block of num_rows rows of this cache. flags: IC_EXPORT_*. @since 0.1 */
IC_API ic_status ic_cache_export_size(const ic_cache *cache, int32_t num_rows, uint32_t flags, size_t *size);

/** Writes the publication of a source layer as logical indices, for another pipeline stage, prefill-decode transfer or
 * a recording. buffer: size bytes, at least ic_cache_export_size() of the open batch's rows, aligned to 8. location:
 * IC_MEMORY_HOST or IC_MEMORY_DEVICE. On CUDA the block is written on `stream`; use pinned host memory. Pageable memory
 * works too, but the call then waits for the stream, and it is refused while the stream is being captured.
 *  @errors IC_ERROR_STALE*, IC_ERROR_BUFFER_TOO_SMALL, IC_ERROR_INVALID_ARGUMENT (scores that the cache does not keep;
 * CUDA: pageable memory in a capture; memory that is not where location says) @since 0.1 */
IC_API ic_status ic_cache_export(ic_cache *cache, int32_t source_layer, uint32_t flags, int32_t location, void *buffer,
                                 size_t size, ic_stream stream);

/** Accept a block that was made under another schedule. */
#define IC_IMPORT_ANY_SCHEDULE 0x1u
/** Refuse a block of another numerics id with IC_ERROR_NUMERICS (by default it is accepted and reported). */
#define IC_IMPORT_SAME_NUMERICS 0x2u

/** Publishes an exported block in the current generation under publish_layer (-1 = the source layer of the block), a
 * layer that is Full here; its rows must be the rows of the open batch, and with IC_CACHE_SCORES it must have scores.
 * buffer: aligned to 8, size at least the block's (more is ignored). `header` (may be NULL) receives what the block
 * says of itself, so that another numerics id can be noticed. The block must lie in host memory, where this call reads
 * and checks it; on CUDA its body is copied on `stream`, so pinned memory must stay as it is until then, and a captured
 * import, which copies again at every replay, needs pinned memory. The copied lists are checked once more on the
 * device: a row that is no ascending list inside its range is empty and sets IC_FAULT_INDEX.
 *  @errors IC_ERROR_PARSE (not a block, truncated, an index list that is not ascending), IC_ERROR_SCHEDULE_HASH,
 * IC_ERROR_NUMERICS, IC_ERROR_HANDLE_MISMATCH (another k; no scores), IC_ERROR_INVALID_ARGUMENT (another number of
 * rows; publish_layer; CUDA: pageable memory in a capture), IC_ERROR_OUT_OF_RANGE (an index beyond its row's range,
 * CPU)
 *  @since 0.1 */
IC_API ic_status ic_cache_import(ic_cache *cache, int32_t publish_layer, uint32_t flags, const void *buffer,
                                 size_t size, ic_export_header *header, ic_stream stream);

/** Results of ic_index_overlap(), each [num_rows] device memory or NULL. */
typedef struct ic_overlap_args {
  /** sizeof(ic_overlap_args) */
  size_t struct_size;
  /** |A and B| */
  int32_t *intersection;
  /** |A and B| / |A|; 1 when A is empty */
  float *recall;
  /** |A and B| / |A or B|; 1 when both are empty */
  float *jaccard;
  /** Input: [num_rows, k of A] device memory, one weight per entry of A (ic_attention_mass()), none negative; needed
   * for mass_recall */
  const float *mass;
  /** Elements from row to row, at least the k of A; 0 = that */
  int64_t mass_row_stride;
  /** Sum of the mass of A and B / sum of the mass of A; 1 when the latter is 0: A is empty, or has nothing to lose */
  float *mass_recall;
} ic_overlap_args;

/** Initialiser. */
#define IC_OVERLAP_ARGS_INIT {sizeof(ic_overlap_args), NULL, NULL, NULL, NULL, 0, NULL}

/** Compares two sets of logical indices row by row; both ascending, as a cache publishes them, and with the same number
 * of rows. Two layers of one cache are there at once when it has more than one slot (ic_schedule_get_cache_slot());
 * an earlier forward's indices must have been copied. @since 0.1 */
IC_API ic_status ic_index_overlap(ic_context *context, const ic_index_view *a, const ic_index_view *b,
                                  const ic_overlap_args *out, ic_stream stream);

/* ==================================================================================================================
 * Search: a good pattern without training (experimental)
 * ================================================================================================================ */

/** Searches for the layers that can share (IndexCache paper, section 3: training-free). It runs no model: it says which
 * pattern to evaluate next and is told the loss, so there is no callback, and any number of workers, also in other
 * processes, may evaluate at once. Host only; needs no context, reads no clock and no file.
 *
 *  With one worker, from examples/search.c:
 *
 *      for (;;) {
 *        ic_search_candidate candidate = IC_SEARCH_CANDIDATE_INIT;
 *        check(ic_search_next(search, &candidate));
 *        if (candidate.id < 0) break;
 *        size_t size = sizeof pattern;
 *        check(ic_search_candidate_pattern(search, candidate.id, pattern, &size));
 *        check(ic_search_tell(search, candidate.id, evaluate(pattern)));
 *        append_journal(search, file);  // what a search that is stopped here goes on from
 *      }
 *
 *  Candidate 0 is the baseline, the pattern that the search starts from; it comes alone. Candidates of one step are
 * compared when all of them are told or rejected: the least loss is accepted, of equal ones the lowest layer (where no
 * single layer is flipped: the lowest id). Ids and results depend on the desc and the losses alone: not on the number
 * of workers, nor on the order of their answers. */
typedef struct ic_search ic_search;

/** Paper, Algorithm 1: in each step every Full layer is tried as Shared, and the one with the least loss becomes it. */
#define IC_STRATEGY_GREEDY 1
/** The same for pipelines, with about num_blocks times fewer evaluations: the layers are cut into num_blocks blocks,
 * block b begins at layer floor(b * num_layers / num_blocks + 1/2), and that layer stays Full. The blocks take turns:
 * one tries its own layers and accepts its best flip, which is a step, then the next one does. A block whose best flip
 * is above the loss budget, or whose candidates are all rejected, is done; the others go on. */
#define IC_STRATEGY_GREEDY_BLOCKS 2
/** For comparison: F Full layers evenly spread, at floor(i * num_layers / F). Takes no start and no keep_full. */
#define IC_STRATEGY_UNIFORM 3
/** For comparison: the F Full layers that maximise the sum of similarity[l, source of l] over the Shared layers l
 * (paper, appendix C); of equal sums the one whose last Full layers are lowest. */
#define IC_STRATEGY_SIMILARITY_DP 4
/** For comparison: num_samples distinct patterns with F Full layers (all, where there are not more), drawn from seed by
 * SplitMix64: the same on every machine. */
#define IC_STRATEGY_RANDOM 5

/** What ic_search_create() needs. Of the greedy strategies each step makes one Full layer Shared, until num_full are
 * left. Of the others there is one step for each number of Full layers, from max_full down to num_full, and all
 * candidates can be evaluated at once. */
typedef struct ic_search_desc {
  /** sizeof(ic_search_desc) */
  size_t struct_size;
  /** 1 to 4096; on models where only some layers have an indexer: those that have */
  int32_t num_layers;
  /** IC_STRATEGY_* */
  int32_t strategy;
  /** Pattern to start from, num_layers letters F and S, zero-terminated: its loss is the baseline, and layers that are
   * Shared in it stay so. NULL = all Full */
  const char *start;
  /** Layers that stay Full, in any order; the first layer does anyway. NULL = no other */
  const int32_t *keep_full;
  /** Entries of keep_full */
  int32_t num_keep_full;
  /** Fewest Full layers to reach, 0 to as many as start has; where more must stay Full, those. 0 = as few as possible
   */
  int32_t num_full;
  /** Not greedy: most Full layers to look at, num_full to as many as start has; 0 = num_full, so one step. Greedy: must
   * be 0 */
  int32_t max_full;
  /** Greedy by blocks: 1 to num_layers; others: must be 0 */
  int32_t num_blocks;
  /** Greedy: accept nothing whose loss is above that of the baseline plus this; at least 0, where 0 = no limit (the
   * smallest positive number means "not above the baseline"). Others: must be 0 */
  double loss_budget;
  /** By similarity: [num_layers, num_layers], host memory: how alike layer l with its own indices and with
   * those of layer j < l are, as cosine of the attention outputs or any measure that is larger for more alike; -1e300
   * to 1e300. Only the entries [l, j] with j < l are read. Others: NULL */
  const double *similarity;
  /** Entries of similarity: num_layers * num_layers */
  int32_t num_similarity;
  /** Random: patterns for each number of Full layers, 1 to 65536, and at most 2^20 in all; others: must be
   * 0 */
  int32_t num_samples;
  /** Random: any number; others: must be 0 */
  uint64_t seed;
  /** What ic_search_journal() of an earlier search of the same desc gave, to resume it; not zero-terminated, copied.
   * Everything behind its last newline is ignored as a line that was cut while it was written: truncate the file to
   * journal_resumed of ic_search_info, then go on appending. NULL = a new search */
  const char *journal;
  /** Bytes of journal */
  size_t journal_size;
} ic_search_desc;

/** Initialiser. num_layers and strategy must still be set. */
#define IC_SEARCH_DESC_INIT {sizeof(ic_search_desc), 0, 0, NULL, NULL, 0, 0, 0, 0, 0, NULL, 0, 0, 0, NULL, 0}

/** Starts a search, or resumes one.
 *  @errors IC_ERROR_INVALID_ARGUMENT (a number, a layer of keep_full, an entry of similarity; a field that belongs to
 * another strategy; start makes a layer Shared that must stay Full), IC_ERROR_PARSE (a letter of start; the journal,
 * with the number of its line), IC_ERROR_SCHEDULE_INVALID (start makes the first layer Shared),
 * IC_ERROR_JOURNAL (the journal belongs to another desc; the message names the first field that differs),
 * IC_ERROR_UNSUPPORTED (a journal of a later format)
 *  @since 0.1 */
IC_API ic_status ic_search_create(const ic_search_desc *desc, ic_search **out);

/** Ends a search. @since 0.1 */
IC_API void ic_search_destroy(ic_search *search);

/** A pattern to evaluate. */
typedef struct ic_search_candidate {
  /** sizeof(ic_search_candidate) */
  size_t struct_size;
  /** Names the candidate from now on, also after a resume; -1 = there is none now: the search has ended, or waits for
   * answers */
  int64_t id;
  /** Step in which it competes, from 0; -1 = the baseline */
  int32_t step;
  /** Layer that is Shared here and Full in the accepted pattern; -1 = not a single one is flipped */
  int32_t layer;
  /** First layer whose mode is not that of the accepted pattern: an engine that keeps what went into each layer under
   * the accepted pattern can start here. 0 for the baseline; num_layers when no mode differs */
  int32_t first_layer;
  /** Full layers of the pattern */
  int32_t num_full;
} ic_search_candidate;

/** Initialiser. */
#define IC_SEARCH_CANDIDATE_INIT {sizeof(ic_search_candidate), 0, 0, 0, 0, 0}

/** Hands out the candidate with the lowest id that is neither answered nor handed out. What has been handed out comes
 * again only after ic_search_release(), or in a resumed search. @since 0.1 */
IC_API ic_status ic_search_next(ic_search *search, ic_search_candidate *candidate);

/** The F/S string of a candidate, open or decided. A text function: see ic_schedule_pattern().
 *  @errors IC_ERROR_INVALID_ARGUMENT (no such id yet) @since 0.1 */
IC_API ic_status ic_search_candidate_pattern(const ic_search *search, int64_t id, char *buffer, size_t *size);

/** Tells the loss of a candidate, whether or not this search has handed it out; in any order. The same loss again
 * changes nothing.
 *  @errors IC_ERROR_INVALID_ARGUMENT (loss is not finite; no such id yet), IC_ERROR_ALREADY_TOLD @since 0.1 */
IC_API ic_status ic_search_tell(ic_search *search, int64_t id, double loss);

/** Says that a candidate cannot be evaluated: it competes no longer. Its layer is tried again in later steps; one that
 * must never share belongs into keep_full. Rejecting the baseline ends the search. Again changes nothing.
 *  @errors IC_ERROR_INVALID_ARGUMENT (no such id yet), IC_ERROR_ALREADY_TOLD (a loss) @since 0.1 */
IC_API ic_status ic_search_reject(ic_search *search, int64_t id);

/** Gives a candidate back unanswered (its worker is gone): ic_search_next() hands it out again. Changes nothing when it
 * is not handed out.
 *  @errors IC_ERROR_INVALID_ARGUMENT (no such id yet), IC_ERROR_ALREADY_TOLD @since 0.1 */
IC_API ic_status ic_search_release(ic_search *search, int64_t id);

/** There are candidates to evaluate, or to wait for. */
#define IC_SEARCH_RUNNING 1
/** num_full is reached. */
#define IC_SEARCH_DONE 2
/** No next step is within the loss budget. */
#define IC_SEARCH_BUDGET 3
/** All candidates of a step (of the last one, when not greedy), or the baseline, have been rejected. */
#define IC_SEARCH_EXHAUSTED 4

/** Where a search stands. */
typedef struct ic_search_info {
  /** sizeof(ic_search_info) */
  size_t struct_size;
  /** IC_SEARCH_* */
  int32_t state;
  /** Steps accepted so far */
  int32_t num_steps;
  /** Full layers of the accepted pattern */
  int32_t num_full;
  /** Full layers that the search goes to: desc.num_full, or as many as must stay Full */
  int32_t target_num_full;
  /** Loss of the pattern that the search started from; NaN until it is told */
  double baseline_loss;
  /** Loss of the accepted pattern; NaN until the baseline is told */
  double accepted_loss;
  /** Losses told, without the baseline's */
  int64_t num_evaluated;
  /** Candidates rejected, without the baseline */
  int64_t num_rejected;
  /** Candidates handed out and not answered */
  int64_t num_handed_out;
  /** Evaluations of the whole search, without the baseline, when nothing is rejected and no budget ends it: what the
   * paper counts */
  int64_t num_planned;
  /** Bytes of the journal so far */
  int64_t journal_size;
  /** Bytes of desc.journal that were taken over: where its file must be truncated */
  int64_t journal_resumed;
} ic_search_info;

/** Initialiser. */
#define IC_SEARCH_INFO_INIT {sizeof(ic_search_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/** Fills info. @since 0.1 */
IC_API ic_status ic_search_get_info(const ic_search *search, ic_search_info *info);

/** The accepted pattern: of the greedy strategies that of the last step, or of the start; of the others the start's
 * until the search has ended, then that of the last step. A text function: see ic_schedule_pattern(). @since 0.1 */
IC_API ic_status ic_search_accepted(const ic_search *search, char *buffer, size_t *size);

/** What a step accepted. */
typedef struct ic_search_step {
  /** sizeof(ic_search_step) */
  size_t struct_size;
  /** Candidate that was accepted */
  int64_t id;
  double loss;
  /** Layer that became Shared; -1 = not a single one */
  int32_t layer;
  /** Full layers afterwards */
  int32_t num_full;
} ic_search_step;

/** Initialiser. */
#define IC_SEARCH_STEP_INIT {sizeof(ic_search_step), 0, 0, 0, 0}

/** Fills info for an accepted step, 0 to num_steps - 1 of ic_search_info: together the whole trajectory. A number of
 * Full layers all of whose candidates were rejected has no step.
 *  @errors IC_ERROR_INVALID_ARGUMENT (no such step) @since 0.1 */
IC_API ic_status ic_search_get_step(const ic_search *search, int32_t step, ic_search_step *info);

/** The F/S string after a step. A text function: see ic_schedule_pattern().
 *  @errors IC_ERROR_INVALID_ARGUMENT (no such step) @since 0.1 */
IC_API ic_status ic_search_step_pattern(const ic_search *search, int32_t step, char *buffer, size_t *size);

/** The journal from byte from_byte (0 to journal_size of ic_search_info) to its end, lines of JSON: the first has the
 * format's version and every field of the desc that decides the search, then one for each loss and each rejection, in
 * the order in which they were told. It only ever grows: append what is new to a file after each answer, and give the
 * file's content to ic_search_create() to go on where it ends. A text function: see ic_schedule_pattern().
 *  @errors IC_ERROR_INVALID_ARGUMENT (from_byte) @since 0.1 */
IC_API ic_status ic_search_journal(const ic_search *search, int64_t from_byte, char *buffer, size_t *size);

#ifdef __cplusplus
}
#endif

#endif /* INDEXCACHE_H */
