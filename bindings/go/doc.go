// SPDX-License-Identifier: Apache-2.0

// Package indexcache is libindexcache for Go: DeepSeek Sparse Attention with IndexCache (arXiv 2603.12201). A cheap
// indexer scores every key for every query, and attention reads the k best keys only. Full layers run the indexer;
// Shared layers reuse the indices of the nearest preceding Full layer.
//
// The package is a thin layer: structs have the fields of the C structs, zero is always the default, and the library
// alone decides what is allowed. What is described as "at most" or "must be" is checked by the library, with an [Error]
// that names the argument and its value. What the library cannot see is how long an array is: the comment of each field
// gives the shape, and a shorter array is read or written beyond its end.
//
// # Memory
//
// On the CPU backend arrays are Go slices, given with [Host]; on CUDA they are addresses of GPU memory, given with
// [Device]. C code may keep no pointer to Go memory that is not pinned, so a call pins what it is given until it
// returns; [Cache.Begin] until the generation ends; [NewCache] (Memory, Epoch) as long as the cache lives; and a [Layer]
// until it is closed. A CUDA operation goes on after its call has returned, so slices are refused there.
//
// # Handles
//
// Close releases a handle; handles may be closed in any order. A handle that nobody refers to any more is closed by the
// garbage collector, at some time. A closed handle is answered with [ErrNullPointer].
//
// # Threads
//
// [Context], [Schedule], [Indexer], [Topk] and [Attention] may be used by any number of goroutines at once, and so may a
// [Search], which lets one in at a time. A [Cache] and a workspace belong to one at a time; a call on a cache that is in
// use gives [ErrConcurrentUse]. Closing a handle while another goroutine is inside a call on it is an error of the
// caller.
package indexcache

// #cgo pkg-config: indexcache
// #include "shim.h"
import "C"

// Version is that of the library that is loaded.
func Version() (major, minor, patch int) {
	version := int(C.ic_version())
	return version >> 16, version >> 8 & 0xff, version & 0xff
}

// BuildInfo says how the library was built: a JSON object with "version", "git", "compiler", "cuda" (toolkit version or
// null), "cuda_archs" and "cpu_isas".
func BuildInfo() string {
	return C.GoString(C.ic_build_info())
}

// KPadded is the number of entries of a row of indices as they are written: k rounded up to 128.
func KPadded(k int32) int32 {
	return (k + 127) / 128 * 128
}
