// SPDX-License-Identifier: Apache-2.0
//! Each operation once, against plain arithmetic: that every argument arrives where it belongs.
mod common;

use common::*;
use indexcache::*;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::Arc;

const KEYS: usize = 40;

struct Problem {
    q: Vec<f32>,
    w: Vec<f32>,
    keys: Vec<f32>,
}

fn problem(rows: usize) -> Problem {
    Problem { q: numbers(rows * HEADS * DIM, 0.3), w: numbers(rows * HEADS, 1.1), keys: numbers(KEYS * DIM, 0.7) }
}

impl Problem {
    fn expected(&self, row: usize, key_end: i32) -> Vec<i32> {
        best(&self.q[row * HEADS * DIM..], &self.w[row * HEADS..], &self.keys, key_end as usize)
    }
}

/// What attention gives for one row, in double precision.
fn attended(q: &[f32], kv: &[f32], indices: &[i32]) -> Vec<f64> {
    const WIDTH: usize = LATENT + ROPE;
    let key = |&s: &i32| &kv[s as usize * WIDTH..][..WIDTH];
    let logit = |s: &i32| 0.2f32 as f64 * key(s).iter().zip(q).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let weights: Vec<f64> = indices.iter().map(|s| logit(s).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let value = |d| indices.iter().zip(&weights).map(|(s, weight)| weight / sum * f64::from(key(s)[d])).sum();
    (0..LATENT).map(value).collect()
}

fn expect_close(values: &[f32], expected: &[f64]) {
    assert_eq!(values.len(), expected.len());
    for (value, expected) in values.iter().zip(expected) {
        assert!((f64::from(*value) - expected).abs() < 1e-5, "{values:?} {expected:?}");
    }
}

#[test]
fn forward_paged_with_new_keys_and_attention() {
    const PAGE: usize = 16;
    let mut all = handles(Context::cpu().unwrap(), c"FS", 2);
    let p = problem(2);
    let pages = [2, 0, 1];
    let slot = |position: usize| pages[position / PAGE] as usize * PAGE + position % PAGE;
    let mut pool = vec![0f32; 3 * PAGE * DIM];
    let slots: Vec<i64> = (0..KEYS).map(|position| slot(position) as i64).collect();
    let latent = numbers(KEYS * (LATENT + ROPE), 2.0);
    let (attention_q, mut out) = (numbers(2 * (LATENT + ROPE), 4.0), vec![0f32; 2 * LATENT]);
    let (row_seq, key_end) = ([0, 0], [KEYS as i32, K - 1]); // the second row sees less than it may select
    let table = [BlockTable::dense(&pages, 3, PAGE as i32)];
    let batch = Batch::new()
        .num_rows(2)
        .num_seqs(1)
        .max_key_end(KEYS as i32)
        .row_seq(&row_seq)
        .key_end(&key_end)
        .block_tables(&table);
    let mut workspace = HostBuffer::new(all.cache.forward_workspace_size(2, KEYS as i32).unwrap());
    unsafe {
        let mut step = all.cache.begin(&batch).unwrap();
        let queries = Queries::new().q(&p.q).w(&p.w);
        let keys = Pool::paged(&mut pool, 3, 0);
        let new_keys = NewKeys::new().keys(&p.keys).slots(&slots).count(KEYS as i64);
        let kv = Pool::contiguous_ref(&latent, KEYS as i64);
        let attend = AttentionArgs::new().q(&attention_q).kv(&kv).out(&mut out);
        let full = ForwardArgs::all_rows(0).queries(&queries).keys(&keys).new_keys(&new_keys).workspace(&mut workspace);
        let view = step.forward(&full, Stream::DEFAULT).unwrap();
        assert_eq!((view.num_rows(), view.k(), view.kind()), (2, K, IndexKind::LOGICAL));
        for (row, &end) in key_end.iter().enumerate() {
            assert_eq!(view.row(row), p.expected(row, end), "row {row}");
            assert_eq!(view.row_scores(row).unwrap().len(), end.min(K) as usize);
        }
        let shared = ForwardArgs::all_rows(1).attention(&attend).workspace(&mut workspace);
        step.forward(&shared, Stream::DEFAULT).unwrap();
        assert!(step.faults(true, Stream::DEFAULT).unwrap().is_empty());
        assert_eq!(step.info().unwrap().generation, 1);
    }
    for row in 0..2 {
        let expected = attended(&attention_q[row * (LATENT + ROPE)..], &latent, &p.expected(row, key_end[row]));
        expect_close(&out[row * LATENT..][..LATENT], &expected);
    }
    assert_eq!(pool[slot(39) * DIM..][..DIM], p.keys[39 * DIM..][..DIM]);
}

#[test]
fn parts_mode_and_resume() {
    let mut all = handles(Context::cpu().unwrap(), c"FS", 2);
    let p = problem(2);
    let key_end = [30, 40];
    let batch = Batch::new().num_rows(2).num_seqs(1).max_key_end(40).key_end(&key_end);
    let pool = Pool::contiguous_ref(&p.keys, KEYS as i64);
    let mut workspace = HostBuffer::new(all.cache.forward_workspace_size(2, 40).unwrap());
    unsafe {
        all.cache.begin(&batch).unwrap();
        for row in [1, 0] {
            let queries = Queries::new().q(&p.q[row * HEADS * DIM..]).w(&p.w[row * HEADS..]);
            let part = ForwardArgs::new()
                .layer(1)
                .mode(LayerMode::FULL)
                .row_begin(row as i32)
                .row_count(1)
                .queries(&queries)
                .keys(&pool)
                .workspace(&mut workspace);
            let mut step = all.cache.resume();
            let view = step.forward(&part, Stream::DEFAULT).unwrap();
            assert_eq!(view.row(0), p.expected(row, key_end[row]));
        }
    }
    let view = all.cache.view(1).unwrap();
    assert_eq!((view.row(0).to_vec(), view.row(1).to_vec()), (p.expected(0, 30), p.expected(1, 40)));
    all.cache.reset().unwrap();
    assert_eq!(all.cache.info().unwrap().num_rows, None);
}

#[test]
fn scores_then_select_then_merge() {
    let all = handles(Context::cpu().unwrap(), c"F", 1);
    let p = problem(1);
    let key_end = [KEYS as i32];
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(KEYS as i32).key_end(&key_end);
    let pool = Pool::contiguous_ref(&p.keys, KEYS as i64);
    let queries = Queries::new().q(&p.q).w(&p.w);
    let mut scores = vec![0f32; KEYS];
    let mut workspace = HostBuffer::new(all.indexer.scores_workspace_size(1, KEYS as i32).unwrap());
    let args = ScoresArgs::new()
        .row_count(ALL_ROWS)
        .queries(&queries)
        .keys(&pool)
        .scores(&mut scores)
        .workspace(&mut workspace);
    unsafe { all.indexer.scores(&batch, &args, Stream::DEFAULT).unwrap() };

    // Two halves, each selected on its own, merged: what all keys at once give.
    let width = k_padded(K) as usize;
    let (mut indices, mut lengths, mut selected) = (vec![0i32; 2 * width], vec![0i32; 2], vec![0f32; 2 * width]);
    let mut workspace = HostBuffer::new(all.topk.select_workspace_size(1, KEYS as i32).unwrap());
    for half in 0..2 {
        let (begin, end) = ([half as i32 * 20], [half as i32 * 20 + 20]);
        let args = SelectArgs::new()
            .scores(&scores)
            .begin(&begin)
            .end(&end)
            .num_rows(1)
            .max_end(KEYS as i32)
            .indices(&mut indices[half * width..])
            .lengths(&mut lengths[half..])
            .selected_scores(&mut selected[half * width..])
            .workspace(&mut workspace);
        unsafe { all.topk.select(&args, Stream::DEFAULT).unwrap() };
    }
    assert_eq!(lengths, [K, K]);
    let (mut merged, mut length) = (vec![0i32; width], [0i32]);
    let mut workspace = HostBuffer::new(all.topk.merge_workspace_size(1, 2).unwrap());
    let args = MergeArgs::new()
        .in_indices(&indices)
        .in_scores(&selected)
        .in_lengths(&lengths)
        .num_parts(2)
        .num_rows(1)
        .indices(&mut merged)
        .lengths(&mut length)
        .workspace(&mut workspace);
    unsafe { all.topk.merge(&args, Stream::DEFAULT).unwrap() };
    assert_eq!(length, [K]);
    assert_eq!(merged[..K as usize], p.expected(0, KEYS as i32));
    assert_eq!(merged[K as usize], -1);
}

#[test]
fn export_import_overlap_remap_and_attention_alone() {
    let mut sender = handles(Context::cpu().unwrap(), c"FSFS", 1);
    let mut receiver = handles(Context::cpu().unwrap(), c"FSFS", 1);
    let p = problem(1);
    let key_end = [KEYS as i32];
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(KEYS as i32).key_end(&key_end);
    let pool = Pool::contiguous_ref(&p.keys, KEYS as i64);
    let queries = Queries::new().q(&p.q).w(&p.w);
    let mut workspace = HostBuffer::new(sender.cache.forward_workspace_size(1, KEYS as i32).unwrap());
    let expected = p.expected(0, KEYS as i32);
    let size = sender.cache.export_size(1, ExportFlags::SCORES).unwrap();
    assert_eq!(size, sender.cache.export_size(1, ExportFlags::NONE).unwrap() + 4 * K as usize);
    let mut block = HostBuffer::new(size);
    unsafe {
        let mut step = sender.cache.begin(&batch).unwrap();
        let full = ForwardArgs::all_rows(0).queries(&queries).keys(&pool).workspace(&mut workspace);
        step.forward(&full, Stream::DEFAULT).unwrap();
        step.export(0, ExportFlags::SCORES, Memory::HOST, &mut block, Stream::DEFAULT).unwrap();

        let nowhere = step.export(0, ExportFlags::NONE, Memory(9), &mut HostBuffer::new(size), Stream::DEFAULT);
        assert_eq!(nowhere.unwrap_err().status(), Status::INVALID_ARGUMENT);

        let mut step = receiver.cache.begin(&batch).unwrap();
        let header = step.import(Some(2), ImportFlags::NONE, &mut block, Stream::DEFAULT).unwrap();
        assert_eq!((header.source_layer, header.num_rows, header.k), (0, 1, K));
        assert_eq!(header.schedule_hash, receiver.schedule.info().unwrap().hash);
        assert_eq!(header.numerics_id, receiver.indexer.info().unwrap().numerics_id);
        assert_eq!(step.forward(&ForwardArgs::all_rows(3), Stream::DEFAULT).unwrap().row(0), expected);

        let (mut slots, mut lengths) = (vec![0i32; k_padded(K) as usize], [0i32]);
        let remap = RemapArgs::new().source_layer(2).layout(Layout::CONTIGUOUS).slots(&mut slots).lengths(&mut lengths);
        let view = step.remap(&remap, Stream::DEFAULT).unwrap();
        assert_eq!((view.kind(), view.row(0)), (IndexKind::SLOT, &expected[..]));

        let latent = numbers(KEYS * (LATENT + ROPE), 2.0);
        let (attention_q, mut out) = (numbers(LATENT + ROPE, 4.0), vec![0f32; LATENT]);
        let kv = Pool::contiguous_ref(&latent, KEYS as i64);
        let attend = AttentionArgs::new().q(&attention_q).kv(&kv).out(&mut out);
        let mut workspace = HostBuffer::new(receiver.attention.workspace_size(1, K).unwrap());
        receiver.attention.run(None, 0, &view, &attend, &mut workspace, Stream::DEFAULT).unwrap();
        expect_close(&out, &attended(&attention_q, &latent, &expected));
    }
    let (a, b) = (sender.cache.view(0).unwrap(), receiver.cache.view(2).unwrap());
    assert_eq!(a.numerics_id(), b.numerics_id());
    assert!(a.generation() == 1 && a.scores().is_some());
    let (mut common, mut recall, mut jaccard) = ([0], [0f32], [0f32]);
    let out = OverlapArgs::new().intersection(&mut common).recall(&mut recall).jaccard(&mut jaccard);
    unsafe { sender.context.index_overlap(&a, &b, &out, Stream::DEFAULT).unwrap() };
    assert_eq!((common, recall, jaccard), ([K], [1.0], [1.0]));

    // A set of the caller's: one key of the selection, and one that is not in it.
    let other = (0..).find(|s| !expected.contains(s)).unwrap();
    let (mut pair, two) = (vec![-1; k_padded(K) as usize], [2]);
    pair[..2].copy_from_slice(&[expected[0].min(other), expected[0].max(other)]);
    let mut raw = *a.as_raw();
    (raw.indices, raw.lengths, raw.scores) = (pair.as_ptr(), two.as_ptr(), std::ptr::null());
    let mine = unsafe { IndexView::from_raw(raw, true) };
    assert_eq!((mine.row(0), mine.scores().is_none()), (&pair[..2], true));
    let out = OverlapArgs::new().intersection(&mut common).recall(&mut recall);
    unsafe { sender.context.index_overlap(&mine, &b, &out, Stream::DEFAULT).unwrap() };
    assert_eq!((common, recall), ([1], [0.5]));
}

#[test]
fn draft_rows_are_compacted() {
    let mut all = handles(Context::cpu().unwrap(), c"F", 3);
    let p = problem(3);
    let (key_end, pool) = ([20, 30, 40], Pool::contiguous_ref(&p.keys, KEYS as i64));
    let batch = Batch::new().num_rows(3).num_seqs(1).max_key_end(40).key_end(&key_end);
    let queries = Queries::new().q(&p.q).w(&p.w);
    let mut workspace = HostBuffer::new(all.cache.forward_workspace_size(3, 40).unwrap());
    let (kept, rows) = ([31], [1]);
    let next = Batch::new().num_rows(1).num_seqs(1).max_key_end(40).key_end(&kept).flags(BatchFlags::KEEP);
    let mut scratch = HostBuffer::new(all.cache.compact_workspace_size(3).unwrap());
    unsafe {
        let full = ForwardArgs::all_rows(0).queries(&queries).keys(&pool).workspace(&mut workspace);
        all.cache.begin(&batch).unwrap().forward(&full, Stream::DEFAULT).unwrap();
        let mut step = all.cache.begin(&next).unwrap();
        let error = step.view(0).unwrap_err();
        assert_eq!(error.status(), Status::STALE_ROWS, "{error}");
        let args = CompactArgs::new().source_layer(0).publish_layer(0).rows(&rows).num_rows(1).workspace(&mut scratch);
        step.compact(&args, Stream::DEFAULT).unwrap();
        assert_eq!(step.view(0).unwrap().row(0), p.expected(1, 30));
    }
}

#[test]
fn prepared_keys_and_queries() {
    let all = handles(Context::cpu().unwrap(), c"F", 1);
    let (x, positions, slots) = (numbers(DIM, 1.0), [1], [2i64]);
    let (cos, sin) = ([1.0, 0.0f32], [0.0, 1.0f32]); // one pair: position 1 is a quarter turn
    let mut data = vec![0f32; 3 * DIM];
    let pool = Pool::contiguous(&mut data, 3);
    let args = PrepareArgs::new()
        .x(&x)
        .count(1)
        .x_dtype(Dtype::F32)
        .flags(PrepareFlags::ROPE_INTERLEAVED)
        .positions(&positions)
        .cos_table(&cos)
        .sin_table(&sin)
        .num_positions(2)
        .rope_dim(2)
        .pool(&pool)
        .slots(&slots);
    unsafe { all.indexer.prepare_keys(&args, Stream::DEFAULT).unwrap() };
    assert_eq!((data[2 * DIM], data[2 * DIM + 1]), (-x[1], x[0]));
    assert_eq!(data[2 * DIM + 2..], x[2..]);
    assert!(data[..2 * DIM].iter().all(|&v| v == 0.0));

    let (q, mut out) = (numbers(HEADS * DIM, 2.0), vec![0f32; HEADS * DIM]);
    let args = PrepareArgs::new().x(&q).count(1).x_dtype(Dtype::F32).q_out(&mut out);
    unsafe { all.indexer.prepare_queries(&args, Stream::DEFAULT).unwrap() };
    assert_eq!(out, q);
}

#[test]
fn typed_arrays_of_narrow_elements() {
    let context = Context::cpu().unwrap();
    let desc = IndexerDesc::new().num_heads(1).head_dim(32).dtype(Dtype::BF16);
    let indexer = Indexer::new(&context, &desc).unwrap();
    assert_eq!(indexer.info().unwrap().key_bytes, 64);
    let one = 0x3f80u16; // 1.0
    let (q, w, keys, key_end) = ([one; 32], [0.5f32], [one; 2 * 32], [2]);
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(2).key_end(&key_end);
    let pool = Pool::contiguous_ref(&keys, 2);
    let queries = Queries::new().q(&q).w(&w);
    let (mut scores, mut workspace) = ([0f32; 2], HostBuffer::new(indexer.scores_workspace_size(1, 2).unwrap()));
    let args =
        ScoresArgs::new().row_count(1).queries(&queries).keys(&pool).scores(&mut scores).workspace(&mut workspace);
    unsafe { indexer.scores(&batch, &args, Stream::DEFAULT).unwrap() };
    assert_eq!(scores, [16.0, 16.0]);
}

/// Counts what is handed out and taken back.
struct Counting(Arc<AtomicI64>);

unsafe impl DeviceAllocator for Counting {
    fn allocate(&self, size: usize) -> *mut std::ffi::c_void {
        self.0.fetch_add(1, Ordering::Relaxed);
        let layout = std::alloc::Layout::from_size_align(size, 256).unwrap();
        unsafe { std::alloc::alloc(layout).cast() }
    }

    unsafe fn release(&self, memory: *mut std::ffi::c_void, size: usize) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        let layout = std::alloc::Layout::from_size_align(size, 256).unwrap();
        unsafe { std::alloc::dealloc(memory.cast(), layout) }
    }
}

