# SPDX-License-Identifier: Apache-2.0
"""A small header in the dialect of bindings/gen, for tests that break it. Puts the generator on the import path."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / "bindings" / "gen"
sys.path.insert(0, str(GENERATOR))

import emit_json  # noqa: E402, F401
import emit_map  # noqa: E402, F401
import emit_rust_safe  # noqa: E402, F401
import emit_rust_sys  # noqa: E402, F401
import roles  # noqa: E402, F401
from abi_diff import compare  # noqa: E402, F401
from check import check_header  # noqa: E402
from doc_comment import blocks  # noqa: E402, F401
from header import read_header  # noqa: E402
from tokens import HeaderError  # noqa: E402

BEGINNING = """\
/* SPDX-License-Identifier: Apache-2.0 */
/** @file indexcache.h
 * A small interface. */
#ifndef INDEXCACHE_H
#define INDEXCACHE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define IC_API __attribute__((visibility("default")))
#else
#define IC_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ====================
 * Everything
 * ==================== */

/** Version. */
#define IC_VERSION_MAJOR 0
#define IC_VERSION_MINOR 1
#define IC_VERSION_PATCH 0

/** Result of a call: IC_OK or one of IC_ERROR_*. */
typedef int32_t ic_status;

/** Success. */
#define IC_OK 0
/** Wrong. */
#define IC_ERROR_WRONG 1
/** Old. */
#define IC_ERROR_STALE 20
/** Older. */
#define IC_ERROR_STALE_OLDER 21
/** True for IC_ERROR_STALE*. */
#define IC_STATUS_IS_STALE(status) ((status) >= 20 && (status) <= 29)

"""

BODY = """\
/** A stream. */
typedef struct CUstream_st *ic_stream;

/** A thing. */
typedef struct ic_thing ic_thing;

/** Kinds of things. */
#define IC_KIND_RED 1
#define IC_KIND_BLUE 2
/** No thing. */
#define IC_NO_THING (-1)
/** First bit. */
#define IC_FLAG_ONE 0x1u
/** Second bit. */
#define IC_FLAG_TWO 0x2u

/** Says something. */
typedef void (*ic_say_fn)(void *user, const char *text);

/** A pair of numbers; an array of them is read. @frozen */
typedef struct ic_pair {
  /** First number */
  int32_t first;
  int32_t second;
} ic_pair;

/** What a thing is made of. */
typedef struct ic_thing_desc {
  /** sizeof(ic_thing_desc) */
  size_t struct_size;
  /** Where it says what */
  ic_say_fn say;
  void *say_user;
  /** [num_pairs] */
  const ic_pair *pairs;
  int32_t num_pairs;
  /** IC_KIND_* */
  int32_t kind;
  double weight;
  /** Name */
  char name[16];
  uint32_t flags;
  int32_t reserved;
} ic_thing_desc;

/** Initialiser. */
#define IC_THING_DESC_INIT \\
  { sizeof(ic_thing_desc), NULL, NULL, NULL, 0, 0, 0, {0}, 0, 0 }

/** Number of things. @since 0.1 */
IC_API uint32_t ic_count(void);

/** Makes a thing. @errors IC_ERROR_WRONG, IC_ERROR_STALE* @since 0.1 */
IC_API ic_status ic_thing_create(const ic_thing_desc *desc, ic_thing **out);

/** Drops a thing. @since 0.1 */
IC_API void ic_thing_destroy(ic_thing *thing);

/** Text: room in *size, then its length. @since 0.1 */
IC_API ic_status ic_thing_text(const ic_thing *thing, char *buffer, size_t *size);

/** Runs a thing on `stream`.
 *
 *      a formula, indented
 *
 *  and a last line. @since 0.1 */
IC_API ic_status ic_thing_run(ic_thing *thing, void *workspace, size_t workspace_size, int64_t *count,
                             ic_stream stream);

"""

END = """\
#ifdef __cplusplus
}
#endif

#endif /* INDEXCACHE_H */
"""

HEADER = BEGINNING + BODY + END


def mutate(text: str, old: str, new: str) -> str:
    """text with its only occurrence of old replaced."""
    if text.count(old) != 1:
        raise AssertionError(f"{old!r} occurs {text.count(old)} times")
    return text.replace(old, new)


def line_of(text: str, marker: str) -> int:
    """The line on which the first occurrence of marker starts."""
    return text.count("\n", 0, text.index(marker)) + 1


def read(text: str):
    """The checked header, and all problems as (line, message)."""
    try:
        header = read_header(text)
        problems = check_header(header)
    except HeaderError as problem:
        return None, [(problem.line, problem.message)]
    return header, [(p.line, p.message) for p in problems]
