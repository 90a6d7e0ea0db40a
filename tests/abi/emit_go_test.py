# SPDX-License-Identifier: Apache-2.0
"""What is written for Go. That it compiles, is as gofmt leaves it, and means the same as in C, is for
bindings/go/test.sh to show."""

import re
import unittest

from small_header import HEADER, ROOT, mutate, read, roles

import emit_go  # isort: skip
import go_text  # isort: skip

REAL = (ROOT / "include" / "indexcache.h").read_text(encoding="utf-8")


def emitted(name: str, text: str = HEADER) -> str:
    header, problems = read(text)
    if problems:
        raise AssertionError(problems)
    return next(source for path, source in emit_go.emit(header).items() if path.endswith("/" + name))


class Shim(unittest.TestCase):
    def test_every_function_that_can_fail_once(self):
        header, _ = read(REAL)
        failing = [f.name for f in header.functions if f.returns.base == "ic_status"]
        self.assertGreater(len(failing), 30)
        self.assertEqual(["ic_" + name for name in re.findall(r" ic_go_(\w+)\(", emitted("shim.h", REAL))], failing)
        self.assertEqual(re.findall(r"return result\((\w+)\(", emitted("shim.c", REAL)), failing)

    def test_a_call_brings_its_message(self):
        text = emitted("shim.c", REAL)
        self.assertIn("ic_last_error(result.message, size);", text)
        self.assertIn(
            "\nic_go_result ic_go_cache_begin(ic_cache *cache, const ic_batch *batch) {\n"
            "  return result(ic_cache_begin(cache, batch));\n}\n",
            text,
        )

    def test_streams_are_numbers(self):
        self.assertIn("int64_t *count, uintptr_t stream);", emitted("shim.h"))
        self.assertIn("(thing, workspace, workspace_size, count, (ic_stream)stream));", emitted("shim.c"))

    def test_a_header_of_another_series_does_not_compile(self):
        self.assertIn("#if IC_VERSION_MAJOR != 0 || IC_VERSION_MINOR != 1\n#error", emitted("shim.h"))
        other = emitted("shim.h", mutate(HEADER, "#define IC_VERSION_MINOR 1", "#define IC_VERSION_MINOR 2"))
        self.assertIn("IC_VERSION_MINOR != 2\n#error", other)


