# SPDX-License-Identifier: Apache-2.0
"""What fields and parameters are for, as emitters of other languages are told, and doc comments cut into blocks."""

import unittest

from small_header import HEADER, ROOT, blocks, mutate, read, roles

camel, families, is_text_function = roles.camel, roles.families, roles.is_text_function
method_name, receiver = roles.method_name, roles.receiver

REAL = (ROOT / "include" / "indexcache.h").read_text(encoding="utf-8")


def fields(text: str, struct: str) -> dict[str, tuple]:
    header, problems = read(text)
    if problems:
        raise AssertionError(problems)
    declared = next(s for s in header.structs if s.name == struct)
    found = zip(declared.fields, roles.field_roles(header, declared))
    return {field.name: (role.kind, role.group or role.of) for field, role in found}


def params(text: str, function: str) -> dict[str, tuple]:
    header, _ = read(text)
    declared = next(f for f in header.functions if f.name == function)
    found = zip(declared.params, roles.param_roles(header, declared))
    return {param.name: (role.kind, role.group or role.of) for param, role in found}


class Fields(unittest.TestCase):
    def test_small_header(self):
        expected = {
            "struct_size": ("size", None),
            "say": ("callback", None),
            "say_user": ("user", "say"),
            "pairs": ("array", "num_pairs"),
            "num_pairs": ("count", "pairs"),
            "kind": ("enum", "IC_KIND"),
            "weight": ("value", None),
            "name": ("chars", None),
            "flags": ("value", None),  # its comment names no family
            "reserved": ("reserved", None),
        }
        self.assertEqual(fields(HEADER, "ic_thing_desc"), expected)

    def test_flags_of_a_family(self):
        text = mutate(HEADER, "  uint32_t flags;", "  /** IC_FLAG_* */\n  uint32_t flags;")
        self.assertEqual(fields(text, "ic_thing_desc")["flags"], ("flags", "IC_FLAG"))
        text = mutate(HEADER, "  uint32_t flags;", "  /** must be 0 */\n  uint32_t flags;")
        self.assertEqual(fields(text, "ic_thing_desc")["flags"], ("reserved", None))

    def test_a_number_that_a_comment_compares_with_a_flag_is_no_flag(self):
        text = mutate(
            HEADER, "  double weight;", "  double weight;\n  /** Sets IC_FLAG_ONE */\n  int32_t a;\n  int32_t b;"
        )
        text = mutate(text, "NULL, NULL, NULL, 0, 0, 0, {0}, 0, 0", "NULL, NULL, NULL, 0, 0, 0, 0, 0, {0}, 0, 0")
        self.assertEqual(fields(text, "ic_thing_desc")["a"], ("value", None))

    def test_real_header(self):
        context, args = fields(REAL, "ic_context_desc"), fields(REAL, "ic_forward_args")
        self.assertEqual(context["alloc_user"], ("user", "alloc"))
        self.assertEqual(context["parallel_user"], ("user", "parallel_for"))
        self.assertEqual(context["log_level"], ("enum", "IC_LOG"))
        self.assertEqual(args["mode"], ("enum", "IC_LAYER"))
        self.assertEqual(args["row_count"], ("value", None))
        self.assertEqual(args["workspace"], ("buffer", "workspace_size"))
        self.assertEqual(args["workspace_size"], ("bytes", "workspace"))
        self.assertEqual(args["queries"], ("struct", None))
        self.assertEqual(args["hint"], ("device", None))
        self.assertEqual(fields(REAL, "ic_schedule_desc")["indexer_layers"], ("array", "num_indexer_layers"))
        self.assertEqual(fields(REAL, "ic_schedule_desc")["pattern"], ("text", None))
        self.assertEqual(fields(REAL, "ic_compact_args")["rows"], ("device", None))
        self.assertEqual(fields(REAL, "ic_cache_desc")["topk"], ("handle", None))
        self.assertEqual(fields(REAL, "ic_batch")["max_key_end"], ("value", None))
        search = fields(REAL, "ic_search_desc")
        self.assertEqual(search["strategy"], ("enum", "IC_STRATEGY"))
        self.assertEqual(search["similarity"], ("array", "num_similarity"))
        self.assertEqual(search["num_samples"], ("value", None))

    def test_a_text_with_its_length(self):
        text = mutate(
            HEADER, "  double weight;", "  double weight;\n  /** Text */\n  const char *log;\n  size_t log_size;"
        )
        text = mutate(text, "NULL, NULL, NULL, 0, 0, 0, {0}, 0, 0", "NULL, NULL, NULL, 0, 0, 0, NULL, 0, {0}, 0, 0")
        self.assertEqual(fields(text, "ic_thing_desc")["log"], ("sized_text", "log_size"))
        self.assertEqual(fields(text, "ic_thing_desc")["log_size"], ("bytes", "log"))
        without = mutate(text, "size_t log_size;", "size_t size_of_log;")
        self.assertEqual(fields(without, "ic_thing_desc")["log"], ("text", None))


class Parameters(unittest.TestCase):
    def test_small_header(self):
        self.assertEqual(
            params(HEADER, "ic_thing_run"),
            {
                "thing": ("handle", None),
                "workspace": ("buffer", "workspace_size"),
                "workspace_size": ("bytes", "workspace"),
                "count": ("value", None),
                "stream": ("stream", None),
            },
        )

    def test_real_header(self):
        self.assertEqual(params(REAL, "ic_schedule_export")["engine"], ("enum", "IC_ENGINE"))
        self.assertEqual(params(REAL, "ic_schedule_get_layer")["layer"], ("value", None))
        self.assertEqual(params(REAL, "ic_cache_export")["flags"], ("flags", "IC_EXPORT"))
        self.assertEqual(params(REAL, "ic_cache_export")["location"], ("enum", "IC_MEMORY"))
        self.assertEqual(params(REAL, "ic_cache_import")["flags"], ("flags", "IC_IMPORT"))
        self.assertEqual(params(REAL, "ic_cache_faults")["faults"], ("flags", "IC_FAULT"))

    def test_every_flag_of_a_function_has_a_family(self):
        header, _ = read(REAL)
        for function in header.functions:
            for param, role in zip(function.params, roles.param_roles(header, function)):
                if param.type.base == "uint32_t":
                    self.assertEqual(role.kind, "flags", f"{function.name}.{param.name}")


class Names(unittest.TestCase):
    def test_methods(self):
        header, _ = read(REAL)
        functions = {f.name: f for f in header.functions}

        def method(name):
            return receiver(header, functions[name]), method_name(header, functions[name])

        self.assertEqual(method("ic_indexer_create"), ("ic_indexer", "create"))
        self.assertEqual(method("ic_forward"), ("ic_cache", "forward"))
        self.assertEqual(method("ic_device_count"), (None, "device_count"))
        self.assertTrue(is_text_function(functions["ic_schedule_explain"]))
        self.assertFalse(is_text_function(functions["ic_last_error"]))

    def test_camel_and_families(self):
        self.assertEqual(camel("ic_context_desc"), "ContextDesc")
        self.assertEqual(camel("IC_CPU_ISA"), "CpuIsa")
        header, _ = read(HEADER)
        self.assertEqual(list(families(header)), ["IC_KIND", "IC_FLAG"])


class Blocks(unittest.TestCase):
    def test_paragraphs_and_formulas(self):
        header, _ = read(HEADER)
        text = next(f for f in header.functions if f.name == "ic_thing_run").doc.text
        self.assertEqual(
            blocks(text),
            [("text", "Runs a thing on `stream`."), ("code", "a formula, indented"), ("text", "and a last line.")],
        )


if __name__ == "__main__":
    unittest.main()
