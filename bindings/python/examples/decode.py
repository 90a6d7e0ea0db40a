# SPDX-License-Identifier: Apache-2.0
"""A decode loop of a two-layer model: layer 0 is Full (scores and selects), layer 1 is Shared (reuses the selection).

Both then attend to the selected keys only. On a GPU the arrays would be those of torch or CuPy, and each call would get
its stream.
"""

import indexcache as ic
import numpy as np

LAYERS, CONTEXT, STEPS = 2, 1000, 3
HEADS, DIM, TOP_K = 4, 32, 64  # of the indexer
ATTENTION_HEADS, LATENT, ROPE = 2, 32, 16

# Once per process: where to run, and what the model looks like.
context = ic.Context("cpu")
schedule = ic.Schedule(LAYERS, pattern="FS")  # or config=text_of_config_json
indexer = ic.Indexer(context, num_heads=HEADS, head_dim=DIM, dtype="f32")
topk = ic.TopK(context, TOP_K)
attention = ic.Attention(
    context,
    num_heads=ATTENTION_HEADS,
    d_latent=LATENT,
    d_rope=ROPE,
    kv_dtype="f32",
    q_dtype="f32",
    softmax_scale=(LATENT + ROPE) ** -0.5,
)

# Once per micro-batch: the cache of indices, and a workspace for the largest step.
cache = ic.Cache(context, schedule=schedule, indexer=indexer, topk=topk, attention=attention, max_rows=1)
workspace = ic.empty(cache.forward_workspace_size(max_rows=1, max_key_end=CONTEXT))


# Once per layer: the call, over arrays that the model fills again in every step.
def build_layer(layer: int, random: np.random.Generator) -> ic.LayerCall:
    def some(*shape: int) -> np.ndarray:  # stands for a model's projections and its filled pools
        return random.standard_normal(shape, dtype=np.float32)

    return cache.layer(
        layer,
        queries=ic.Queries(q=some(1, HEADS, DIM), w=some(1, HEADS)),  # read when the layer is Full
        keys=ic.Pool(some(CONTEXT, DIM), "contiguous"),
        attention=ic.AttentionInputs(
            q=some(1, ATTENTION_HEADS, LATENT + ROPE),
            kv=ic.Pool(some(CONTEXT, LATENT + ROPE), "contiguous"),
            out=np.empty((1, ATTENTION_HEADS, LATENT), np.float32),
        ),
        workspace=workspace,
    )


layers = [build_layer(layer, np.random.default_rng(layer)) for layer in range(LAYERS)]

# Once per step: one row, which sees every key up to its own position; then one call per layer.
key_end = np.zeros(1, np.int32)
batch = ic.Batch(context, key_end=key_end, max_key_end=CONTEXT)
for position in range(CONTEXT - STEPS, CONTEXT):
    key_end[0] = position + 1
    cache.begin(batch)
    for call in layers:
        view = call()  # Full: score, select. Shared: the source's indices. Then attention over them
        indices = np.asarray(view.indices)[0, : np.asarray(view.lengths)[0]]  # no copy
        print(
            f"position {position}: layer {call.layer} attends to {indices.size} keys selected by layer",
            view.source_layer,
        )

# A forgotten Full layer is an error, never silently the indices of the last step.
cache.begin(batch)
try:
    layers[1]()
except ic.StaleError as error:
    print(f"refused: {error}")
