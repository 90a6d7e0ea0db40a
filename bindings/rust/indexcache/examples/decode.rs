// SPDX-License-Identifier: Apache-2.0
//! A decode loop over a model of four layers: 0 and 2 are Full (they score and select), 1 and 3 are Shared (they reuse
//! the selection of the layer before). All attend to the selected keys only.
use indexcache::{
    Attention, AttentionArgs, AttentionDesc, Batch, Cache, CacheDesc, Context, Dtype, ForwardArgs, HostBuffer, Indexer,
    IndexerDesc, NewKeys, Pool, Queries, Schedule, ScheduleDesc, Stream, Topk, TopkDesc,
};

const PROMPT: usize = 1000; // keys that are there before the first step
const STEPS: usize = 3;
const CAPACITY: usize = PROMPT + STEPS;
const HEADS: usize = 4; // of the indexer
const DIM: usize = 32;
const TOP_K: i32 = 64;
const ATTENTION_HEADS: usize = 2;
const LATENT: usize = 32;
const ROPE: usize = 16;

/// Stands for a model's projections: any numbers do.
fn some_numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.37).sin()).collect()
}

/// What an engine keeps for each layer: two pools with a vector per key.
struct Layer {
    index_keys: Vec<f32>,
    latent_kv: Vec<f32>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Once per process: where to run, and what the model looks like.
    let context = Context::cpu()?;
    let schedule = Schedule::new(&ScheduleDesc::new().pattern(c"FSFS").num_layers(4))?;
    let geometry = IndexerDesc::new().num_heads(HEADS as i32).head_dim(DIM as i32).dtype(Dtype::F32);
    let indexer = Indexer::new(&context, &geometry)?;
    let topk = Topk::new(&context, &TopkDesc::new().k(TOP_K))?;
    let geometry = AttentionDesc::new()
        .num_heads(ATTENTION_HEADS as i32)
        .d_latent(LATENT as i32)
        .d_rope(ROPE as i32)
        .kv_dtype(Dtype::F32)
        .q_dtype(Dtype::F32)
        .softmax_scale(((LATENT + ROPE) as f32).powf(-0.5));
    let attention = Attention::new(&context, &geometry)?;

    // Once per micro-batch: the cache of indices, and a workspace for the largest step.
    let desc = CacheDesc::new().schedule(&schedule).indexer(&indexer).topk(&topk).attention(&attention).max_rows(1);
    let mut cache = Cache::new(&context, &desc)?;
    let mut workspace = HostBuffer::new(cache.forward_workspace_size(1, CAPACITY as i32)?);
    let mut layers: Vec<Layer> = (0..4)
        .map(|_| Layer {
            index_keys: some_numbers(CAPACITY * DIM),
            latent_kv: some_numbers(CAPACITY * (LATENT + ROPE)),
        })
        .collect();

    for position in PROMPT..CAPACITY {
        // Once per step: one row, which sees all keys of sequence 0 up to its own; then one call per layer.
        let key_end = [position as i32 + 1];
        let slot = [position as i64];
        let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(CAPACITY as i32).key_end(&key_end);
        // SAFETY: key_end has an element for the row.
        let mut step = unsafe { cache.begin(&batch)? };
        for (id, layer) in (0..).zip(&mut layers) {
            // The model's own work: indexer queries and head weights, the new token's key, attention queries.
            let (q, w, key) = (some_numbers(HEADS * DIM), some_numbers(HEADS), some_numbers(DIM));
            let attention_q = some_numbers(ATTENTION_HEADS * (LATENT + ROPE));
            let mut out = vec![0f32; ATTENTION_HEADS * LATENT];

            let queries = Queries::new().q(&q).w(&w);
            let keys = Pool::contiguous(&mut layer.index_keys, CAPACITY as i64);
            let new_keys = NewKeys::new().keys(&key).slots(&slot).count(1);
            let kv = Pool::contiguous_ref(&layer.latent_kv, CAPACITY as i64);
            let attend = AttentionArgs::new().q(&attention_q).kv(&kv).out(&mut out);
            let args = ForwardArgs::all_rows(id)
                .queries(&queries) // read when the layer is Full
                .keys(&keys)
                .new_keys(&new_keys)
                .attention(&attend)
                .workspace(&mut workspace);
            // SAFETY: every array above has the shape that its setter asks for.
            let view = unsafe { step.forward(&args, Stream::DEFAULT)? };
            let (count, source) = (view.row(0).len(), view.source_layer().unwrap());
            println!("position {position}: layer {id} attends to {count} keys selected by layer {source}");
        }
    }

    // What cannot be right is an error, not silent garbage: layer 3 needs what layer 2 has not selected yet.
    let key_end = [CAPACITY as i32];
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(CAPACITY as i32).key_end(&key_end);
    // SAFETY: as above; a Shared layer without attention reads no arrays.
    let result = unsafe { cache.begin(&batch)?.forward(&ForwardArgs::all_rows(3), Stream::DEFAULT).map(|_| ()) };
    match result {
        Err(error) if error.status().is_stale() => println!("run the source layer first: {error}"),
        other => other?,
    }
    Ok(())
}
