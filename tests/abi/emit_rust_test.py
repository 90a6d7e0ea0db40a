# SPDX-License-Identifier: Apache-2.0
"""What is written for Rust. That it compiles, and means the same as in C, is for bindings/rust/test.sh to show."""

import re
import unittest

from small_header import HEADER, ROOT, emit_rust_safe, emit_rust_sys, mutate, read

REAL = (ROOT / "include" / "indexcache.h").read_text(encoding="utf-8")
FFI = "bindings/rust/indexcache-sys/src/ffi.rs"
SAFE = "bindings/rust/indexcache/src/generated.rs"


def emitted(text: str, path: str) -> str:
    header, problems = read(text)
    if problems:
        raise AssertionError(problems)
    return (emit_rust_sys.emit(header) | emit_rust_safe.emit(header))[path]


class Ffi(unittest.TestCase):
    def test_every_size_alignment_and_offset_is_asserted(self):
        header, _ = read(REAL)
        asserted = set(re.findall(r"assert!\((\w+(?:!|::<\w+>)\(.*?\)) == (\d+)\);", emitted(REAL, FFI)))
        for struct in header.structs:
            self.assertIn((f"size_of::<{struct.name}>()", str(struct.size)), asserted)
            self.assertTrue(any(what == f"align_of::<{struct.name}>()" for what, _ in asserted))
            for field in struct.fields:
                self.assertIn((f"offset_of!({struct.name}, {field.name})", str(field.offset)), asserted)

    def test_every_function_once(self):
        names = re.findall(r"    pub fn (ic_\w+)\(", emitted(REAL, FFI))
        header, _ = read(REAL)
        self.assertEqual(names, [function.name for function in header.functions])

    def test_declarations(self):
        text = emitted(HEADER, FFI)
        for line in (
            "pub const IC_ERROR_WRONG: ic_status = 1;",
            "pub const IC_NO_THING: i32 = -1;",
            "pub const IC_FLAG_TWO: u32 = 0x2;",
            "pub type ic_stream = *mut CUstream_st;",
            'pub type ic_say_fn = Option<unsafe extern "C" fn(user: *mut c_void, text: *const c_char)>;',
            "    pub pairs: *const ic_pair,",
            "    pub name: [c_char; 16],",
            "    pub fn ic_thing_create(desc: *const ic_thing_desc, out: *mut *mut ic_thing) -> ic_status;",
            "    pub fn ic_thing_destroy(thing: *mut ic_thing);",
        ):
            self.assertIn(line + "\n", text)

    def test_formulas_and_brackets(self):
        text = emitted(HEADER, FFI)
        self.assertIn("    /// ```text\n    /// a formula, indented\n    /// ```\n", text)
        self.assertIn(r"/// \[num_pairs\]", text)
        self.assertIn("/// Errors: [`IC_ERROR_WRONG`], `IC_ERROR_STALE*`\n", text)


class Safe(unittest.TestCase):
    def test_setters(self):
        text = emitted(HEADER, SAFE)
        for line in (
            "    pub fn pairs(mut self, pairs: &'a [Pair]) -> Self {",
            "        self.raw.num_pairs = entries(pairs.len());",
            "    pub fn kind(mut self, kind: Kind) -> Self {",
            "    pub fn weight(mut self, weight: f64) -> Self {",
        ):
            self.assertIn(line + "\n", text)
        for absent in ("fn struct_size(", "fn reserved(", "fn num_pairs(", "fn say("):
            self.assertNotIn(absent, text)

    def test_what_must_outlive_a_call_is_static(self):
        self.assertIn("memory: impl Into<Buffer<'static>>", emitted(REAL, SAFE))
        self.assertIn("epoch: impl Into<DevicePtr<'static, u32>>", emitted(REAL, SAFE))

    def test_a_text_with_its_length_is_bytes(self):
        text = emitted(REAL, SAFE)
        self.assertIn("    pub fn journal(mut self, journal: &'a [u8]) -> Self {\n", text)
        self.assertIn("        self.raw.journal_size = journal.len();\n", text)
        self.assertNotIn("fn journal_size(", text)

    def test_a_new_constant_joins_its_family(self):
        text = emitted(
            mutate(HEADER, "#define IC_KIND_BLUE 2", "#define IC_KIND_BLUE 2\n#define IC_KIND_RED_HOT 3"), SAFE
        )
        self.assertIn("        RED_HOT = IC_KIND_RED_HOT,\n", text)


if __name__ == "__main__":
    unittest.main()