#[test]
fn callbacks_outlive_the_context() {
    let (live, tasks) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&tasks);
    let callbacks = Callbacks::new().allocator(Counting(Arc::clone(&live))).parallel_for(move |count, task| {
        std::thread::scope(|scope| {
            for half in 0..2 {
                let counter = &counter;
                scope.spawn(move || {
                    for index in (half..count).step_by(2) {
                        counter.fetch_add(1, Ordering::Relaxed);
                        task(index);
                    }
                });
            }
        });
    });
    let desc = ContextDesc::new().backend(Backend::CPU).num_threads(2);
    let context = Context::with_callbacks(&desc, callbacks).unwrap();
    let Handles { mut cache, context, schedule, indexer, topk, attention } = handles(context, c"FS", 2);
    drop((attention, topk, context, schedule, indexer)); // any order: the cache keeps what it needs
    assert_eq!(live.load(Ordering::Relaxed), 1);

    const MANY: usize = 20_000; // worth more than one thread
    let p = Problem { keys: numbers(MANY * DIM, 0.7), ..problem(2) };
    let key_end = [30, MANY as i32];
    let batch = Batch::new().num_rows(2).num_seqs(1).max_key_end(MANY as i32).key_end(&key_end);
    let pool = Pool::contiguous_ref(&p.keys, MANY as i64);
    let queries = Queries::new().q(&p.q).w(&p.w);
    let mut workspace = HostBuffer::new(cache.forward_workspace_size(2, MANY as i32).unwrap());
    unsafe {
        let full = ForwardArgs::all_rows(0).queries(&queries).keys(&pool).workspace(&mut workspace);
        let mut step = cache.begin(&batch).unwrap();
        assert_eq!(step.forward(&full, Stream::DEFAULT).unwrap().row(1), p.expected(1, MANY as i32));
    }
    assert!(tasks.load(Ordering::Relaxed) > 0, "the host's threads did nothing");
    drop(cache);
    assert_eq!(live.load(Ordering::Relaxed), 0);
}

