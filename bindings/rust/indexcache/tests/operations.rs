// SPDX-License-Identifier: Apache-2.0
//! Each operation once, against plain arithmetic: that every argument arrives where it belongs.
mod common;

use common::*;
use indexcache::*;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::Arc;

const KEYS: usize = 40;

struct Problem {
    q: Array<f32>,
    w: Array<f32>,
    keys: Array<f32>,
}

fn problem(rows: usize) -> Problem {
    Problem {
        q: array(numbers(rows * HEADS * DIM, 0.3)),
        w: array(numbers(rows * HEADS, 1.1)),
        keys: array(numbers(KEYS * DIM, 0.7)),
    }
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
    let mut all = handles(context(), c"FS", 2);
    let p = problem(2);
    let pages = array([2, 0, 1]);
    let slot = |position: usize| pages[position / PAGE] as usize * PAGE + position % PAGE;
    let mut pool = array([0f32; 3 * PAGE * DIM]);
    let slots = array((0..KEYS).map(|position| slot(position) as i64).collect::<Vec<_>>());
    let latent = array(numbers(KEYS * (LATENT + ROPE), 2.0));
    let (attention_q, mut out) = (array(numbers(2 * (LATENT + ROPE), 4.0)), array([0f32; 2 * LATENT]));
    let (row_seq, key_end) = (array([0, 0]), array([KEYS as i32, K - 1])); // the second row sees less than it may select
    let table = [BlockTable::dense(&pages, 3, PAGE as i32)];
    let batch = Batch::new()
        .num_rows(2)
        .num_seqs(1)
        .max_key_end(KEYS as i32)
        .row_seq(&row_seq)
        .key_end(&key_end)
        .block_tables(&table);
    let mut workspace = scratch(all.cache.forward_workspace_size(2, KEYS as i32).unwrap());
    unsafe {
        let mut step = all.cache.begin(&batch).unwrap();
        let queries = Queries::new().q(&p.q).w(&p.w);
        let keys = Pool::paged(&mut pool, 3, 0);
        let new_keys = NewKeys::new().keys(&p.keys).slots(&slots).count(KEYS as i64);
        let kv = Pool::contiguous_ref(&latent, KEYS as i64);
        let attend = AttentionArgs::new().q(&attention_q).kv(&kv).out(&mut out);
        let full = ForwardArgs::all_rows(0).queries(&queries).keys(&keys).new_keys(&new_keys).workspace(&mut workspace);
        let view = step.forward(&full, stream()).unwrap();
        assert_eq!((view.num_rows(), view.k(), view.kind()), (2, K, IndexKind::LOGICAL));
        for (number, &end) in key_end.iter().enumerate() {
            assert_eq!(row(&view, number), p.expected(number, end), "row {number}");
            assert_eq!(row_scores(&view, number).unwrap().len(), end.min(K) as usize);
        }
        let shared = ForwardArgs::all_rows(1).attention(&attend).workspace(&mut workspace);
        step.forward(&shared, stream()).unwrap();
        assert!(step.faults(true, stream()).unwrap().is_empty());
        assert_eq!(step.info().unwrap().generation, 1);
    }
    for row in 0..2 {
        let expected = attended(&attention_q[row * (LATENT + ROPE)..], &latent, &p.expected(row, key_end[row]));
        expect_close(&out.read()[row * LATENT..][..LATENT], &expected);
    }
    assert_eq!(pool.read()[slot(39) * DIM..][..DIM], p.keys[39 * DIM..][..DIM]);
}

#[test]
fn parts_mode_and_resume() {
    let mut all = handles(context(), c"FS", 2);
    let p = problem(2);
    let key_end = array([30, 40]);
    let batch = Batch::new().num_rows(2).num_seqs(1).max_key_end(40).key_end(&key_end);
    let pool = Pool::contiguous_ref(&p.keys, KEYS as i64);
    let mut workspace = scratch(all.cache.forward_workspace_size(2, 40).unwrap());
    unsafe {
        all.cache.begin(&batch).unwrap();
        for number in [1, 0] {
            let queries = Queries::new().q(p.q.at(number * HEADS * DIM)).w(p.w.at(number * HEADS));
            let part = ForwardArgs::new()
                .layer(1)
                .mode(LayerMode::FULL)
                .row_begin(number as i32)
                .row_count(1)
                .queries(&queries)
                .keys(&pool)
                .workspace(&mut workspace);
            let mut step = all.cache.resume();
            let view = step.forward(&part, stream()).unwrap();
            assert_eq!(row(&view, 0), p.expected(number, key_end[number]));
        }
    }
    let view = all.cache.view(1).unwrap();
    assert_eq!((row(&view, 0), row(&view, 1)), (p.expected(0, 30), p.expected(1, 40)));
    all.cache.reset().unwrap();
    assert_eq!(all.cache.info().unwrap().num_rows, None);
}

