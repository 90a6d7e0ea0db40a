# SPDX-License-Identifier: Apache-2.0
"""The generator refuses everything that its dialect does not allow, with the right line and message."""

import unittest

from small_header import HEADER, line_of, mutate, read

PAIR = "  /** First number */\n  int32_t first;\n  int32_t second;\n"
INIT = "{ sizeof(ic_thing_desc), NULL, NULL, NULL, 0, 0, 0, {0}, 0, 0 }"

# What it is, what is replaced, by what, what the refusal must say; and the text that it must point at when that is not
# where the replacement begins.
BAD = [
    # words
    ("line comment", "/** A thing. */", "// A thing.", "// comment"),
    (
        "open comment",
        "#endif /* INDEXCACHE_H */",
        "#endif\n/* INDEXCACHE_H",
        "comment that never ends",
        "/* INDEXCACHE_H",
    ),
    ("not ASCII", "/** A thing. */", "/** A\n * th\u00efng. */", "is not ASCII", "th\u00efng"),
    ("indented directive", "#define IC_KIND_RED 1", " #define IC_KIND_RED 1", "first column"),
    # frame
    ("other guard", "#ifndef INDEXCACHE_H", "#ifndef OTHER_H", "must begin with '#ifndef INDEXCACHE_H'"),
    (
        "more includes",
        "#include <stdint.h>",
        "#include <stdint.h>\n#include <stdbool.h>",
        "found '#include <stdbool.h>'",
        "#include <stdbool.h>",
    ),
    ("other IC_API", 'visibility("default")', 'visibility("hidden")', "must begin with"),
    (
        "text after the end",
        "#endif /* INDEXCACHE_H */\n",
        "#endif /* INDEXCACHE_H */\nint x;\n",
        "nothing may follow",
        "int x",
    ),
    ("end missing", "#endif /* INDEXCACHE_H */\n", "", "must end with '#endif' here, found the end of the file"),
    ("conditional API", "/** A thing. */", "#ifdef IC_EXTRA\n/** A thing. */", "directive that is not understood"),
    ("undef", "/** A thing. */", "#undef NULL\n/** A thing. */", "directive that is not understood"),
    ("loose text", "/** A thing. */", "int x;\n/** A thing. */", "'int' is neither #define, typedef nor an IC_API"),
    # comments
    ("two comments", "/** A thing. */", "/** A thing. */\n/** Once more. */", "without a declaration"),
    ("comment at the end", "#ifdef __cplusplus\n}", "/** Lost. */\n#ifdef __cplusplus\n}", "without a declaration"),
    (
        "comment without a field",
        "  int32_t reserved;\n}",
        "  int32_t reserved;\n  /** Lost */\n}",
        "doc comment without a field",
        "} ic_thing_desc",
    ),
    ("plain comment in a struct", "  /** First number */", "  /* First number */", "no other comment"),
    ("no comment: handle", "/** A thing. */\n", "", "ic_thing has no doc comment"),
    ("no comment: function", "/** Drops a thing. @since 0.1 */\n", "", "has no doc comment"),
    ("no comment: struct", "/** What a thing is made of. */\n", "", "has no doc comment"),
    ("no comment: callback", "/** Says something. */\n", "", "ic_say_fn has no doc comment"),
    ("no comment: INIT", "/** Initialiser. */\n", "", "has no doc comment"),
    ("no comment: alias", "/** A stream. */\n", "", "ic_stream has no doc comment"),
    ("no comment: macro", "/** True for IC_ERROR_STALE*. */\n", "", "has no doc comment"),
    ("no comment: constant", "/** Kinds of things. */\n", "", "IC_KIND_RED has no doc comment"),
    (
        "comment shared over a gap",
        "#define IC_KIND_BLUE 2",
        "\n#define IC_KIND_BLUE 2",
        "IC_KIND_BLUE has no doc comment",
    ),
    ("comment shared with a flag", "/** First bit. */\n", "", "IC_FLAG_ONE has no doc comment"),
    ("empty comment", "/** A thing. */", "/** */", "empty doc comment"),
    ("only a tag", "/** Drops a thing. @since 0.1 */", "/** @since 0.1 */", "empty doc comment"),
    (
        "unknown tag",
        "/** Drops a thing. @since",
        "/** Drops a thing.\n *  @thread any @since",
        "unknown tag @thread",
        "@thread",
    ),
    ("tag twice", "/** Drops a thing. @since 0.1", "/** Drops a thing. @since 0.1 @since 0.2", "second @since"),
    ("tag on a field", "/** First number */", "/** First @frozen */", "in the comment of a field"),
    ("text behind @since", "/** Drops a thing. @since 0.1", "/** Drops @since 0.1 a thing", "nothing else"),
    ("text behind @frozen", "array of them is read. @frozen", "@frozen by array", "@frozen takes no text"),
    ("@errors alone", "@errors IC_ERROR_WRONG, IC_ERROR_STALE* @since", "@errors @since", "@errors without"),
    ("unknown status", "@errors IC_ERROR_WRONG,", "@errors IC_ERROR_WRONGER,", "IC_ERROR_WRONGER, which is no status"),
    ("status family", "IC_ERROR_STALE* @since", "IC_ERROR_LOST* @since", "IC_ERROR_LOST*, which is no status"),
    (
        "unknown name in prose",
        "/** Kinds of things. */",
        "/** Kinds,\n see ic_thing_kind(). */",
        "a comment names ic_thing_kind, which does not exist",
        "see ic_thing_kind",
    ),
    ("unknown family in prose", "/** IC_KIND_* */", "/** IC_KINDS_* */", "names IC_KINDS_*, which"),
    (
        "no section",
        "/* ====================\n * Everything\n * ==================== */\n",
        "",
        "stands before the first section",
        "#define IC_VERSION_MAJOR",
    ),
    ("odd section", " * Everything\n", " * Everything\n * and more\n", "a section title is one line", "/* ===="),
    (
        "section twice",
        "/** A thing. */",
        "/* ====================\n * Everything\n * ==================== */\n\n/** A thing. */",
        "second section",
    ),
    # macros
    ("constant without prefix", "#define IC_KIND_RED 1", "#define KIND_RED 1", "KIND_RED must start with IC_"),
    ("constant in small letters", "#define IC_KIND_RED 1", "#define IC_kind_red 1", "must start with IC_"),
    ("empty macro", "#define IC_KIND_RED 1", "#define IC_KIND_RED", "a macro without a value"),
    ("function-like macro", "#define IC_KIND_RED 1", "#define IC_KIND_RED(x) (x)", "function-like macro"),
    ("other macro", "#define IC_KIND_RED 1", "#define IC_KIND_RED ic_say_fn", "is ic_say_fn; allowed"),
    ("bare negative", "(-1)", "-1", "is -1; allowed"),
    ("hexadecimal without u", "0x2u", "0x2", "is 0x2; allowed"),
    ("octal", "#define IC_KIND_RED 1", "#define IC_KIND_RED 01", "is 01; allowed"),
    ("long constant", "#define IC_KIND_RED 1", "#define IC_KIND_RED 2147483648", "does not fit into 32"),
    ("long flag", "0x2u", "0x100000000u", "does not fit into 32 bits"),
    ("two bits", "0x2u", "0x6u", "not exactly one bit"),
    ("no bit", "0x1u", "0x0u", "not exactly one bit"),
    ("bit twice", "0x2u", "0x1u", "IC_FLAG_TWO has the value of IC_FLAG_ONE"),
    ("constant twice", "#define IC_KIND_BLUE 2", "#define IC_KIND_RED 2", "IC_KIND_RED is declared twice"),
    ("value twice", "#define IC_KIND_BLUE 2", "#define IC_KIND_BLUE 1", "has the value of IC_KIND_RED"),
    ("status value twice", "#define IC_ERROR_WRONG 1", "#define IC_ERROR_WRONG 0", "the value of IC_OK"),
    (
        "mixed family",
        "/** First bit. */\n#define IC_FLAG_ONE 0x1u",
        "/** First. */\n#define IC_FLAG_ONE 1",
        "are a flag and a plain number of one family",
        "#define IC_FLAG_TWO",
    ),
    (
        "family in two sections",
        "/** Second bit. */",
        "/* ====================\n * More\n * ==================== */\n/** Second bit. */",
        "one family in two sections",
        "#define IC_FLAG_TWO",
    ),
    ("IC_OK is not 0", "#define IC_OK 0", "#define IC_OK 2", "IC_OK must be 0"),
    ("no version", "#define IC_VERSION_PATCH 0\n", "", "IC_VERSION_PATCH is not defined", "/* SPDX"),
    (
        "stale outside",
        "#define IC_ERROR_STALE_OLDER 21",
        "#define IC_ERROR_STALE_OLDER 30",
        "20 to 29 are for IC_ERROR_STALE*",
    ),
    ("other inside stale", "#define IC_ERROR_WRONG 1", "#define IC_ERROR_WRONG 22", "20 to 29 are for"),
    # initialisers
    (
        "INIT missing",
        "/** Initialiser. */\n#define IC_THING_DESC_INIT \\\n  " + INIT,
        "",
        "ic_thing_desc has no IC_THING_DESC_INIT",
        "typedef struct ic_thing_desc {",
    ),
    ("INIT too short", INIT, INIT.replace(", 0 }", " }"), "has 9 values for 10 fields", "#define IC_THING_DESC_INIT"),
    (
        "INIT too long",
        INIT,
        INIT.replace(", 0 }", ", 0, 0 }"),
        "has 11 values for 10 fields",
        "#define IC_THING_DESC_INIT",
    ),
    (
        "INIT not zero",
        INIT,
        INIT.replace("0, 0, 0, {0}", "0, 1, 0, {0}"),
        "gives kind 1; it must be 0",
        "#define IC_THING_DESC_INIT",
    ),
    (
        "INIT 0 for a pointer",
        INIT,
        INIT.replace("NULL, 0", "0, 0"),
        "gives pairs 0; it must be NULL",
        "#define IC_THING_DESC_INIT",
    ),
    (
        "INIT of another size",
        INIT,
        INIT.replace("thing_desc", "pair"),
        "gives struct_size sizeof(ic_pair); it must be sizeof(ic_thing_desc)",
        "#define IC_THING_DESC_INIT",
    ),
    ("INIT without braces", INIT, "0", "must be { value, value ... }", "#define IC_THING_DESC_INIT"),
    (
        "INIT of nothing",
        "#define IC_KIND_RED 1\n#define IC_KIND_BLUE 2",
        "#define IC_RED_INIT { 0 }",
        "initialises no struct",
    ),
    # types
    ("number for a name", "typedef int32_t ic_status;", "typedef int32_t 7;", "expected a type name, found '7'"),
    ("unknown type", "  int32_t first;", "  int8_t first;", "unknown type int8_t"),
    ("plain int", "  int32_t first;", "  int first;", "unknown type int"),
    ("unsigned", "  int32_t first;", "  unsigned first;", "unknown type unsigned"),
    ("bool", "int64_t *count", "bool *count", "unknown type bool"),
    ("type declared later", "void *say_user;", "ic_later *say_user;", "unknown type ic_later"),
    (
        "enum",
        "/** A thing. */",
        "/** Kind. */\ntypedef enum { IC_A } ic_kind;\n/** A thing. */",
        "enum is not allowed",
        "typedef enum",
    ),
    (
        "union",
        "/** A thing. */",
        "/** Kind. */\ntypedef union ic_u ic_u;\n/** A thing. */",
        "union is not allowed",
        "typedef union",
    ),
    ("alias of a pointer", "typedef int32_t ic_status;", "typedef int32_t *ic_status;", "a plain scalar"),
    ("foreign pointer", "typedef struct CUstream_st *ic_stream", "typedef struct FILE *ic_stream", "not a foreign"),
    (
        "handle of another name",
        "typedef struct ic_thing ic_thing;",
        "typedef struct ic_thing_st ic_thing;",
        "typedefed to its own name",
    ),
    ("struct of another name", "} ic_pair;", "} ic_pairs;", "typedefed to its own name, not ic_pairs"),
    ("name without ic_", "ic_thing_text(", "thing_text(", "thing_text must be ic_"),
    ("callback without _fn", "(*ic_say_fn)(", "(*ic_say)(", "callback ic_say must end with _fn"),
    ("const behind", "const ic_pair *pairs", "ic_pair const *pairs", "const must stand first"),
    ("pointer to pointer", "const ic_pair *pairs", "const ic_pair **pairs", "only allowed as ** of a handle"),
    ("three stars", "ic_thing **out", "ic_thing ***out", "only allowed as ** of a handle"),
    # structs
    ("nested struct", "  int32_t first;", "  struct { int32_t x; } first;", "nested or untypedefed struct"),
    ("anonymous union", "  int32_t first;", "  union { int32_t first; };", "nested or untypedefed union"),
    ("struct by value", "  const ic_pair *pairs;", "  ic_pair pairs;", "holds struct ic_pair by value"),
    ("handle by value", "  void *say_user;", "  ic_thing say_user;", "has type ic_thing by value"),
    ("void by value", "  void *say_user;", "  void say_user;", "has type void by value"),
    ("single char", "  char name[16];", "  char name;", "is a single char"),
    ("const field", "  int32_t first;", "  const int32_t first;", "is const by value"),
    ("two fields at once", PAIR, "  int32_t first, second;\n", "one field per declaration"),
    ("bit field", "  int32_t first;", "  int32_t first : 4;", "first is a bit field"),
    ("two dimensions", "name[16]", "name[4][4]", "more than one dimension"),
    ("length by name", "name[16]", "name[IC_KIND_RED]", "must be a plain number"),
    ("flexible array", "name[16]", "name[]", "must be a plain number"),
    ("array of pointers", "const ic_pair *pairs", "const ic_pair *pairs[2]", "is an array of pointers"),
    ("array of callbacks", "ic_say_fn say;", "ic_say_fn say[2];", "is an array of ic_say_fn"),
    ("function pointer", "  ic_say_fn say;", "  void (*say)(void);", "a function pointer must be a named callback"),
    ("field twice", "  int32_t second;", "  int32_t first;", "second field first"),
    ("empty struct", PAIR, "", "struct ic_pair has no fields", "typedef struct ic_pair {"),
    ("inner padding", "  int32_t kind;\n", "", "4 bytes of padding before ic_thing_desc.weight"),
    (
        "tail padding",
        "  int32_t reserved;\n",
        "",
        "4 bytes of padding at the end of ic_thing_desc",
        "typedef struct ic_thing_desc {",
    ),
    ("giant struct", "name[16]", "name[8192]", "has 8248 bytes; allowed: 4096", "typedef struct ic_thing_desc {"),
    ("no struct_size", "  size_t struct_size;", "  uint64_t magic;", "must be size_t struct_size"),
    ("struct_size of another type", "  size_t struct_size;", "  uint64_t struct_size;", "must be size_t struct_size"),
    (
        "not tagged frozen",
        " @frozen */",
        " */",
        "first field of ic_pair must be size_t struct_size (or tag it @frozen)",
        "int32_t first",
    ),
    (
        "frozen with struct_size",
        "made of. */",
        "made of. @frozen */",
        "one or the other",
        "typedef struct ic_thing_desc {",
    ),
    (
        "unused struct",
        "  const ic_pair *pairs;",
        "  const void *pairs;",
        "used by no function",
        "typedef struct ic_pair {",
    ),
    # functions
    ("no IC_API", "IC_API void ic_thing_destroy", "void ic_thing_destroy", "'void' is neither"),
    ("empty parentheses", "ic_thing_destroy(ic_thing *thing)", "ic_thing_destroy()", "write (void)"),
    ("variable arguments", "ic_stream stream)", "ic_stream stream, ...)", "variable arguments"),
    ("parameter without a name", "int64_t *count,", "int64_t *,", "parameter 4 has no name"),
    ("array parameter", "int64_t *count,", "int64_t count[],", "count is an array; write a pointer"),
    ("callback without a name", "int64_t *count,", "void (*done)(void),", "must be a named callback"),
    ("struct parameter by value", "int64_t *count,", "ic_pair pair,", "holds struct ic_pair by value"),
    ("parameter twice", "int64_t *count,", "int64_t *thing,", "second parameter thing"),
    (
        "body",
        "ic_thing_destroy(ic_thing *thing);",
        "ic_thing_destroy(ic_thing *thing) { }",
        "expected ';' after function ic_thing_destroy, found '{'",
    ),
    ("returns a pointer", "IC_API void ic_thing_destroy", "IC_API ic_thing *ic_thing_destroy", "only pointer allowed"),
    ("returns a struct", "IC_API void ic_thing_destroy", "IC_API ic_pair ic_thing_destroy", "holds struct ic_pair"),
    (
        "no @since",
        "/** Drops a thing. @since 0.1 */",
        "/** Drops a thing. */",
        "has no @since",
        "IC_API void ic_thing_destroy",
    ),
    (
        "from the future",
        "/** Drops a thing. @since 0.1",
        "/** Drops a thing. @since 0.1.1",
        "ic_thing_destroy is from 0.1.1, but this header is 0.1.0",
        "IC_API void ic_thing_destroy",
    ),
    ("function twice", "ic_thing_text(const", "ic_thing_create(const", "ic_thing_create is declared twice"),
    # lifecycles
    (
        "no create",
        "ic_thing_create",
        "ic_thing_make",
        "needs ic_thing_create(..., ic_thing **out)",
        "typedef struct ic_thing ic_thing",
    ),
    (
        "create without out",
        ", ic_thing **out)",
        ")",
        "needs ic_thing_create(..., ic_thing **out)",
        "typedef struct ic_thing ic_thing",
    ),
    (
        "no destroy",
        "ic_thing_destroy",
        "ic_thing_drop",
        "needs void ic_thing_destroy(ic_thing *)",
        "typedef struct ic_thing ic_thing",
    ),
    (
        "destroy with a status",
        "IC_API void ic_thing_destroy",
        "IC_API ic_status ic_thing_destroy",
        "needs void ic_thing_destroy(ic_thing *)",
        "typedef struct ic_thing ic_thing",
    ),
    # names
    ("camel case field", "  int32_t second;", "  int32_t secondOne;", "must be words in small letters"),
    ("camel case function", "ic_thing_text", "ic_thing_Text", "must be ic_ and words in small letters"),
]

