// SPDX-License-Identifier: Apache-2.0
//! Every kind of error that Rust can express comes back with its status and a message that names the cause.
mod common;

use common::*;
use indexcache::*;

fn refused<T>(result: Result<T>, status: Status, words: &[&str]) {
    let Err(error) = result else { panic!("not refused: {status:?}") };
    assert_eq!(error.status(), status, "{error}");
    for word in words {
        assert!(error.message().contains(word), "{word}: {error}");
    }
    assert!(error.to_string().starts_with(&status.to_string()), "{error}");
}

#[test]
fn descriptions() {
    let context = context();
    refused(Context::new(&ContextDesc::new()), Status::INVALID_ARGUMENT, &["backend", "0"]);
    refused(Topk::new(&context, &TopkDesc::new().k(4097)), Status::INVALID_ARGUMENT, &["k", "4097", "4096"]);
    refused(Topk::new(&context, &TopkDesc::new().k(8).force_first(1)), Status::UNSUPPORTED, &["force_first"]);
    let desc = IndexerDesc::new().num_heads(4).head_dim(48).dtype(Dtype::F32);
    refused(Indexer::new(&context, &desc), Status::INVALID_ARGUMENT, &["head_dim", "48"]);
    let desc = IndexerDesc::new().num_heads(4).head_dim(32).dtype(Dtype::FP4);
    refused(Indexer::new(&context, &desc), Status::UNSUPPORTED, &["FP4"]);
    refused(Cache::new(&context, &CacheDesc::new()), Status::NULL_POINTER, &["schedule"]);
    refused(CacheDesc::new().memory_size(), Status::NULL_POINTER, &["schedule"]);
    let list = [0, 2];
    let desc = ScheduleDesc::new().num_layers(4).indexer_layers(&list).flags(ScheduleFlags(0x80));
    refused(Schedule::new(&desc), Status::UNKNOWN_FLAG, &["0x80"]);
}

#[test]
fn handles_of_two_contexts() {
    let (one, other) = (handles(context(), c"FS", 1), handles(context(), c"FS", 1));
    let desc = CacheDesc::new().schedule(&one.schedule).indexer(&one.indexer).topk(&other.topk).max_rows(1);
    refused(Cache::new(&one.context, &desc), Status::HANDLE_MISMATCH, &["topk"]);
}

#[test]
fn a_device_that_is_not_there() {
    let result = Context::new(&ContextDesc::new().backend(Backend::CUDA).device(1000));
    let status = result.expect_err("a thousand GPUs").status();
    let all = [Status::CUDA_NOT_BUILT, Status::CUDA_NO_DRIVER, Status::CUDA_NO_DEVICE, Status::CUDA_UNSUPPORTED_DEVICE];
    assert!(all.contains(&status), "{status:?}");
    assert_eq!(device_count(Backend::CPU), Ok(1));
    refused(device_count(Backend(7)), Status::INVALID_ARGUMENT, &["backend", "7"]);
    refused(device_caps(Backend::CPU, 3), Status::INVALID_ARGUMENT, &["device", "3"]);
}

#[test]
fn a_shared_layer_before_its_source() {
    let mut all = handles(context(), c"FSFS", 1);
    let (q, w, keys) = (array(numbers(HEADS * DIM, 1.0)), array(numbers(HEADS, 2.0)), array(numbers(8 * DIM, 3.0)));
    let key_end = array([8]);
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(8).key_end(&key_end);
    let mut workspace = scratch(all.cache.forward_workspace_size(1, 8).unwrap());
    let queries = Queries::new().q(&q).w(&w);
    let pool = Pool::contiguous_ref(&keys, 8);
    unsafe {
        refused(all.cache.view(0), Status::NO_BATCH, &["ic_cache_begin"]);
        let mut step = all.cache.begin(&batch).unwrap();
        let shared = ForwardArgs::all_rows(1);
        refused(step.forward(&shared, stream()), Status::STALE_UNPUBLISHED, &["layer 0"]);
        let full = ForwardArgs::all_rows(0).queries(&queries).keys(&pool).workspace(&mut workspace);
        assert_eq!(row(&step.forward(&full, stream()).unwrap(), 0).len(), K as usize);
        assert_eq!(step.forward(&shared, stream()).unwrap().source_layer(), Some(0));
        refused(step.forward(&full, stream()), Status::PART_OVERLAP, &["layer 0"]);
        let mut step = all.cache.begin(&batch).unwrap();
        let error = step.forward(&shared, stream()).unwrap_err();
        assert!(error.status() == Status::STALE && error.status().is_stale(), "{error}");
        assert!(!Status::PART_OVERLAP.is_stale() && !Status::OK.is_stale());
    }
}