#[test]
fn scores_then_select_then_merge() {
    let all = handles(context(), c"F", 1);
    let p = problem(1);
    let key_end = array([KEYS as i32]);
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(KEYS as i32).key_end(&key_end);
    let pool = Pool::contiguous_ref(&p.keys, KEYS as i64);
    let queries = Queries::new().q(&p.q).w(&p.w);
    let mut scores = array([0f32; KEYS]);
    let mut workspace = scratch(all.indexer.scores_workspace_size(1, KEYS as i32).unwrap());
    let args = ScoresArgs::new()
        .row_count(ALL_ROWS)
        .queries(&queries)
        .keys(&pool)
        .scores(&mut scores)
        .workspace(&mut workspace);
    unsafe { all.indexer.scores(&batch, &args, stream()).unwrap() };

    // Two halves, each selected on its own, merged: what all keys at once give.
    let width = k_padded(K) as usize;
    let (mut indices, mut lengths) = (array(vec![0i32; 2 * width]), array([0i32; 2]));
    let mut selected = array(vec![0f32; 2 * width]);
    let mut workspace = scratch(all.topk.select_workspace_size(1, KEYS as i32).unwrap());
    for half in 0..2 {
        let (begin, end) = (array([half as i32 * 20]), array([half as i32 * 20 + 20]));
        let args = SelectArgs::new()
            .scores(&scores)
            .begin(&begin)
            .end(&end)
            .num_rows(1)
            .max_end(KEYS as i32)
            .indices(indices.at_mut(half * width))
            .lengths(lengths.at_mut(half))
            .selected_scores(selected.at_mut(half * width))
            .workspace(&mut workspace);
        unsafe { all.topk.select(&args, stream()).unwrap() };
    }
    assert_eq!(lengths.read(), [K, K]);
    let (mut merged, mut length) = (array(vec![0i32; width]), array([0i32]));
    let mut workspace = scratch(all.topk.merge_workspace_size(1, 2).unwrap());
    let args = MergeArgs::new()
        .in_indices(&indices)
        .in_scores(&selected)
        .in_lengths(&lengths)
        .num_parts(2)
        .num_rows(1)
        .indices(&mut merged)
        .lengths(&mut length)
        .workspace(&mut workspace);
    unsafe { all.topk.merge(&args, stream()).unwrap() };
    assert_eq!(length.read(), [K]);
    assert_eq!(merged.read()[..K as usize], p.expected(0, KEYS as i32));
    assert_eq!(merged[K as usize], -1);
}