RESERVED = [
    ("register", "C, C++"),
    ("namespace", "C++"),
    ("fn", "Rust"),
    ("in", "Rust, Python"),
    ("func", "Go"),
    ("type", "Rust, Go, Python"),
    ("lambda", "Python"),
]


class Dialect(unittest.TestCase):
    def test_the_good_header_is_understood(self):
        header, problems = read(HEADER)
        self.assertEqual(problems, [])
        names = ["ic_count", "ic_thing_create", "ic_thing_destroy", "ic_thing_text", "ic_thing_run"]
        self.assertEqual([f.name for f in header.functions], names)
        self.assertEqual([len(f.params) for f in header.functions], [0, 2, 1, 3, 5])

    def test_each_bad_header_is_refused(self):
        for name, old, new, message, *marker in BAD:
            with self.subTest(name):
                text = mutate(HEADER, old, new)
                line = line_of(text, marker[0]) if marker else line_of_change(text, old)
                _, problems = read(text)
                self.assertEqual([at for at, found in problems if message in found], [line], f"problems: {problems}")

    def test_reserved_words_of_every_target(self):
        for word, languages in RESERVED:
            with self.subTest(word):
                _, problems = read(mutate(HEADER, "  int32_t second;", f"  int32_t {word};"))
                self.assertEqual([m for _, m in problems], [f"field ic_pair.{word} is a reserved word of {languages}"])
                _, problems = read(mutate(HEADER, "int64_t *count", f"int64_t *{word}"))
                self.assertEqual(
                    [m for _, m in problems], [f"parameter {word} of ic_thing_run is a reserved word of {languages}"]
                )

    def test_library_names_are_no_reserved_words(self):
        for word in ("free", "malloc", "log", "len", "data", "error"):
            _, problems = read(mutate(HEADER, "  int32_t second;", f"  int32_t {word};"))
            self.assertEqual(problems, [], word)

    def test_all_problems_are_reported_in_order(self):
        text = mutate(HEADER, "/** Drops a thing. @since 0.1 */", "/** Drops a thing. */")
        text = mutate(text, "  int32_t reserved;\n", "")
        _, problems = read(text)
        self.assertEqual([m.split(" ")[0] for _, m in problems], ["4", "IC_THING_DESC_INIT", "ic_thing_destroy"])
        self.assertEqual([line for line, _ in problems], sorted(line for line, _ in problems))


def line_of_change(text: str, old: str) -> int:
    """The first line with text from where old stood."""
    start = HEADER.index(old)
    while text[start : start + 1] == "\n":
        start += 1
    return text.count("\n", 0, start) + 1


if __name__ == "__main__":
    unittest.main()
