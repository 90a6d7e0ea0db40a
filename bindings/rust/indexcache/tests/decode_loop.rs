// SPDX-License-Identifier: Apache-2.0
//! Continuous decode over paged pools: requests of different lengths, one ends and a new one gets its pages.
use indexcache::{
    Attention, AttentionArgs, AttentionDesc, Batch, BlockTable, Cache, CacheDesc, Context, Dtype, ForwardArgs,
    HostBuffer, Indexer, IndexerDesc, NewKeys, Pool, Queries, Schedule, ScheduleDesc, Stream, Topk, TopkDesc,
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
    let context = Context::cpu()?;
    let schedule = Schedule::new(&ScheduleDesc::new().pattern(c"FSSFSS").num_layers(LAYERS as i32))?;
    let geometry = IndexerDesc::new().num_heads(HEADS as i32).head_dim(DIM as i32).dtype(Dtype::F32);
    let indexer = Indexer::new(&context, &geometry)?;
    let topk = Topk::new(&context, &TopkDesc::new().k(K as i32))?;
    let geometry = AttentionDesc::new().num_heads(1).d_latent(LATENT as i32).d_rope(ROPE as i32).softmax_scale(SCALE);
    let attention = Attention::new(&context, &geometry.kv_dtype(Dtype::F32).q_dtype(Dtype::F32))?;
    let desc = CacheDesc::new().schedule(&schedule).indexer(&indexer).topk(&topk).attention(&attention).max_rows(3);
    let mut cache = Cache::new(&context, &desc)?;
    let most = (BLOCKS * PAGE) as i32;
    let mut workspace = HostBuffer::new(cache.forward_workspace_size(3, most)?);

    // Sequence s has the pages s, s + 3, s + 6, s + 9, whichever request it is.
    let pages: Vec<i32> = (0..3).flat_map(|s| (0..BLOCKS as i32).map(move |b| s + 3 * b)).collect();
    let slot = |s: usize, p: usize| pages[s * BLOCKS + p / PAGE] as usize * PAGE + p % PAGE;
    let mut keys = vec![vec![0f32; PAGES * PAGE * DIM]; LAYERS]; // those of Shared layers stay unused
    let mut latent = vec![vec![0f32; PAGES * PAGE * (LATENT + ROPE)]; LAYERS];
    let mut requests = [(0, 20), (1, 37), (2, 50)]; // number and length
    for layer in 0..LAYERS {
        for (s, &(request, length)) in requests.iter().enumerate() {
            for p in 0..length {
                keys[layer][slot(s, p) * DIM..][..DIM].copy_from_slice(&numbers(2, request, p, layer, DIM));
                let kv = numbers(4, request, p, layer, LATENT + ROPE);
                latent[layer][slot(s, p) * (LATENT + ROPE)..][..LATENT + ROPE].copy_from_slice(&kv);
            }
        }
    }
    for step_number in 0..12 {
        if step_number == 6 {
            requests[1] = (3, 0); // request 1 ends; request 3 starts empty in its pages
        }
        let gather = |what, layer, count| -> Vec<f32> {
            requests.iter().flat_map(|&(request, p)| numbers(what, request, p, layer, count)).collect()
        };
        let key_end = requests.map(|(_, length)| length as i32 + 1);
        let slots: Vec<i64> = (0..3).map(|s| slot(s, requests[s].1) as i64).collect();
        let tables = [BlockTable::dense(&pages, BLOCKS as i32, PAGE as i32)];
        let batch = Batch::new().num_rows(3).num_seqs(3).row_seq(&[0, 1, 2]).key_end(&key_end);
        let batch = batch.max_key_end(most).block_tables(&tables);
        // SAFETY: every array has an element for each row, sequence or block.
        let mut step = unsafe { cache.begin(&batch)? };
        // Nothing of the previous step serves this one.
        // SAFETY: a Shared layer without attention reads no arrays.
        let early = unsafe { step.forward(&ForwardArgs::all_rows(1), Stream::DEFAULT).map(|_| ()) };
        assert!(early.unwrap_err().status().is_stale());
        for layer in 0..LAYERS {
            let (q, w) = (gather(0, layer, HEADS * DIM), gather(1, layer, HEADS));
            let (key, kv) = (gather(2, layer, DIM), gather(4, layer, LATENT + ROPE));
            for (kv, &slot) in kv.chunks(LATENT + ROPE).zip(&slots) {
                latent[layer][slot as usize * (LATENT + ROPE)..][..LATENT + ROPE].copy_from_slice(kv);
            }
            let attention_q = gather(3, layer, LATENT + ROPE);
            let mut out = vec![0f32; 3 * LATENT];
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
            let view = unsafe { step.forward(&args, Stream::DEFAULT)? };
            assert_eq!(view.source_layer(), Some(source as i32));
            let (request, position) = requests[1];
            let selected = select(request, position, source);
            assert_eq!(view.row(1), selected, "step {step_number}, layer {layer}");
            for (got, want) in out[LATENT..].iter().zip(attend(request, position, layer, &selected)) {
                assert!((got - want).abs() < 1e-4, "step {step_number}, layer {layer}: {got} {want}");
            }
        }
        assert!(step.faults(false, Stream::DEFAULT)?.is_empty());
        requests.iter_mut().for_each(|(_, length)| *length += 1);
    }
    Ok(())
}
