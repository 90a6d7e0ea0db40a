// SPDX-License-Identifier: Apache-2.0
//! The header's table of threads as types: immutable handles are Sync, a cache and a search are not; all are Send.
mod common;

use common::*;
use indexcache::*;
use std::sync::Mutex;

fn shared<T: Send + Sync>() {}
fn moved<T: Send>() {}

/// `<T as NotSync<_>>::proof` is ambiguous, and does not compile, when T is Sync.
trait NotSync<A> {
    fn proof() {}
}
impl<T: ?Sized> NotSync<()> for T {}
impl<T: ?Sized + Sync> NotSync<u8> for T {}

#[test]
fn the_table_of_threads() {
    shared::<Context>();
    shared::<Schedule>();
    shared::<Indexer>();
    shared::<Topk>();
    shared::<Attention>();
    moved::<Cache>();
    <Cache as NotSync<_>>::proof();
    <Step<'_> as NotSync<_>>::proof();
    moved::<Search>();
    <Search as NotSync<_>>::proof();
    moved::<HostBuffer>();
    moved::<ForwardArgs<'_>>();
    shared::<Error>();
}

#[test]
fn one_indexer_many_threads_a_cache_each() {
    let all = handles(context(), c"FS", 1);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let all = SharedHandles {
                context: &all.context,
                schedule: &all.schedule,
                indexer: &all.indexer,
                topk: &all.topk,
            };
            scope.spawn(move || decode(&all, thread as f32));
        }
    });
}

/// Every handle but the cache.
struct SharedHandles<'a> {
    context: &'a Context,
    schedule: &'a Schedule,
    indexer: &'a Indexer,
    topk: &'a Topk,
}

fn decode(all: &SharedHandles<'_>, seed: f32) {
    let desc = CacheDesc::new().schedule(all.schedule).indexer(all.indexer).topk(all.topk).max_rows(1);
    let mut cache = Cache::new(all.context, &desc).unwrap();
    let mut workspace = scratch(cache.forward_workspace_size(1, 100).unwrap());
    let (q, w) = (array(numbers(HEADS * DIM, seed)), array(numbers(HEADS, 1.0 + seed)));
    let keys = array(numbers(100 * DIM, 2.0 + seed));
    let queries = Queries::new().q(&q).w(&w);
    let pool = Pool::contiguous_ref(&keys, 100);
    for end in 50..100 {
        let key_end = array([end]);
        let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(100).key_end(&key_end);
        unsafe {
            let mut step = cache.begin(&batch).unwrap();
            let full = ForwardArgs::all_rows(0).queries(&queries).keys(&pool).workspace(&mut workspace);
            assert_eq!(row(&step.forward(&full, stream()).unwrap(), 0), best(&q, &w, &keys, end as usize));
        }
    }
}

#[test]
fn a_cache_behind_a_lock_and_messages_of_each_thread() {
    let all = Mutex::new(handles(context(), c"FS", 1));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let all = &all;
            scope.spawn(move || {
                for turn in 0..50 {
                    let k = 5000 + thread * 100 + turn;
                    let locked = all.lock().unwrap();
                    let error = Topk::new(&locked.context, &TopkDesc::new().k(k)).unwrap_err();
                    drop(locked);
                    assert!(error.message().contains(&k.to_string()), "{error}");
                    all.lock().unwrap().cache.reset().unwrap();
                }
            });
        }
    });
}
