# SPDX-License-Identifier: Apache-2.0
"""What the generator writes, and that --check sees every difference."""

import contextlib
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from small_header import GENERATOR, HEADER, ROOT, emit_json, emit_map, mutate, read


def load_generator():
    spec = importlib.util.spec_from_file_location("generator", GENERATOR / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = load_generator()
FILES = generator.generate(generator.load(ROOT / generator.HEADER))
GENERATED = tuple(FILES)


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(GENERATOR), "--root", str(root), *arguments]
    return subprocess.run(command, text=True, capture_output=True)


def small_api(text: str = HEADER) -> dict:
    header, problems = read(text)
    if problems:
        raise AssertionError(problems)
    return json.loads(emit_json.emit(header)["bindings/api.json"])


def item(api: dict, kind: str, name: str) -> dict:
    return next(i for i in api[kind] if i["name"] == name)


class Check(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for path in ("include/indexcache.h", *GENERATED):
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, self.root / path)

    def test_the_committed_files_are_what_the_header_gives(self):
        result = run(self.root, "--check")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(f"{len(GENERATED)} of {len(GENERATED)} generated files are up to date", result.stdout)

    def test_every_target_is_among_them(self):
        for path in (
            "bindings/api.json",
            "lib/indexcache.map",
            "tests/abi/symbols.txt",
            "tests/abi/layout.c",
            "tests/abi/init.c",
            "tests/bindings/layout/report.c",
            "bindings/rust/indexcache-sys/src/ffi.rs",
            "bindings/rust/indexcache/src/generated.rs",
        ):
            self.assertIn(path, GENERATED)

    def test_one_changed_byte_in_any_file_fails(self):
        for path in GENERATED:
            with self.subTest(path):
                good = (self.root / path).read_bytes()
                (self.root / path).write_bytes(good[:-2] + b"#" + good[-1:])
                said = io.StringIO()
                with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                    self.assertEqual(generator.check(self.root, FILES), 1)
                self.assertIn(f"--- {path} (as it is)", said.getvalue())
                self.assertIn(f"{path} is not what the header gives", said.getvalue())
                (self.root / path).write_bytes(good)

    def test_a_missing_file_and_other_line_ends_fail(self):
        symbols = self.root / "tests/abi/symbols.txt"
        symbols.write_bytes(symbols.read_bytes().replace(b"\n", b"\r\n"))
        self.assertEqual(run(self.root, "--check").returncode, 1)
        symbols.unlink()
        self.assertEqual(run(self.root, "--check").returncode, 1)

    def test_a_changed_header_fails_until_the_files_are_written(self):
        header = self.root / "include/indexcache.h"
        header.write_text(mutate(header.read_text(), "#define IC_ENGINE_VLLM 1\n", "#define IC_ENGINE_VLLM 9\n"))
        result = run(self.root, "--check")
        self.assertEqual(result.returncode, 1)
        self.assertIn('+   "value": 9', result.stderr)
        written = run(self.root)
        changed = set(written.stdout.split())
        self.assertLessEqual(
            {"bindings/api.json", "tests/abi/init.c", "bindings/rust/indexcache-sys/src/ffi.rs"}, changed
        )
        self.assertFalse({"lib/indexcache.map", "tests/abi/layout.c", "tests/abi/symbols.txt"} & changed, changed)
        self.assertEqual(run(self.root, "--check").returncode, 0)

    def test_a_refused_header_writes_nothing_and_names_file_and_line(self):
        header = self.root / "include/indexcache.h"
        header.write_text(header.read_text().replace("int32_t backend;", "int backend;"))
        before = [(self.root / path).read_bytes() for path in GENERATED]
        result = run(self.root)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"^include/indexcache\.h:\d+: in struct ic_context_desc: unknown type int\n$")
        self.assertEqual(before, [(self.root / path).read_bytes() for path in GENERATED])


