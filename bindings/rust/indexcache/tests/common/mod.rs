// SPDX-License-Identifier: Apache-2.0
//! The repository's test vectors, and a small problem with all handles.
#![allow(dead_code, unused_imports)] // not every test uses everything
mod device;

pub use device::*;

use indexcache::{
    Attention, AttentionDesc, Cache, CacheDesc, CacheFlags, Context, Dtype, Indexer, IndexerDesc, Schedule,
    ScheduleDesc, Status, Topk, TopkDesc,
};
use std::ffi::CStr;
use std::path::PathBuf;

/// Tests run in the folder of their package, also where that is another than it was built in.
pub fn vectors(name: &str) -> PathBuf {
    PathBuf::from("../../../tests/vectors").join(name)
}

pub fn text(name: &str) -> String {
    let path = vectors(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_str(&text(name)).unwrap()
}

/// The status of a C name.
pub fn status(name: &str) -> Status {
    let number = (0..100).map(Status).find(|status| status.to_string().starts_with(&format!("{name}:")));
    number.unwrap_or_else(|| panic!("no status is called {name}"))
}

pub const HEADS: usize = 2;
pub const DIM: usize = 32;
pub const K: i32 = 4;
pub const ATTENTION_HEADS: usize = 1;
pub const LATENT: usize = 16;
pub const ROPE: usize = 16;

pub struct Handles {
    pub context: Context,
    pub schedule: Schedule,
    pub indexer: Indexer,
    pub topk: Topk,
    pub attention: Attention,
    pub cache: Cache,
}

pub fn handles(context: Context, pattern: &CStr, max_rows: i32) -> Handles {
    let num_layers = pattern.to_bytes().len() as i32;
    let schedule = Schedule::new(&ScheduleDesc::new().pattern(pattern).num_layers(num_layers)).unwrap();
    let desc = IndexerDesc::new().num_heads(HEADS as i32).head_dim(DIM as i32).dtype(Dtype::F32);
    let indexer = Indexer::new(&context, &desc).unwrap();
    let topk = Topk::new(&context, &TopkDesc::new().k(K)).unwrap();
    let desc = AttentionDesc::new()
        .num_heads(ATTENTION_HEADS as i32)
        .d_latent(LATENT as i32)
        .d_rope(ROPE as i32)
        .kv_dtype(Dtype::F32)
        .q_dtype(Dtype::F32)
        .softmax_scale(0.2);
    let attention = Attention::new(&context, &desc).unwrap();
    let desc = CacheDesc::new()
        .schedule(&schedule)
        .indexer(&indexer)
        .topk(&topk)
        .attention(&attention)
        .max_rows(max_rows)
        .num_slots(2)
        .flags(CacheFlags::SCORES);
    let cache = Cache::new(&context, &desc).unwrap();
    Handles { context, schedule, indexer, topk, attention, cache }
}

/// Numbers that no two of are equal.
pub fn numbers(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.37 + seed).sin()).collect()
}

/// The k best keys of one row, by score, then position; ascending.
pub fn best(q: &[f32], w: &[f32], keys: &[f32], count: usize) -> Vec<i32> {
    let score = |key: &[f32]| -> f64 {
        let dot = |h: usize| -> f64 { (0..DIM).map(|d| f64::from(q[h * DIM + d]) * f64::from(key[d])).sum() };
        (0..HEADS).map(|h| f64::from(w[h]) * dot(h).max(0.0)).sum()
    };
    let mut order: Vec<(f64, i32)> = (0..count).map(|s| (score(&keys[s * DIM..][..DIM]), s as i32)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut best: Vec<i32> = order.iter().take(K as usize).map(|entry| entry.1).collect();
    best.sort_unstable();
    best
}
