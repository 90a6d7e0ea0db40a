// SPDX-License-Identifier: Apache-2.0
//! Rows of a trained model select what transformers selected: tests/vectors/indexer.
mod common;

use common::*;
use indexcache::{
    Batch, Cache, CacheDesc, Context, ContextDesc, CpuIsa, Dtype, ForwardArgs, Indexer, IndexerDesc, Pool, Queries,
    Schedule, ScheduleDesc, Topk, TopkDesc,
};
use serde_json::Value;

struct Tensors {
    header: Value,
    data: Vec<u8>,
}

impl Tensors {
    fn read() -> Self {
        let mut data = std::fs::read(vectors("indexer/tiny_lm.safetensors")).unwrap();
        let size = u64::from_le_bytes(data[..8].try_into().unwrap()) as usize;
        let header = serde_json::from_slice(&data[8..8 + size]).unwrap();
        Self { header, data: data.split_off(8 + size) }
    }

    fn words(&self, name: &str, dtype: &str, shape: &[usize]) -> Vec<[u8; 4]> {
        let entry = &self.header[name];
        assert_eq!(entry["dtype"], dtype, "{name}");
        assert_eq!(entry["shape"], serde_json::json!(shape), "{name}");
        let offset = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
        self.data[offset(0)..offset(1)].chunks_exact(4).map(|word| word.try_into().unwrap()).collect()
    }

    fn f32(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        self.words(name, "F32", shape).into_iter().map(f32::from_le_bytes).collect()
    }

    fn i32(&self, name: &str, shape: &[usize]) -> Vec<i32> {
        self.words(name, "I32", shape).into_iter().map(i32::from_le_bytes).collect()
    }
}

const ROWS: usize = 32;
const KEYS: usize = 2048;
const K: usize = 64;

fn selects_what_transformers_selected(context: &Context) {
    let tensors = Tensors::read();
    let (q, w) = (array(tensors.f32("q", &[ROWS, 4, 32])), array(tensors.f32("w", &[ROWS, 4])));
    let keys = array(tensors.f32("keys", &[KEYS, 32]));
    let key_end = array(tensors.i32("key_end", &[ROWS]));
    let (expected, gap) = (tensors.i32("indices", &[ROWS, K]), tensors.f32("gap", &[ROWS]));

    let schedule = Schedule::new(&ScheduleDesc::new().pattern(c"FS").num_layers(2)).unwrap();
    let desc = IndexerDesc::new().num_heads(4).head_dim(32).dtype(Dtype::F32);
    let indexer = Indexer::new(context, &desc).unwrap();
    let topk = Topk::new(context, &TopkDesc::new().k(K as i32)).unwrap();
    let desc = CacheDesc::new().schedule(&schedule).indexer(&indexer).topk(&topk).max_rows(ROWS as i32);
    let mut cache = Cache::new(context, &desc).unwrap();
    let mut workspace = scratch(cache.forward_workspace_size(ROWS as i32, KEYS as i32).unwrap());

    let batch = Batch::new().num_rows(ROWS as i32).num_seqs(1).max_key_end(KEYS as i32).key_end(&key_end);
    let (queries, pool) = (Queries::new().q(&q).w(&w), Pool::contiguous_ref(&keys, KEYS as i64));
    let args = ForwardArgs::all_rows(0).queries(&queries).keys(&pool).workspace(&mut workspace);
    let mut compared = 0;
    unsafe {
        let mut step = cache.begin(&batch).unwrap();
        step.forward(&args, stream()).unwrap();
        let view = step.forward(&ForwardArgs::all_rows(1), stream()).unwrap(); // Shared
        assert_eq!(view.source_layer(), Some(0));
        for row in (0..ROWS).filter(|&row| gap[row] > 1e-4) {
            assert_eq!(
                common::row(&view, row),
                &expected[row * K..][..K],
                "key_end {}, gap {}",
                key_end[row],
                gap[row]
            );
            compared += 1;
        }
    }
    assert!(compared >= 26, "{compared} of {ROWS} rows can be compared");
}

#[test]
fn as_it_is_by_default() {
    selects_what_transformers_selected(&context());
}

#[test]
fn portable_on_one_thread() {
    let desc = ContextDesc::new().backend(indexcache::Backend::CPU).cpu_isa(CpuIsa::PORTABLE).num_threads(1);
    selects_what_transformers_selected(&Context::new(&desc).unwrap());
}
