# SPDX-License-Identifier: Apache-2.0
"""An engine in small: requests join and leave, sequences grow by a token per step over pages that are handed out as
needed, every layer brings its new keys, and the arrays of the calls stay where they are."""

import indexcache as ic
import numpy as np

LAYERS, MAX_ROWS, PAGE, BLOCKS = "FSF", 3, 16, 8
H, D, K, HEADS, LATENT, ROPE = 2, 32, 6, 2, 16, 16


def test_a_growing_batch_equals_a_dense_computation(context: ic.Context) -> None:
    random = np.random.default_rng(11)
    indexer = ic.Indexer(context, num_heads=H, head_dim=D, dtype="f32")
    attention = ic.Attention(
        context, num_heads=HEADS, d_latent=LATENT, d_rope=ROPE, kv_dtype="f32", q_dtype="f32", softmax_scale=0.2
    )
    schedule = ic.Schedule(len(LAYERS), pattern=LAYERS)
    cache = ic.Cache(
        context, schedule=schedule, indexer=indexer, topk=ic.TopK(context, K), attention=attention, max_rows=MAX_ROWS
    )
    workspace = ic.empty(cache.forward_workspace_size(MAX_ROWS, PAGE * BLOCKS))

    pages = np.full((MAX_ROWS, BLOCKS), -1, np.int32)
    key_end = np.zeros(MAX_ROWS, np.int32)
    slots = np.full(MAX_ROWS, -1, np.int64)
    batch = ic.Batch(
        context,
        key_end=key_end,
        row_seq=np.arange(MAX_ROWS, dtype=np.int32),
        max_key_end=PAGE * BLOCKS,
        block_tables=[ic.BlockTable(pages, PAGE)],
    )
    free_pages = random.permutation(MAX_ROWS * BLOCKS).tolist()
    layers, calls = [], []
    for layer in range(len(LAYERS)):
        arrays = {
            "q": np.zeros((MAX_ROWS, H, D), np.float32),
            "w": np.zeros((MAX_ROWS, H), np.float32),
            "new": np.zeros((MAX_ROWS, D), np.float32),
            "keys": np.full((MAX_ROWS * BLOCKS, PAGE, D), np.nan, np.float32),
            "aq": np.zeros((MAX_ROWS, HEADS, LATENT + ROPE), np.float32),
            "kv": np.full((MAX_ROWS * BLOCKS, PAGE, LATENT + ROPE), np.nan, np.float32),
            "out": np.zeros((MAX_ROWS, HEADS, LATENT), np.float32),
        }
        layers.append(arrays)
        calls.append(
            cache.layer(
                layer,
                queries=ic.Queries(arrays["q"], arrays["w"]),
                keys=ic.Pool(arrays["keys"], "paged"),
                new_keys=ic.NewKeys(arrays["new"], slots),
                attention=ic.AttentionInputs(arrays["aq"], ic.Pool(arrays["kv"], "paged"), arrays["out"]),
                workspace=workspace,
            )
        )

    for step in range(40):
        rows = 1 + step % MAX_ROWS if step < 6 else 2 + step % 2  # requests that are not in this step wait
        batch.num_rows = rows
        slots[:] = -1
        for row in range(rows):
            position = key_end[row]
            if position % PAGE == 0:
                pages[row, position // PAGE] = free_pages.pop()
            slots[row] = int(pages[row, position // PAGE]) * PAGE + position % PAGE
            key_end[row] = position + 1
        for arrays in layers:
            for name in ("q", "w", "new", "aq"):
                arrays[name][:] = random.standard_normal(arrays[name].shape)
            arrays["kv"].reshape(-1, LATENT + ROPE)[slots[:rows]] = random.standard_normal((rows, LATENT + ROPE))
        cache.begin(batch)
        for layer, (arrays, call) in enumerate(zip(layers, calls)):
            view = call()
            source = layers[view.source_layer]
            assert view.source_layer == LAYERS.rfind("F", 0, layer + 1) and view.num_rows == rows
            for row in range(rows):
                length = key_end[row]
                keys = source["keys"][pages[row]].reshape(-1, D)[:length].astype(np.float64)
                scores = np.maximum(keys @ source["q"][row].T, 0) @ source["w"][row]
                best = sorted(np.lexsort((np.arange(length), -scores))[:K].tolist())
                assert np.asarray(view.indices)[row, : min(length, K)].tolist() == best, (step, layer, row)
                kv = arrays["kv"][pages[row]].reshape(-1, LATENT + ROPE)[best].astype(np.float64)
                weights = np.exp(0.2 * arrays["aq"][row] @ kv.T)
                expected = weights / weights.sum(axis=1, keepdims=True) @ kv[:, :LATENT]
                np.testing.assert_allclose(arrays["out"][row], expected, rtol=1e-4, atol=1e-5)
    assert cache.faults() == ic.Fault(0) and cache.info.generation == 40
