// SPDX-License-Identifier: Apache-2.0
// Blocks of powers of two, cut from one mapping and kept in a list per size. Every block is filled when it is given out
// (nothing may count on zeros) and ends in a guard that is looked at when it comes back, so that a kernel that writes
// behind an array is noticed.
#include "tests/gpu/shim/arena.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

extern "C" void __real_free(void *memory);

namespace {

constexpr size_t kArenaBytes = size_t{768} << 20;
constexpr size_t kGuardBytes = 32;
constexpr int kGuard = 0xA7;
constexpr int kFresh = 0xFD;  // as floats and as e4m3: large negative numbers; as indices: far outside
constexpr size_t kHeaderBytes = 32;
constexpr uint32_t kMagic = 0x1C0A11E4;
constexpr int kSizes = 48;

/// Directly before the memory of a caller.
struct Header {
  uint8_t *block;  // where the block begins
  size_t size;     // bytes that were asked for
  uint32_t magic;
  int32_t log2;  // the block has 1 << log2 bytes
};
static_assert(sizeof(Header) <= kHeaderBytes);

class Lock {
 public:
  Lock() {
    while (flag_.test_and_set(std::memory_order_acquire)) {
    }
  }
  ~Lock() { flag_.clear(std::memory_order_release); }

 private:
  static inline std::atomic_flag flag_;
};

uint8_t *arena = nullptr;
size_t used = 0;
uint8_t *free_blocks[kSizes] = {};  // the first word of a free block is the next one

[[noreturn]] void die(const char *text) {
  // Nothing that allocates.
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) std::_Exit(98);
  std::abort();
}

void map_once() {
  if (arena != nullptr) return;
  void *mapped = mmap(nullptr, kArenaBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) die("arena: no memory for it\n");
  arena = static_cast<uint8_t *>(mapped);
}

bool inside(const void *memory) {
  const auto *at = static_cast<const uint8_t *>(memory);
  return arena != nullptr && at >= arena && at < arena + kArenaBytes;
}

Header *header_of(void *memory) { return reinterpret_cast<Header *>(static_cast<uint8_t *>(memory) - kHeaderBytes); }

}  // namespace

void *ic_arena_aligned_alloc(size_t alignment, size_t size) {
  if (alignment < 32) alignment = 32;
  if (!std::has_single_bit(alignment) || size > kArenaBytes || alignment > kArenaBytes) return nullptr;
  const size_t needed = size + alignment + kHeaderBytes + kGuardBytes;
  const auto log2 = static_cast<int32_t>(std::bit_width(needed - 1));
  uint8_t *block;
  {
    const Lock lock;
    map_once();
    block = free_blocks[log2];
    if (block != nullptr) {
      std::memcpy(&free_blocks[log2], block, sizeof block);
    } else if (used + (size_t{1} << log2) <= kArenaBytes) {
      block = arena + used;
      used += size_t{1} << log2;
    }
  }
  if (block == nullptr) return nullptr;
  const uintptr_t first = reinterpret_cast<uintptr_t>(block) + kHeaderBytes;
  auto *memory = block + kHeaderBytes + (alignment - first % alignment) % alignment;
  const Header header{block, size, kMagic, log2};
  std::memcpy(header_of(memory), &header, sizeof header);
  std::memset(memory, kFresh, size);
  std::memset(memory + size, kGuard, kGuardBytes);
  return memory;
}

void *ic_arena_malloc(size_t size) { return ic_arena_aligned_alloc(32, size); }

void *ic_arena_calloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return nullptr;
  void *memory = ic_arena_malloc(bytes);
  if (memory != nullptr) std::memset(memory, 0, bytes);
  return memory;
}

void *ic_arena_realloc(void *memory, size_t size) {
  if (memory != nullptr && !inside(memory)) die("arena: realloc of memory that is not its own\n");
  void *moved = ic_arena_malloc(size);
  if (moved == nullptr || memory == nullptr) return moved;
  const size_t had = header_of(memory)->size;
  std::memcpy(moved, memory, had < size ? had : size);
  ic_arena_free(memory);
  return moved;
}

int ic_arena_posix_memalign(void **memory, size_t alignment, size_t size) {
  *memory = ic_arena_aligned_alloc(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}

void ic_arena_free(void *memory) {
  if (memory == nullptr) return;
  if (!inside(memory)) return __real_free(memory);  // of the C library's own functions
  Header header;
  std::memcpy(&header, header_of(memory), sizeof header);
  if (header.magic != kMagic) die("arena: a block is freed that is none, or its beginning has been overwritten\n");
  const auto *guard = static_cast<const uint8_t *>(memory) + header.size;
  for (size_t i = 0; i < kGuardBytes; ++i)
    if (guard[i] != kGuard) die("arena: something wrote behind the end of a block\n");
  header.magic = 0;
  std::memcpy(header_of(memory), &header, sizeof header);
  const Lock lock;
  std::memcpy(header.block, &free_blocks[header.log2], sizeof header.block);
  free_blocks[header.log2] = header.block;
}

ic::test::ArenaRange ic::test::arena_range() {
  const Lock lock;
  map_once();
  return {arena, kArenaBytes};
}
