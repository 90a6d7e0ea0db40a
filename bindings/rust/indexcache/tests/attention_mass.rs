// SPDX-License-Identifier: Apache-2.0
//! Attention mass, and how much of it the keys of another set hold, against plain arithmetic.
mod common;

use common::numbers;
use indexcache::*;

const HEADS: usize = 2;
const WIDTH: usize = 32;
const KEYS: usize = 12;

/// The mean over the heads of each index's softmax weight, in double precision.
fn masses(q: &[f32], kv: &[f32], indices: &[i32]) -> Vec<f64> {
    let dot = |q: &[f32], s: i32| -> f64 {
        kv[s as usize * WIDTH..].iter().zip(q).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let mut masses = vec![0.0; indices.len()];
    for q in q.chunks(WIDTH) {
        let weights: Vec<f64> = indices.iter().map(|s| (f64::from(0.2f32) * dot(q, *s)).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for (mass, weight) in masses.iter_mut().zip(&weights) {
            *mass += weight / sum / HEADS as f64;
        }
    }
    masses
}

fn view<'a>(indices: &'a [i32], lengths: &'a [i32; 1]) -> IndexView<'a> {
    let mut raw = ffi::ic_index_view::INIT;
    (raw.indices, raw.lengths) = (indices.as_ptr(), lengths.as_ptr());
    (raw.num_rows, raw.k, raw.row_stride) = (1, indices.len() as i32, indices.len() as i64);
    (raw.kind, raw.source_layer) = (IndexKind::LOGICAL.0, -1);
    // SAFETY: one row of as many indices as the slice has.
    unsafe { IndexView::from_raw(raw, true) }
}

#[test]
fn mass_of_every_entry_and_what_another_set_holds_of_it() {
    let context = Context::cpu().unwrap();
    let desc = AttentionDesc::new()
        .num_heads(HEADS as i32)
        .d_latent(16)
        .d_rope(16)
        .kv_dtype(Dtype::F32)
        .q_dtype(Dtype::F32)
        .softmax_scale(0.2);
    let attention = Attention::new(&context, &desc).unwrap();
    let (q, latent) = (numbers(HEADS * WIDTH, 4.0), numbers(KEYS * WIDTH, 2.0));
    let (indices, lengths, key_end) = ([1, 4, 7, 9, -1, -1], [4], [KEYS as i32]);
    let a = view(&indices, &lengths);
    let batch = Batch::new().num_rows(1).num_seqs(1).max_key_end(KEYS as i32).key_end(&key_end);
    let kv = Pool::contiguous_ref(&latent, KEYS as i64);
    let mut workspace = HostBuffer::new(attention.mass_workspace_size(1, 6).unwrap());
    let (mut mass, expected) = ([-1f32; 6], masses(&q, &latent, &indices[..4]));
    let args = MassArgs::new().q(&q).kv(&kv).mass(&mut mass);
    unsafe { attention.mass(Some(&batch), 0, &a, &args, &mut workspace, Stream::DEFAULT).unwrap() };
    let nowhere = unsafe { attention.mass(None, 0, &a, &args, &mut workspace, Stream::DEFAULT) };
    assert_eq!(nowhere.unwrap_err().status(), Status::NULL_POINTER);
    for (mass, expected) in mass.iter().zip(&expected) {
        assert!((f64::from(*mass) - expected).abs() < 1e-6, "{mass} is {expected}");
    }
    assert_eq!(mass[4..], [0.0, 0.0]);

    let (other, two, mut kept) = ([4, 9], [2], [0f32]);
    let out = OverlapArgs::new().mass(&mass).mass_recall(&mut kept);
    unsafe { context.index_overlap(&a, &view(&other, &two), &out, Stream::DEFAULT).unwrap() };
    assert!((f64::from(kept[0]) - expected[1] - expected[3]).abs() < 1e-6, "{kept:?}");
    let out = OverlapArgs::new().mass_recall(&mut kept);
    let missing = unsafe { context.index_overlap(&a, &view(&other, &two), &out, Stream::DEFAULT) };
    assert_eq!(missing.unwrap_err().status(), Status::NULL_POINTER);
}