class Api(unittest.TestCase):
    def setUp(self):
        self.api = small_api()

    def test_version_is_no_constant(self):
        self.assertEqual(self.api["version"], {"major": 0, "minor": 1, "patch": 0})
        self.assertEqual([c["name"] for c in self.api["constants"] if "VERSION" in c["name"]], [])

    def test_constants(self):
        found = {c["name"]: (c["value"], c["kind"], c["group"], c["doc"]) for c in self.api["constants"]}
        self.assertEqual(found["IC_OK"], (0, "status", "ic_status", "Success."))
        self.assertEqual(found["IC_ERROR_STALE"], (20, "status", "ic_status", "Old."))
        self.assertEqual(found["IC_KIND_RED"], (1, "value", "IC_KIND", "Kinds of things."))
        self.assertEqual(found["IC_KIND_BLUE"], (2, "value", "IC_KIND", "Kinds of things."))
        self.assertEqual(found["IC_NO_THING"], (-1, "value", None, "No thing."))
        self.assertEqual(found["IC_FLAG_TWO"], (2, "flag", "IC_FLAG", "Second bit."))

    def test_struct(self):
        desc = item(self.api, "structs", "ic_thing_desc")
        self.assertEqual((desc["kind"], desc["frozen"], desc["size"]), ("desc", False, 72))
        self.assertEqual(desc["init"], "IC_THING_DESC_INIT")
        offsets = [(f["name"], f["offset"], f["size"]) for f in desc["fields"]]
        self.assertEqual(offsets[:4], [("struct_size", 0, 8), ("say", 8, 8), ("say_user", 16, 8), ("pairs", 24, 8)])
        self.assertEqual(offsets[6:8], [("weight", 40, 8), ("name", 48, 16)])
        self.assertEqual(
            desc["fields"][3]["type"], {"c": "const ic_pair *", "base": "ic_pair", "const": True, "pointers": 1}
        )
        self.assertEqual(desc["fields"][7]["type"], {"c": "char", "base": "char", "array": 16})
        pair = item(self.api, "structs", "ic_pair")
        self.assertEqual((pair["kind"], pair["frozen"], pair["size"], pair["init"]), ("input", True, 8, None))
        self.assertEqual([f["doc"] for f in pair["fields"]], ["First number", ""])

    def test_function(self):
        run_ = item(self.api, "functions", "ic_thing_run")
        self.assertEqual([p["direction"] for p in run_["params"]], ["inout", "scratch", "in", "out", "in"])
        self.assertEqual(run_["doc"], "Runs a thing on `stream`.\n\n    a formula, indented\n\nand a last line.")
        text = item(self.api, "functions", "ic_thing_text")
        self.assertEqual([p["direction"] for p in text["params"]], ["in", "out", "inout"])
        create = item(self.api, "functions", "ic_thing_create")
        self.assertEqual([p["direction"] for p in create["params"]], ["in", "out"])
        self.assertEqual(create["since"], "0.1")
        self.assertEqual(create["statuses"], ["IC_ERROR_WRONG", "IC_ERROR_STALE", "IC_ERROR_STALE_OLDER"])

    def test_lifecycles_handles_and_callbacks(self):
        wanted = {"handle": "ic_thing", "create": "ic_thing_create", "destroy": "ic_thing_destroy"}
        self.assertEqual(self.api["lifecycles"], [wanted])
        self.assertEqual([h["name"] for h in self.api["handles"]], ["ic_thing"])
        say = item(self.api, "callbacks", "ic_say_fn")
        self.assertEqual((say["returns"]["c"], [p["name"] for p in say["params"]]), ("void", ["user", "text"]))

    def test_a_moved_declaration_changes_no_line_number(self):
        self.assertEqual(small_api(mutate(HEADER, "/** A thing. */", "\n\n\n/** A thing. */")), self.api)


class VersionScript(unittest.TestCase):
    def test_one_node_per_since_each_after_the_one_before(self):
        text = mutate(HEADER, "#define IC_VERSION_PATCH 0", "#define IC_VERSION_PATCH 10")
        text = mutate(text, "/** Drops a thing. @since 0.1 */", "/** Drops a thing. @since 0.1.10 */")
        text = mutate(text, "then its length. @since 0.1 */", "then its length. @since 0.1.9 */")
        header, problems = read(text)
        self.assertEqual(problems, [])
        files = emit_map.emit(header)
        nodes = re.sub(r"\s+", " ", files["lib/indexcache.map"].partition("\n\n")[2]).strip()
        self.assertEqual(
            nodes,
            "INDEXCACHE_0.1 { global: ic_count; ic_thing_create; ic_thing_run; local: *; }; "
            "INDEXCACHE_0.1.9 { global: ic_thing_text; } INDEXCACHE_0.1; "
            "INDEXCACHE_0.1.10 { global: ic_thing_destroy; } INDEXCACHE_0.1.9;",
        )
        names = ["ic_count", "ic_thing_create", "ic_thing_destroy", "ic_thing_run", "ic_thing_text"]
        self.assertEqual(files["tests/abi/symbols.txt"].split(), names)


class EveryDeclaration(unittest.TestCase):
    """Nothing of the real header is lost on the way: counted by expressions of this test, not by the parser."""

    def test_counts(self):
        text = (ROOT / "include/indexcache.h").read_text()
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        api = json.loads((ROOT / "bindings/api.json").read_text())
        functions = re.findall(r"^IC_API [\w *]*?\b(ic_\w+)\(", code, re.MULTILINE)
        self.assertEqual([f["name"] for f in api["functions"]], functions)
        structs = re.findall(r"^} (ic_\w+);", code, re.MULTILINE)
        self.assertEqual([s["name"] for s in api["structs"]], structs)
        constants = re.findall(r"^#define (IC_\w+) +[-(0-9]", code, re.MULTILINE)
        self.assertEqual([c["name"] for c in api["constants"]], [c for c in constants if "IC_VERSION_" not in c])
        self.assertEqual(
            [h["name"] for h in api["handles"]], re.findall(r"^typedef struct (ic_\w+) \1;", code, re.MULTILINE)
        )
        fields = sum(len(s["fields"]) for s in api["structs"])
        bodies = re.findall(r"^typedef struct ic_\w+ \{(.*?)^\}", code, re.MULTILINE | re.DOTALL)
        self.assertEqual(fields, sum(body.count(";") for body in bodies))


if __name__ == "__main__":
    unittest.main()