#[test]
fn export_import_overlap_remap_and_attention_alone() {
    let mut sender = handles(context(), c"FSFS", 1);
    let mut receiver = handles(context(), c"FSFS", 1);
    let p = problem(1);
    let key_end = array([KEYS as i32]);
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(KEYS as i32).key_end(&key_end);
    let pool = Pool::contiguous_ref(&p.keys, KEYS as i64);
    let queries = Queries::new().q(&p.q).w(&p.w);
    let mut workspace = scratch(sender.cache.forward_workspace_size(1, KEYS as i32).unwrap());
    let expected = p.expected(0, KEYS as i32);
    let size = sender.cache.export_size(1, ExportFlags::SCORES).unwrap();
    assert_eq!(size, sender.cache.export_size(1, ExportFlags::NONE).unwrap() + 4 * K as usize);
    let mut block = HostBuffer::new(size);
    unsafe {
        let mut step = sender.cache.begin(&batch).unwrap();
        let full = ForwardArgs::all_rows(0).queries(&queries).keys(&pool).workspace(&mut workspace);
        step.forward(&full, stream()).unwrap();
        step.export(0, ExportFlags::SCORES, Memory::HOST, &mut block, stream()).unwrap();

        let nowhere = step.export(0, ExportFlags::NONE, Memory(9), &mut HostBuffer::new(size), stream());
        assert_eq!(nowhere.unwrap_err().status(), Status::INVALID_ARGUMENT);

        let mut step = receiver.cache.begin(&batch).unwrap();
        let header = step.import(Some(2), ImportFlags::NONE, &mut block, stream()).unwrap();
        assert_eq!((header.source_layer, header.num_rows, header.k), (0, 1, K));
        assert_eq!(header.schedule_hash, receiver.schedule.info().unwrap().hash);
        assert_eq!(header.numerics_id, receiver.indexer.info().unwrap().numerics_id);
        assert_eq!(row(&step.forward(&ForwardArgs::all_rows(3), stream()).unwrap(), 0), expected);

        let (mut slots, mut lengths) = (array(vec![0i32; k_padded(K) as usize]), array([0i32]));
        let remap = RemapArgs::new().source_layer(2).layout(Layout::CONTIGUOUS).slots(&mut slots).lengths(&mut lengths);
        let view = step.remap(&remap, stream()).unwrap();
        assert_eq!((view.kind(), row(&view, 0)), (IndexKind::SLOT, expected.clone()));

        let latent = array(numbers(KEYS * (LATENT + ROPE), 2.0));
        let (attention_q, mut out) = (array(numbers(LATENT + ROPE, 4.0)), array([0f32; LATENT]));
        let kv = Pool::contiguous_ref(&latent, KEYS as i64);
        let attend = AttentionArgs::new().q(&attention_q).kv(&kv).out(&mut out);
        let mut workspace = scratch(receiver.attention.workspace_size(1, K).unwrap());
        receiver.attention.run(None, 0, &view, &attend, &mut workspace, stream()).unwrap();
        expect_close(out.read(), &attended(&attention_q, &latent, &expected));
    }
    let (a, b) = (sender.cache.view(0).unwrap(), receiver.cache.view(2).unwrap());
    assert_eq!(a.numerics_id(), b.numerics_id());
    assert!(a.generation() == 1 && a.scores().is_some());
    let (mut common, mut recall, mut jaccard) = (array([0]), array([0f32]), array([0f32]));
    let out = OverlapArgs::new().intersection(&mut common).recall(&mut recall).jaccard(&mut jaccard);
    unsafe { sender.context.index_overlap(&a, &b, &out, stream()).unwrap() };
    assert_eq!((common.read(), recall.read(), jaccard.read()), (&[K][..], &[1.0][..], &[1.0][..]));

    // A set of the caller's: one key of the selection, and one that is not in it.
    let other = (0..).find(|s| !expected.contains(s)).unwrap();
    let (mut pair, two) = (array(vec![-1; k_padded(K) as usize]), array([2]));
    pair.put(0, &[expected[0].min(other), expected[0].max(other)]);
    let mut raw = *a.as_raw();
    (raw.indices, raw.lengths, raw.scores) = (pair.at(0).as_ptr(), two.at(0).as_ptr(), std::ptr::null());
    let mine = unsafe { IndexView::from_raw(raw, backend() == Backend::CPU) };
    assert_eq!((row(&mine, 0), mine.scores().is_none()), (pair[..2].to_vec(), true));
    let out = OverlapArgs::new().intersection(&mut common).recall(&mut recall);
    unsafe { sender.context.index_overlap(&mine, &b, &out, stream()).unwrap() };
    assert_eq!((common.read(), recall.read()), (&[1][..], &[0.5][..]));
}

#[test]
fn draft_rows_are_compacted() {
    let mut all = handles(context(), c"F", 3);
    let p = problem(3);
    let (key_end, pool) = (array([20, 30, 40]), Pool::contiguous_ref(&p.keys, KEYS as i64));
    let batch = Batch::new().num_rows(3).num_seqs(1).max_key_end(40).key_end(&key_end);
    let queries = Queries::new().q(&p.q).w(&p.w);
    let mut workspace = scratch(all.cache.forward_workspace_size(3, 40).unwrap());
    let (kept, rows) = (array([31]), array([1]));
    let next = Batch::new().num_rows(1).num_seqs(1).max_key_end(40).key_end(&kept).flags(BatchFlags::KEEP);
    let mut compacting = scratch(all.cache.compact_workspace_size(3).unwrap());
    unsafe {
        let full = ForwardArgs::all_rows(0).queries(&queries).keys(&pool).workspace(&mut workspace);
        all.cache.begin(&batch).unwrap().forward(&full, stream()).unwrap();
        let mut step = all.cache.begin(&next).unwrap();
        let error = step.view(0).unwrap_err();
        assert_eq!(error.status(), Status::STALE_ROWS, "{error}");
        let args =
            CompactArgs::new().source_layer(0).publish_layer(0).rows(&rows).num_rows(1).workspace(&mut compacting);
        step.compact(&args, stream()).unwrap();
        assert_eq!(row(&step.view(0).unwrap(), 0), p.expected(1, 30));
    }
}

