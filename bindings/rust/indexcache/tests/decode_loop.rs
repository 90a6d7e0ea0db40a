// SPDX-License-Identifier: Apache-2.0
//! Continuous decode over paged pools: requests of different lengths, one ends and a new one gets its pages.
mod common;

use common::{array, context, row, scratch, stream, Array};
use indexcache::{
    Attention, AttentionArgs, AttentionDesc, Batch, BlockTable, Cache, CacheDesc, Dtype, ForwardArgs, Indexer,
    IndexerDesc, NewKeys, Pool, Queries, Schedule, ScheduleDesc, Topk, TopkDesc,
};

const PAGE: usize = 16;
const BLOCKS: usize = 4; // of each sequence
const PAGES: usize = 3 * BLOCKS;
const HEADS: usize = 2;
const DIM: usize = 32;
const K: usize = 8;
const LATENT: usize = 16;
const ROPE: usize = 16;
const LAYERS: usize = 6;
const SCALE: f32 = 0.2;

/// Numbers that stand for what a model projects at one position of one request in one layer.
fn numbers(what: usize, request: usize, position: usize, layer: usize, count: usize) -> Vec<f32> {
    let seed = what * 7919 + request * 104_729 + position * 1_299_709 + layer * 15_485_863;
    (0..count).map(|i| ((seed as f64 * 0.618 + i as f64 * (1.3 + seed as f64 * 0.01)).sin()) as f32).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The k best positions of a row, ascending.
fn select(request: usize, position: usize, layer: usize) -> Vec<i32> {
    let (q, w) = (numbers(0, request, position, layer, HEADS * DIM), numbers(1, request, position, layer, HEADS));
    let mut scored: Vec<(f32, i32)> = (0..=position)
        .map(|p| {
            let key = numbers(2, request, p, layer, DIM);
            let score = (0..HEADS).map(|h| w[h] * dot(&q[h * DIM..][..DIM], &key).max(0.0)).sum();
            (score, p as i32)
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut best: Vec<i32> = scored.iter().take(K).map(|&(_, p)| p).collect();
    best.sort_unstable();
    best
}

/// Attention of one head over the selected keys.
fn attend(request: usize, position: usize, layer: usize, selected: &[i32]) -> Vec<f32> {
    let q = numbers(3, request, position, layer, LATENT + ROPE);
    let kv: Vec<_> = selected.iter().map(|&p| numbers(4, request, p as usize, layer, LATENT + ROPE)).collect();
    let weights: Vec<f32> = kv.iter().map(|kv| (SCALE * dot(&q, kv)).exp()).collect();
    let sum: f32 = weights.iter().sum();
    (0..LATENT).map(|d| weights.iter().zip(&kv).map(|(w, kv)| w * kv[d]).sum::<f32>() / sum).collect()
}

#[test]
fn decode_loop() -> indexcache::Result<()> {
    let context = context();
    let schedule = Schedule::new(&ScheduleDesc::new().pattern(c"FSSFSS").num_layers(LAYERS as i32))?;
    let geometry = IndexerDesc::new().num_heads(HEADS as i32).head_dim(DIM as i32).dtype(Dtype::F32);
    let indexer = Indexer::new(&context, &geometry)?;
    let topk = Topk::new(&context, &TopkDesc::new().k(K as i32))?;
    let geometry = AttentionDesc::new().num_heads(1).d_latent(LATENT as i32).d_rope(ROPE as i32).softmax_scale(SCALE);
    let attention = Attention::new(&context, &geometry.kv_dtype(Dtype::F32).q_dtype(Dtype::F32))?;
    let desc = CacheDesc::new().schedule(&schedule).indexer(&indexer).topk(&topk).attention(&attention).max_rows(3);
    let mut cache = Cache::new(&context, &desc)?;
    let most = (BLOCKS * PAGE) as i32;
    let mut workspace = scratch(cache.forward_workspace_size(3, most)?);

    // Sequence s has the pages s, s + 3, s + 6, s + 9, whichever request it is.
    let pages: Vec<i32> = (0..3).flat_map(|s| (0..BLOCKS as i32).map(move |b| s + 3 * b)).collect();
    let pages = array(pages);
    let slot = |s: usize, p: usize| pages[s * BLOCKS + p / PAGE] as usize * PAGE + p % PAGE;
    let pools =
        |width: usize| -> Vec<Array<f32>> { (0..LAYERS).map(|_| array(vec![0f32; PAGES * PAGE * width])).collect() };
    let (mut keys, mut latent) = (pools(DIM), pools(LATENT + ROPE)); // keys of Shared layers stay unused
    let mut requests = [(0, 20), (1, 37), (2, 50)]; // number and length
    for layer in 0..LAYERS {
        for (s, &(request, length)) in requests.iter().enumerate() {
            for p in 0..length {
                keys[layer].put(slot(s, p) * DIM, &numbers(2, request, p, layer, DIM));
                latent[layer].put(slot(s, p) * (LATENT + ROPE), &numbers(4, request, p, layer, LATENT + ROPE));
            }
        }
    }
    for step_number in 0..12 {
        if step_number == 6 {
            requests[1] = (3, 0); // request 1 ends; request 3 starts empty in its pages
        }
        let gather = |what, layer, count| -> Array<f32> {
            let rows = requests.iter().flat_map(|&(request, p)| numbers(what, request, p, layer, count));
            array(rows.collect::<Vec<_>>())
        };
        let (row_seq, key_end) = (array([0, 1, 2]), array(requests.map(|(_, length)| length as i32 + 1)));
        let slots = array([0, 1, 2].map(|s| slot(s, requests[s].1) as i64));
        let tables = [BlockTable::dense(&pages, BLOCKS as i32, PAGE as i32)];
        let batch = Batch::new().num_rows(3).num_seqs(3).row_seq(&row_seq).key_end(&key_end);
        let batch = batch.max_key_end(most).block_tables(&tables);
        // SAFETY: every array has an element for each row, sequence or block.
        let mut step = unsafe { cache.begin(&batch)? };
        // Nothing of the previous step serves this one.
        // SAFETY: a Shared layer without attention reads no arrays.
        let early = unsafe { step.forward(&ForwardArgs::all_rows(1), stream()).map(|_| ()) };
        assert!(early.unwrap_err().status().is_stale());
        for layer in 0..LAYERS {
            let (q, w) = (gather(0, layer, HEADS * DIM), gather(1, layer, HEADS));
            let (key, kv) = (gather(2, layer, DIM), gather(4, layer, LATENT + ROPE));
            for (kv, &slot) in kv.chunks(LATENT + ROPE).zip(slots.iter()) {
                latent[layer].put(slot as usize * (LATENT + ROPE), kv);
            }
            let attention_q = gather(3, layer, LATENT + ROPE);
            let mut out = array([0f32; 3 * LATENT]);
            let queries = Queries::new().q(&q).w(&w);
            let pool = Pool::paged(&mut keys[layer], PAGES as i64, 0);
            let new_keys = NewKeys::new().keys(&key).slots(&slots).count(3);
            let kv = Pool::paged_ref(&latent[layer], PAGES as i64, 0);
            let attention = AttentionArgs::new().q(&attention_q).kv(&kv).out(&mut out);
            let mut args = ForwardArgs::all_rows(layer as i32).attention(&attention).workspace(&mut workspace);
            let source = layer / 3 * 3;
            if layer == source {
                args = args.queries(&queries).keys(&pool).new_keys(&new_keys);
            }
            // SAFETY: every array above has the shape that its setter asks for.
            let view = unsafe { step.forward(&args, stream())? };
            assert_eq!(view.source_layer(), Some(source as i32));
            let (request, position) = requests[1];
            let selected = select(request, position, source);
            assert_eq!(row(&view, 1), selected, "step {step_number}, layer {layer}");
            for (got, want) in out.read()[LATENT..].iter().zip(attend(request, position, layer, &selected)) {
                assert!((got - want).abs() < 1e-4, "step {step_number}, layer {layer}: {got} {want}");
            }
        }
        assert!(step.faults(false, stream())?.is_empty());
        requests.iter_mut().for_each(|(_, length)| *length += 1);
    }
    Ok(())
}