class Generated(unittest.TestCase):
    def test_constants(self):
        text = emitted("generated.go")
        for line in (
            "\tErrWrong Status = 1",
            "\tErrStaleOlder Status = 21",
            "\tNoThing = -1",
            "\tFlagTwo FlagFlags = 0x2",
            "type Kind int32",
            "type FlagFlags uint32",
        ):
            self.assertIn(line + "\n", text)

    def test_every_constant_of_the_real_header_has_its_value(self):
        header, _ = read(REAL)
        text = emitted("generated.go", REAL)
        for constant in header.constants:
            value = hex(constant.value) if constant.unsigned else str(constant.value)
            name = go_text.constant_name(header, constant)
            self.assertRegex(text, rf"\n\t{name}( \w+)? = {value}\n")

    def test_a_text_with_its_length_is_bytes(self):
        text = emitted("generated.go", REAL)
        self.assertIn("\tJournal []byte\n", text)
        self.assertIn("\tc.journal_size = C.size_t(len(v.Journal))\n", text)

    def test_inputs(self):
        text = emitted("generated.go")
        desc = text[text.index("type ThingDesc struct") :]
        desc = desc[: desc.index("\n}\n")]
        fields = re.findall(r"^\t(\w+ \S+)$", desc, re.M)
        self.assertEqual(
            fields,
            ["Say unsafe.Pointer", "SayUser unsafe.Pointer", "Pairs []Pair", "Kind Kind", "Weight float64",
             "Name [16]byte", "Flags uint32"],
        )  # fmt: skip
        for line in (
            "\tc.struct_size = C.size_t(unsafe.Sizeof(*c))",
            "\tc.num_pairs = C.int32_t(len(v.Pairs))",
            "\tc.weight = C.double(v.Weight)",
        ):
            self.assertIn(line + "\n", text)
        self.assertNotIn("struct_size", text[text.index("type Pair struct") : text.index("type ThingDesc struct")])

    def test_memory(self):
        text = emitted("generated.go", REAL)
        for line in (
            "\tQ DeviceMemory",
            "\tW DevicePtr[float32]",
            "\tKeyOffsets DevicePtr[int64]",
            "\tWorkspace Buffer",
            "\tConfigJSON string",
            "\tAttention *AttentionArgs",
            "\tIsMTP bool",
            "\tNumericsID uint64",
        ):
            self.assertIn(line + "\n", text)

    def test_every_pointer_field_is_stored_through_the_arena(self):
        """A plain assignment of a Go pointer would not be pinned."""
        header, _ = read(REAL)
        body = emitted("generated.go", REAL)
        pointers = {f.name for s in header.structs for f in s.fields if f.type.pointers}
        for name, value in re.findall(r"\tc\.(\w+) = (.*)", body):
            if name in pointers:
                self.assertRegex(value, r"\.raw\(\)$|\.build\(a\)$|a\.text\(")

    def test_every_field_goes_where_it_belongs(self):
        header, _ = read(REAL)
        text = emitted("generated.go", REAL)
        checked = 0
        for struct in header.structs:
            name, kind = go_text.go_name(struct.name), header.struct_kind(struct)
            roles_of = roles.field_roles(header, struct)
            for method in {"output": ["read"], "inout": ["read", "fill"]}.get(kind, ["fill"]):
                body = text[text.index(f"\nfunc (v *{name}) {method}(") :]
                body = body[: body.index("\n}\n")]
                for field, role in zip(struct.fields, roles_of):
                    line = next((line for line in body.split("\n") if re.search(rf"\bc\.{field.name}\b", line)), None)
                    if role.kind == "reserved" or (role.kind == "size" and method == "read"):
                        self.assertIsNone(line)
                        continue
                    self.assertIsNotNone(line, f"{struct.name}.{field.name}")
                    partner = role.of if role.kind in ("count", "bytes") else field.name
                    if role.kind != "size" and not (role.kind == "array" and "items" in line):
                        self.assertRegex(line, rf"\bv\.{go_text.go_name(partner)}\b")
                        checked += 1
        self.assertGreater(checked, 200)

    def test_a_new_constant_joins_its_family(self):
        wider = mutate(HEADER, "#define IC_KIND_BLUE 2", "#define IC_KIND_BLUE 2\n#define IC_KIND_RED_HOT 3")
        self.assertIn("\tKindRedHot Kind = 3\n", emitted("generated.go", wider))

    def test_prose(self):
        text = emitted("generated.go", REAL)
        self.assertIn("[Cache.Forward]", text)
        self.assertNotRegex(text, r"//.*\bic_forward\(\)")
        self.assertIn("\t// First row of the batch and number of rows; [AllRows] = to the end of the batch\n", text)
        self.assertIn("\t// [NumRows, ScoreStride] device memory\n", text)
        self.assertNotIn("NULL", re.sub(r"// raw is.*", "", text))


class Layout(unittest.TestCase):
    def test_every_fact(self):
        header, _ = read(REAL)
        text = emitted("main.go", REAL)
        for struct in header.structs:
            self.assertIn(f'structure("{struct.name}", ', text)
            for field in struct.fields:
                self.assertIn(f'field("{struct.name}", "{field.name}", unsafe.Offsetof(c.{field.name}), ', text)
        self.assertEqual(re.findall(r'constant\("(\w+)"', text), [c.name for c in header.constants])


class Names(unittest.TestCase):
    def test_initialisms(self):
        for name, expected in {
            "ic_context_desc": "ContextDesc",
            "num_mtp_layers": "NumMTPLayers",
            "kv_dtype": "KVDtype",
            "max_ctas": "MaxCTAs",
            "numerics_id": "NumericsID",
            "IC_DTYPE_E4M3": "DtypeE4M3",
            "IC_CPU_ISA": "CPUISA",
        }.items():
            self.assertEqual(go_text.go_name(name), expected)


if __name__ == "__main__":
    unittest.main()