#[test]
fn an_epoch_that_changes_is_a_fault_until_it_is_cleared() {
    let all = handles(Context::cpu().unwrap(), c"FS", 1);
    let word = std::cell::UnsafeCell::new(1u32);
    let desc = CacheDesc::new()
        .schedule(&all.schedule)
        .indexer(&all.indexer)
        .topk(&all.topk)
        .max_rows(1)
        .epoch(unsafe { DevicePtr::from_raw(word.get()) });
    let mut cache = Cache::new(&all.context, &desc).unwrap();
    let p = problem(1);
    let key_end = [KEYS as i32];
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(KEYS as i32).key_end(&key_end);
    let pool = Pool::contiguous_ref(&p.keys, KEYS as i64);
    let queries = Queries::new().q(&p.q).w(&p.w);
    let mut workspace = HostBuffer::new(cache.forward_workspace_size(1, KEYS as i32).unwrap());
    let (mut slots, mut lengths) = (vec![0i32; k_padded(K) as usize], [0i32]);
    unsafe {
        let mut step = cache.begin(&batch).unwrap();
        let full = ForwardArgs::all_rows(0).queries(&queries).keys(&pool).workspace(&mut workspace);
        step.forward(&full, Stream::DEFAULT).unwrap();
        *word.get() = 2;
        let remap = RemapArgs::new().layout(Layout::CONTIGUOUS).slots(&mut slots).lengths(&mut lengths);
        assert!(step.remap(&remap, Stream::DEFAULT).unwrap().row(0).is_empty());
        assert_eq!(step.faults(false, Stream::DEFAULT).unwrap(), Faults::EPOCH);
        assert!(step.faults(true, Stream::DEFAULT).unwrap().contains(Faults::EPOCH));
        assert_eq!(step.faults(true, Stream::DEFAULT).unwrap(), Faults::NONE);
    }
}
