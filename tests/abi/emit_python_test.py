# SPDX-License-Identifier: Apache-2.0
"""What the generator writes for Python, from a small header: it is executed here, and asked."""

import ctypes
import json
import sys
import types
import unittest

from small_header import HEADER, emit_json, mutate, read

import emit_python  # isort: skip


def emitted(text: str = HEADER) -> dict[str, str]:
    header, problems = read(text)
    if problems:
        raise AssertionError(problems)
    return {path.rpartition("/")[2]: source for path, source in emit_python.emit(header).items()}


def module(name: str, text: str = HEADER) -> types.ModuleType:
    result = types.ModuleType(name)
    sys.modules[name] = result  # where NamedTuple looks
    exec(compile(emitted(text)[name + ".py"], name, "exec"), vars(result))
    return result


class Ffi(unittest.TestCase):
    def setUp(self):
        self.ffi = module("_ffi")

    def test_layouts_are_those_of_the_manifest(self):
        self.ffi.check_layout()
        header, _ = read(HEADER)
        structs = json.loads(emit_json.emit(header)["bindings/api.json"])["structs"]
        found = {struct.__name__: layout for struct, layout in self.ffi.LAYOUT.items()}
        self.assertEqual(found, {s["name"]: (s["size"], {f["name"]: (f["offset"], f["size"]) for f in s["fields"]})
                                 for s in structs})  # fmt: skip

    def test_constants_and_macros(self):
        self.assertEqual((self.ffi.IC_KIND_BLUE, self.ffi.IC_NO_THING, self.ffi.IC_FLAG_TWO), (2, -1, 2))
        self.assertEqual([self.ffi.IC_STATUS_IS_STALE(s) for s in (19, 20, 29, 30)], [0, 1, 1, 0])

    def test_structs_start_as_zeros_with_their_size(self):
        desc = self.ffi.ic_thing_desc(kind=2)
        self.assertEqual((desc.struct_size, desc.kind, desc.name, desc.reserved), (72, 2, b"", 0))
        self.assertFalse(hasattr(self.ffi.ic_pair, "struct_size"))
        self.assertIn("An array", self.ffi.ic_pair.__doc__.replace("an array", "An array"))

    def test_what_does_not_fit_is_refused(self):
        with self.assertRaises(OverflowError):
            self.ffi.ic_thing_desc(kind=2**32)
        with self.assertRaises(AttributeError):
            self.ffi.ic_thing_desc(colour=1)

    def test_prototypes(self):
        returns, parameters = self.ffi.PROTOTYPES["ic_thing_run"]
        self.assertIs(returns, ctypes.c_int32)
        self.assertEqual(parameters[:2], [ctypes.c_void_p, ctypes.c_void_p])
        self.assertEqual(parameters[2].__name__, "c_ulong")
        self.assertIs(parameters[3], ctypes.POINTER(ctypes.c_int64))
        self.assertEqual(self.ffi.PROTOTYPES["ic_thing_destroy"], (None, [ctypes.c_void_p]))
        self.assertEqual(self.ffi.LIFECYCLES, {"ic_thing": ("ic_thing_create", "ic_thing_destroy")})

    def test_callbacks_are_called(self):
        heard = []
        desc = self.ffi.ic_thing_desc(say=self.ffi.ic_say_fn(lambda user, text: heard.append((user, text))))
        desc.say(None, b"hello")
        self.assertEqual(heard, [(None, b"hello")])

    def test_comments_are_carried_over(self):
        text = emitted()["_ffi.py"]
        self.assertIn("        a formula, indented\n", text)
        self.assertIn("Errors: IC_ERROR_WRONG, IC_ERROR_STALE*", text)
        quoted = mutate(HEADER, "/** Name */", '/** A \\ and """ and "quotes" */')
        self.assertIn('A \\\\ and \\"\\"\\" and "quotes" """', emitted(quoted)["_ffi.py"])
        module("_ffi", quoted)


class Types(unittest.TestCase):
    def test_families_become_enumerations(self):
        found = module("_types")
        self.assertEqual([(k.name, k.value) for k in found.Kind], [("RED", 1), ("BLUE", 2)])
        self.assertEqual(found.FlagFlags.ONE | found.FlagFlags.TWO, 3)
        self.assertEqual([s.name for s in found.Status], ["OK", "WRONG", "STALE", "STALE_OLDER"])

    def test_what_the_library_fills_becomes_a_tuple(self):
        text = mutate(HEADER, "/** Number of things.", """/** About a thing. */
typedef struct ic_thing_info {
  /** sizeof(ic_thing_info) */
  size_t struct_size;
  /** IC_KIND_RED or IC_KIND_BLUE */
  int32_t kind;
  int32_t reserved;
  /** Name */
  char name[16];
} ic_thing_info;

/** Initialiser. */
#define IC_THING_INFO_INIT {sizeof(ic_thing_info), 0, 0, {0}}

/** Fills info. @since 0.1 */
IC_API ic_status ic_thing_get_info(const ic_thing *thing, ic_thing_info *info);

/** Number of things.""")  # fmt: skip
        found, ffi = module("_types", text), module("_ffi", text)
        info = found.ThingInfo.from_struct(ffi.ic_thing_info(kind=2, name="é".encode()))
        self.assertEqual(info, (found.Kind.BLUE, "é"))
        self.assertEqual(info._fields, ("kind", "name"))


if __name__ == "__main__":
    unittest.main()
