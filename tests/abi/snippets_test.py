# SPDX-License-Identifier: Apache-2.0
"""Code shown in the header and the README is code that the tests compile and run, and names in prose exist."""

import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = (ROOT / "examples" / "quickstart.c").read_text()
HEADER = (ROOT / "include" / "indexcache.h").read_text()
README = (ROOT / "README.md").read_text()


def dedented(text: str) -> str:
    """Lines without their indentation and without empty ones: how a snippet is compared with its file."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


class Snippets(unittest.TestCase):
    def test_the_headers_opening_example_is_in_quickstart(self):
        block = re.search(r"^ \* One decode step.*?\n \*\n((?: \*     .*\n)+)", HEADER, re.M)
        self.assertIsNotNone(block)
        code = dedented(re.sub(r"^ \* ?", "", block.group(1), flags=re.M))
        self.assertIn("ic_forward(", code)
        self.assertIn(code, dedented(QUICKSTART))

    def test_the_search_of_the_header_is_in_its_example(self):
        block = re.search(r"^ \*  With one worker, from examples/search.c:\n \*\n((?: \*      .*\n)+)", HEADER, re.M)
        self.assertIsNotNone(block)
        code = dedented(re.sub(r"^ \* ?", "", block.group(1), flags=re.M))
        self.assertIn("ic_search_tell(", code)
        self.assertIn(code, dedented((ROOT / "examples" / "search.c").read_text()))

    def test_the_readmes_step_is_in_quickstart(self):
        blocks = [block for block in re.findall(r"```c\n(.*?)```", README, re.S) if "ic_cache_begin" in block]
        self.assertEqual(len(blocks), 1)
        self.assertIn(dedented(blocks[0]), dedented(QUICKSTART))

    def test_every_name_in_the_documents_exists(self):
        known = set(re.findall(r"\b(?:ic|IC)_\w+", HEADER))
        for document in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]:
            for name in re.findall(r"\b(?:ic|IC)_[A-Za-z0-9_]*[A-Za-z0-9]\b", document.read_text()):
                family = any(other.startswith(name + "_") for other in known)  # "IC_VERSION_*"
                self.assertTrue(name in known or family, f"{document.name} names {name}")

    def test_links_of_the_documents_lead_somewhere(self):
        for document in [
            ROOT / "README.md",
            ROOT / "CHANGELOG.md",
            ROOT / "CONTRIBUTING.md",
            *(ROOT / "docs").rglob("*.md"),
        ]:
            for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
                if not target.startswith("http"):
                    self.assertTrue((document.parent / target).exists(), f"{document.name} links to {target}")


if __name__ == "__main__":
    unittest.main()