#[test]
fn prepared_keys_and_queries() {
    let all = handles(context(), c"F", 1);
    let (x, positions, slots) = (array(numbers(DIM, 1.0)), array([1]), array([2i64]));
    let (cos, sin) = (array([1.0, 0.0f32]), array([0.0, 1.0f32])); // one pair: position 1 is a quarter turn
    let mut data = array([0f32; 3 * DIM]);
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
    unsafe { all.indexer.prepare_keys(&args, stream()).unwrap() };
    data.read();
    assert_eq!((data[2 * DIM], data[2 * DIM + 1]), (-x[1], x[0]));
    assert_eq!(data[2 * DIM + 2..], x[2..]);
    assert!(data[..2 * DIM].iter().all(|&v| v == 0.0));

    let (q, mut out) = (array(numbers(HEADS * DIM, 2.0)), array([0f32; HEADS * DIM]));
    let args = PrepareArgs::new().x(&q).count(1).x_dtype(Dtype::F32).q_out(&mut out);
    unsafe { all.indexer.prepare_queries(&args, stream()).unwrap() };
    assert_eq!(out.read(), &q[..]);
}

#[test]
fn typed_arrays_of_narrow_elements() {
    let context = context();
    let desc = IndexerDesc::new().num_heads(1).head_dim(32).dtype(Dtype::BF16);
    let indexer = Indexer::new(&context, &desc).unwrap();
    assert_eq!(indexer.info().unwrap().key_bytes, 64);
    let one = 0x3f80u16; // 1.0
    let (q, w, keys, key_end) = (array([one; 32]), array([0.5f32]), array([one; 2 * 32]), array([2]));
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(2).key_end(&key_end);
    let pool = Pool::contiguous_ref(&keys, 2);
    let queries = Queries::new().q(&q).w(&w);
    let (mut scores, mut workspace) = (array([0f32; 2]), scratch(indexer.scores_workspace_size(1, 2).unwrap()));
    let args =
        ScoresArgs::new().row_count(1).queries(&queries).keys(&pool).scores(&mut scores).workspace(&mut workspace);
    unsafe { indexer.scores(&batch, &args, stream()).unwrap() };
    assert_eq!(scores.read(), [16.0, 16.0]);
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
    let p = Problem { keys: array(numbers(MANY * DIM, 0.7)), ..problem(2) };
    let key_end = array([30, MANY as i32]);
    let batch = Batch::new().num_rows(2).num_seqs(1).max_key_end(MANY as i32).key_end(&key_end);
    let pool = Pool::contiguous_ref(&p.keys, MANY as i64);
    let queries = Queries::new().q(&p.q).w(&p.w);
    let mut workspace = scratch(cache.forward_workspace_size(2, MANY as i32).unwrap());
    unsafe {
        let full = ForwardArgs::all_rows(0).queries(&queries).keys(&pool).workspace(&mut workspace);
        let mut step = cache.begin(&batch).unwrap();
        assert_eq!(row(&step.forward(&full, stream()).unwrap(), 1), p.expected(1, MANY as i32));
    }
    assert!(tasks.load(Ordering::Relaxed) > 0, "the host's threads did nothing");
    drop(cache);
    assert_eq!(live.load(Ordering::Relaxed), 0);
}

#[test]
fn an_epoch_that_changes_is_a_fault_until_it_is_cleared() {
    let all = handles(context(), c"FS", 1);
    let mut word = array([1u32]);
    let desc = CacheDesc::new()
        .schedule(&all.schedule)
        .indexer(&all.indexer)
        .topk(&all.topk)
        .max_rows(1)
        .epoch(unsafe { DevicePtr::from_raw(word.at_mut(0).as_ptr()) });
    let mut cache = Cache::new(&all.context, &desc).unwrap();
    let p = problem(1);
    let key_end = array([KEYS as i32]);
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(KEYS as i32).key_end(&key_end);
    let pool = Pool::contiguous_ref(&p.keys, KEYS as i64);
    let queries = Queries::new().q(&p.q).w(&p.w);
    let mut workspace = scratch(cache.forward_workspace_size(1, KEYS as i32).unwrap());
    let (mut slots, mut lengths) = (array(vec![0i32; k_padded(K) as usize]), array([0i32]));
    unsafe {
        let mut step = cache.begin(&batch).unwrap();
        let full = ForwardArgs::all_rows(0).queries(&queries).keys(&pool).workspace(&mut workspace);
        step.forward(&full, stream()).unwrap();
        word.put(0, &[2]);
        let remap = RemapArgs::new().layout(Layout::CONTIGUOUS).slots(&mut slots).lengths(&mut lengths);
        assert!(row(&step.remap(&remap, stream()).unwrap(), 0).is_empty());
        assert_eq!(step.faults(false, stream()).unwrap(), Faults::EPOCH);
        assert!(step.faults(true, stream()).unwrap().contains(Faults::EPOCH));
        assert_eq!(step.faults(true, stream()).unwrap(), Faults::NONE);
    }
}