#[test]
fn the_cpu_has_one_stream() {
    let mut all = handles(Context::cpu().unwrap(), c"FS", 1);
    let key_end = [8];
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(8).key_end(&key_end);
    unsafe {
        let mut step = all.cache.begin(&batch).unwrap();
        let stream = Stream::from_raw(8 as *mut _);
        refused(step.forward(&ForwardArgs::all_rows(1), stream), Status::INVALID_ARGUMENT, &["stream"]);
    }
}

#[test]
fn values_in_device_memory() {
    let mut all = handles(checking_context(), c"FS", 1);
    let (q, w, keys) = (array(numbers(HEADS * DIM, 1.0)), array(numbers(HEADS, 2.0)), array(numbers(8 * DIM, 3.0)));
    let key_end = array([9]);
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(8).key_end(&key_end);
    let mut workspace = scratch(all.cache.forward_workspace_size(1, 8).unwrap());
    let (queries, pool) = (Queries::new().q(&q).w(&w), Pool::contiguous_ref(&keys, 8));
    let full = ForwardArgs::all_rows(0).queries(&queries).keys(&pool).workspace(&mut workspace);
    // The CPU looks when the batch begins, a GPU when a layer runs.
    let result = unsafe { all.cache.begin(&batch).and_then(|mut step| step.forward(&full, stream()).map(|_| ())) };
    refused(result, Status::OUT_OF_RANGE, &["key_end"]);
    assert!(all.cache.view(0).is_err());
}

#[test]
fn values_and_memory() {
    let mut all = handles(context(), c"FS", 2);
    let (q, w, keys) = (array(numbers(HEADS * DIM, 1.0)), array(numbers(HEADS, 2.0)), array(numbers(8 * DIM, 3.0)));
    let key_end = array([8]);
    let three = Batch::new().num_rows(3).num_seqs(1).max_key_end(8).key_end(&key_end);
    let tree = Batch::new().flags(BatchFlags::TREE_DRAFT | BatchFlags::KEEP);
    unsafe {
        refused(all.cache.begin(&three), Status::INVALID_ARGUMENT, &["num_rows", "3", "2"]);
        refused(all.cache.begin(&tree), Status::UNSUPPORTED, &["TREE_DRAFT"]);
    }
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(8).key_end(&key_end);
    let queries = Queries::new().q(&q).w(&w);
    let pool = Pool::contiguous_ref(&keys, 8);
    let size = all.cache.forward_workspace_size(1, 8).unwrap();
    let mut workspace = scratch(size);
    let buffer = Buffer::from(&mut workspace);
    assert!(size > 0 && buffer.size() >= size);
    let address: *mut u8 = buffer.as_ptr().cast();
    unsafe {
        let mut step = all.cache.begin(&batch).unwrap();
        let args = || ForwardArgs::all_rows(0).queries(&queries).keys(&pool);
        let short = args().workspace(Buffer::from_raw(address.cast(), size - 1));
        let sizes = [(size - 1).to_string(), size.to_string()];
        refused(step.forward(&short, stream()), Status::WORKSPACE_TOO_SMALL, &[&sizes[0], &sizes[1]]);
        let odd = args().workspace(Buffer::from_raw(address.add(8).cast(), size));
        refused(step.forward(&odd, stream()), Status::MISALIGNED, &["256"]);
        let null = args().workspace(Buffer::from_raw(std::ptr::null_mut(), size));
        refused(step.forward(&null, stream()), Status::NULL_POINTER, &["workspace"]);
        let mut block = HostBuffer::new(256);
        let blocks = ExportFlags::NONE;
        refused(step.export(0, blocks, Memory::HOST, &mut block, stream()), Status::STALE_UNPUBLISHED, &[]);
        let any = ImportFlags::NONE;
        refused(step.import(None, any, &mut block, stream()), Status::PARSE, &["0x58494349"]);
    }
}

