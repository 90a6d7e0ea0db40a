// SPDX-License-Identifier: Apache-2.0

package indexcache

// #include <stdlib.h>
// #include "shim.h"
// void indexcache_go_log(void *user, int32_t level, char *message);
import "C"

import (
	"fmt"
	"os"
	"runtime/cgo"
	"unsafe"
)

// logSink is what C keeps instead of a Go function: C memory with a number that stands for it.
type logSink struct {
	user   unsafe.Pointer
	handle cgo.Handle
}

func newLogSink(log func(level LogLevel, message string)) *logSink {
	sink := &logSink{user: C.malloc(C.size_t(unsafe.Sizeof(cgo.Handle(0)))), handle: cgo.NewHandle(log)}
	*(*cgo.Handle)(sink.user) = sink.handle
	return sink
}

func (s *logSink) install(desc *C.ic_context_desc) {
	desc.log = C.ic_log_fn(C.indexcache_go_log)
	desc.log_user = s.user
}

func (s *logSink) free() {
	s.handle.Delete()
	C.free(s.user)
}

//export indexcache_go_log
func indexcache_go_log(user unsafe.Pointer, level C.int32_t, message *C.char) {
	defer func() {
		if problem := recover(); problem != nil { // must not reach C
			fmt.Fprintln(os.Stderr, "indexcache: the log function panics:", problem)
		}
	}()
	log := (*(*cgo.Handle)(user)).Value().(func(LogLevel, string))
	log(LogLevel(level), C.GoString(message))
}
