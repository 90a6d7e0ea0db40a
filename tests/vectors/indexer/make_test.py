# SPDX-License-Identifier: Apache-2.0
"""tiny_lm.safetensors is what make.py computes from the checkpoint and the golden sets; sines and powers of another
machine's C library may differ in the last bit."""

import unittest
from pathlib import Path

from make import HERE, ROOT, Tensors, rows_of_layer_0

ROUNDING = 1e-5


class TinyLm(unittest.TestCase):
    def setUp(self):
        self.committed = Tensors(Path(HERE) / "tiny_lm.safetensors")

    def test_same_tensors(self):
        computed = rows_of_layer_0()
        self.assertEqual(list(computed), list(self.committed.index))
        for name, (dtype, shape, values) in computed.items():
            self.assertEqual((self.committed.index[name]["dtype"], self.committed.index[name]["shape"]), (dtype, shape))
            if dtype == "I32":
                self.assertEqual(self.committed.flat(name), values, name)
            else:
                errors = [abs(a - b) for a, b in zip(self.committed.flat(name), values)]
                self.assertLessEqual(max(errors), ROUNDING * max(map(abs, values)), name)

    def test_indices_are_those_of_transformers(self):
        golden = Tensors(ROOT / "tests" / "golden" / "golden.safetensors")
        self.assertEqual(self.committed.flat("indices"), golden.flat("all_full.topk.layer0"))

    def test_enough_rows_can_be_compared(self):
        clear = [gap for gap in self.committed.flat("gap") if gap > 1e-4]
        self.assertGreaterEqual(len(clear), 26)


if __name__ == "__main__":
    unittest.main()