#[test]
fn the_cpu_looks_at_values_first() {
    let mut all = handles(Context::cpu().unwrap(), c"FS", 1);
    let (q, w, keys) = (numbers(HEADS * DIM, 1.0), numbers(HEADS, 2.0), numbers(4 * DIM, 3.0));
    let (inside, beyond) = ([8], [9]);
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(8);
    let mut workspace = HostBuffer::new(all.cache.forward_workspace_size(1, 8).unwrap());
    let (queries, small) = (Queries::new().q(&q).w(&w), Pool::contiguous_ref(&keys, 4));
    let full = ForwardArgs::all_rows(0).queries(&queries).keys(&small).workspace(&mut workspace);
    unsafe {
        refused(all.cache.begin(&batch.key_end(&beyond)), Status::OUT_OF_RANGE, &["key_end", "9", "8"]);
        let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(8).key_end(&inside);
        let mut step = all.cache.begin(&batch).unwrap();
        refused(step.forward(&full, Stream::DEFAULT), Status::OUT_OF_RANGE, &["keys"]);
    }
}

#[test]
fn texts_of_constants() {
    assert_eq!(format!("{:?}", Status::STALE_ROWS), "Status::STALE_ROWS");
    assert_eq!(format!("{:?}", Status(77)), "Status(77)");
    assert_eq!(format!("{:?}", Dtype::E4M3), "Dtype::E4M3");
    assert_eq!(format!("{:?}", PrepareFlags::HADAMARD | PrepareFlags(0x100)), "{HADAMARD, 0x100}");
    assert!(Status::STALE.to_string().starts_with("IC_ERROR_STALE: "));
    assert!(!PrepareFlags::HADAMARD.contains(PrepareFlags::HADAMARD | PrepareFlags::UE8M0));
    assert_eq!(k_padded(129), 256);
}

#[test]
fn the_library_is_the_one_of_the_header() {
    let (major, minor, _) = version();
    assert_eq!((major as i32, minor as i32), (ffi::IC_VERSION_MAJOR, ffi::IC_VERSION_MINOR));
    assert!(build_info().contains("\"version\""), "{}", build_info());
    let caps = device_caps(Backend::CPU, 0).unwrap();
    assert!(!caps.name.is_empty() && caps.memory_bytes > 0 && caps.max_k == 4096, "{caps:?}");
}

#[test]
fn sizes_of_workspaces() {
    let all = handles(context(), c"FS", 2);
    let bad = Status::INVALID_ARGUMENT;
    refused(all.indexer.scores_workspace_size(-1, 8), bad, &["max_rows", "-1"]);
    refused(all.indexer.scores_workspace_size(8, -1), bad, &["max_key_end", "-1"]);
    refused(all.topk.select_workspace_size(-1, 8), bad, &["max_rows", "-1"]);
    refused(all.topk.select_workspace_size(8, -1), bad, &["max_end", "-1"]);
    refused(all.topk.merge_workspace_size(-1, 8), bad, &["max_rows", "-1"]);
    refused(all.topk.merge_workspace_size(8, -1), bad, &["max_parts", "-1"]);
    refused(all.attention.workspace_size(-1, 8), bad, &["max_rows", "-1"]);
    refused(all.attention.workspace_size(8, -1), bad, &["max_k", "-1"]);
    refused(all.cache.forward_workspace_size(-1, 8), bad, &["max_rows", "-1"]);
    refused(all.cache.forward_workspace_size(1, -1), bad, &["max_key_end", "-1"]);
    refused(all.cache.compact_workspace_size(-1), bad, &["max_rows", "-1"]);
    refused(all.cache.export_size(-1, ExportFlags::NONE), bad, &["num_rows", "-1"]);
}
