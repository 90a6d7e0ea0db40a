// SPDX-License-Identifier: Apache-2.0
// Runs a program's main (--wrap) where the device can follow it: its heap, the stack it runs on and its static arrays
// are registered with the driver, and mean the same on both sides.
#include <cuda_runtime_api.h>
#include <link.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/gpu/shim/arena.h"
#include "tests/gpu/shim/mode.h"

extern "C" {
int __real_main(int argc, char **argv);
extern char __data_start, _end;  // of the linker: initialised and zeroed variables
}

namespace ic::test {
namespace {

constexpr size_t kStackBytes = size_t{16} << 20;

[[noreturn]] void die(const char *what, const char *why) {
  std::fprintf(stderr, "%s: %s\n", what, why);
  std::_Exit(1);
}

void check(cudaError_t error, const char *call) {
  if (error != cudaSuccess) die(call, cudaGetErrorString(error));
}

void register_pages(uintptr_t begin, uintptr_t end) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  begin = begin / page * page;
  end = (end + page - 1) / page * page;
  auto *memory = reinterpret_cast<void *>(begin);
  check(cudaHostRegister(memory, end - begin, cudaHostRegisterMapped | cudaHostRegisterPortable), "cudaHostRegister");
  void *on_device = nullptr;
  check(cudaHostGetDevicePointer(&on_device, memory, 0), "cudaHostGetDevicePointer");
  if (on_device != memory) die("cudaHostGetDevicePointer", "the device sees the memory at another address");
}

/// Constants lie on pages of the program's file, which a driver does not take: the same bytes at the same addresses, in
/// memory of nobody's file.
int register_constants(dl_phdr_info *program, size_t, void *) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  for (int i = 0; i < program->dlpi_phnum; ++i) {
    const ElfW(Phdr) &segment = program->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & (PF_R | PF_W | PF_X)) != PF_R) continue;
    const uintptr_t begin = (program->dlpi_addr + segment.p_vaddr) / page * page;
    const uintptr_t end = (program->dlpi_addr + segment.p_vaddr + segment.p_memsz + page - 1) / page * page;
    auto *at = reinterpret_cast<void *>(begin);
    const size_t bytes = end - begin;
    void *copy = ic_arena_malloc(bytes);
    std::memcpy(copy, at, bytes);
    if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at) return 1;
    std::memcpy(at, copy, bytes);
    ic_arena_free(copy);
    register_pages(begin, end);
  }
  return 1;  // the first is the program itself, and all that is wanted
}

struct Arguments {
  int argc;
  char **argv;
  int status;
};

void *run(void *user) {
  auto *arguments = static_cast<Arguments *>(user);
  arguments->status = __real_main(arguments->argc, arguments->argv);
  return nullptr;
}

}  // namespace

Mode mode() {
  static const Mode chosen = [] {
    const char *given = std::getenv("IC_TEST_BACKEND");
    if (given != nullptr && std::strcmp(given, "cpu") == 0) return Mode::kCpu;
    if (given != nullptr && std::strcmp(given, "cuda") == 0) return Mode::kCuda;
    if (given != nullptr && std::strcmp(given, "cuda-captured") == 0) return Mode::kCudaCaptured;
    die("IC_TEST_BACKEND", "cpu, cuda or cuda-captured is wanted");
  }();
  return chosen;
}

}  // namespace ic::test

extern "C" int __wrap_main(int argc, char **argv) {
  using namespace ic::test;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // what a program said before it was ended can be read
  if (mode() != Mode::kCpu) {
    const ArenaRange arena = arena_range();
    register_pages(reinterpret_cast<uintptr_t>(arena.begin), reinterpret_cast<uintptr_t>(arena.begin) + arena.bytes);
    register_pages(reinterpret_cast<uintptr_t>(&__data_start), reinterpret_cast<uintptr_t>(&_end));
    dl_iterate_phdr(register_constants, nullptr);
  }
  Arguments arguments{argc, argv, 1};
  void *stack = ic_arena_aligned_alloc(4096, kStackBytes);
  pthread_attr_t attributes;
  pthread_t thread;
  if (stack == nullptr || pthread_attr_init(&attributes) != 0 ||
      pthread_attr_setstack(&attributes, stack, kStackBytes) != 0 ||
      pthread_create(&thread, &attributes, run, &arguments) != 0 || pthread_join(thread, nullptr) != 0)
    die("main", "no thread for it");
  return arguments.status;  // the stack stays: what is registered with exit handlers may refer to it
}
