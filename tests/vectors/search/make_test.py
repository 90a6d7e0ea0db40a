# SPDX-License-Identifier: Apache-2.0
"""cases.json is what make.py writes, and covers what it is for."""

import json
import unittest

import make


class Cases(unittest.TestCase):
    def test_the_file_is_current(self):
        self.assertEqual(make.CASES.read_text(), make.text())

    def test_every_strategy_and_end_is_there(self):
        searches = json.loads(make.CASES.read_text())["searches"]
        self.assertEqual(len({case["desc"]["strategy"] for case in searches}), 5)
        self.assertEqual(
            {case["state"] for case in searches}, {"IC_SEARCH_DONE", "IC_SEARCH_BUDGET", "IC_SEARCH_EXHAUSTED"}
        )

    def test_ties_decide_somewhere(self):
        """In some step a higher layer has the least loss too."""
        tied = 0
        for case in json.loads(make.CASES.read_text())["searches"]:
            for step in case["steps"]:
                same = [loss for loss, pattern in zip(case["losses"], case["patterns"]) if loss == step["loss"]]
                full = {p.count("F") for p, loss in zip(case["patterns"], case["losses"]) if loss == step["loss"]}
                tied += len(same) > 1 and len(full) == 1
        self.assertGreater(tied, 3)


if __name__ == "__main__":
    unittest.main()
