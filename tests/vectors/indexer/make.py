# SPDX-License-Identifier: Apache-2.0
"""Writes tiny_lm.safetensors: what the indexer of layer 0 of the tiny model sees at the golden positions of text row 0,
and the index sets that transformers selected there (tests/golden). In double precision, rounded to fp32 at the end; no
code of this project takes part."""

import json
import math
import struct
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
MODEL = ROOT / "examples" / "tiny_lm" / "model"
INNER_EPS = 1e-6


class Tensors:
    def __init__(self, path: Path):
        data = path.read_bytes()
        size = struct.unpack_from("<Q", data)[0]
        self.index = json.loads(data[8 : 8 + size])
        self.data = data[8 + size :]

    def flat(self, name: str) -> list:
        begin, end = self.index[name]["data_offsets"]
        raw = self.data[begin:end]
        if self.index[name]["dtype"] == "BF16":
            words = struct.unpack(f"<{len(raw) // 2}H", raw)
            return list(struct.unpack(f"<{len(words)}f", struct.pack(f"<{len(words)}I", *(w << 16 for w in words))))
        return list(struct.unpack(f"<{len(raw) // 4}{'i' if self.index[name]['dtype'] == 'I32' else 'f'}", raw))

    def rows(self, name: str) -> list[list]:
        width = self.index[name]["shape"][1]
        flat = self.flat(name)
        return [flat[i : i + width] for i in range(0, len(flat), width)]


def rms_norm(x: list[float], weight: list[float], eps: float) -> list[float]:
    scale = 1 / math.sqrt(sum(v * v for v in x) / len(x) + eps)
    return [v * scale * w for v, w in zip(x, weight)]


def layer_norm(x: list[float], weight: list[float], bias: list[float]) -> list[float]:
    mean = sum(x) / len(x)
    scale = 1 / math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + INNER_EPS)
    return [(v - mean) * scale * w + b for v, w, b in zip(x, weight, bias)]


def project(matrix: list[list[float]], x: list[float]) -> list[float]:
    return [math.fsum(a * b for a, b in zip(row, x)) for row in matrix]


def as_float(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def rotate(x: list[float], position: int, rope_dim: int, theta: float) -> list[float]:
    """Pairs (2i, 2i + 1) of the first rope_dim elements; the angle is an fp32 product, as in training."""
    x = list(x)
    for i in range(rope_dim // 2):
        angle = as_float(position * as_float(theta ** (-2.0 * i / rope_dim)))
        cos, sin = math.cos(angle), math.sin(angle)
        even, odd = x[2 * i], x[2 * i + 1]
        x[2 * i], x[2 * i + 1] = even * cos - odd * sin, even * sin + odd * cos
    return x


def rows_of_layer_0() -> dict[str, tuple[str, list[int], list]]:
    config = json.loads((MODEL / "config.json").read_text())
    golden = Tensors(ROOT / "tests" / "golden" / "golden.safetensors")
    model = Tensors(MODEL / "model.safetensors")
    heads, dim, k = config["index_n_heads"], config["index_head_dim"], config["index_topk"]
    rope_dim, theta = config["qk_rope_head_dim"], config["rope_parameters"]["rope_theta"]
    positions = golden.flat("positions")
    text = (MODEL / "heldout.txt").read_bytes()[: max(positions) + 1]

    layer = "model.layers.0."
    attention, indexer = layer + "self_attn.", layer + "self_attn.indexer."
    embedding = model.rows("model.embed_tokens.weight")
    norm = model.flat(layer + "input_layernorm.weight")
    normed = {byte: rms_norm(embedding[byte], norm, config["rms_norm_eps"]) for byte in set(text)}
    wk = model.rows(indexer + "wk.weight")
    k_norm = (model.flat(indexer + "k_norm.weight"), model.flat(indexer + "k_norm.bias"))
    key = {byte: layer_norm(project(wk, x), *k_norm) for byte, x in normed.items()}
    keys = [rotate(key[byte], position, rope_dim, theta) for position, byte in enumerate(text)]

    q_down, q_norm = model.rows(attention + "q_a_proj.weight"), model.flat(attention + "q_a_layernorm.weight")
    q_up, head_weights = model.rows(indexer + "wq_b.weight"), model.rows(indexer + "weights_proj.weight")
    queries, weights = [], []
    for position in positions:
        x = normed[text[position]]
        q = project(q_up, rms_norm(project(q_down, x), q_norm, INNER_EPS))
        queries.append([rotate(q[h * dim : (h + 1) * dim], position, rope_dim, theta) for h in range(heads)])
        weights.append([w * (heads * dim) ** -0.5 for w in project(head_weights, x)])

    gaps = []
    for position, q, w in zip(positions, queries, weights):
        scores = sorted(
            (
                sum(w[h] * max(sum(a * b for a, b in zip(q[h], key)), 0) for h in range(heads))
                for key in keys[: position + 1]
            ),
            reverse=True,
        )
        gaps.append((scores[k - 1] - scores[k]) / (scores[0] - scores[-1]) if len(scores) > k else 1.0)

    count = len(positions)
    return {
        "q": ("F32", [count, heads, dim], [v for q in queries for head in q for v in head]),
        "w": ("F32", [count, heads], [v for w in weights for v in w]),
        "keys": ("F32", [len(keys), dim], [v for key in keys for v in key]),
        "key_end": ("I32", [count], [position + 1 for position in positions]),
        "indices": ("I32", [count, k], golden.flat("all_full.topk.layer0")),
        "gap": ("F32", [count], gaps),
    }


def safetensors(tensors: dict[str, tuple[str, list[int], list]]) -> bytes:
    header, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        packed = struct.pack(f"<{len(values)}{'f' if dtype == 'F32' else 'i'}", *values)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


if __name__ == "__main__":
    (HERE / "tiny_lm.safetensors").write_bytes(safetensors(rows_of_layer_0()))
