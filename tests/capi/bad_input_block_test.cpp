// SPDX-License-Identifier: Apache-2.0
// Exported blocks that must not be imported: cut at every byte, of another schedule or arithmetic, with a spoiled
// header or spoiled lists.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tests/capi/small_problem.h"

namespace ic::test {
namespace {

using Words = std::initializer_list<const char *>;
constexpr int32_t kRows = SmallProblem::kRows, kK = SmallProblem::kK;

class BadInputBlock : public BadInput {
 protected:
  void SetUp() override {
    BadInput::SetUp();
    ASSERT_EQ(problem.call_begin(), IC_OK) << last_error();
    original_.assign(problem.block, problem.block + problem.block_bytes);
  }
  void TearDown() override {
    restore();
    BadInput::TearDown();
  }
  void restore() { std::memcpy(problem.block, original_.data(), original_.size()); }
  ic_export_header *header() { return reinterpret_cast<ic_export_header *>(problem.block); }
  int32_t *length(int32_t row) { return reinterpret_cast<int32_t *>(problem.block + sizeof(ic_export_header)) + row; }
  int32_t *index(int32_t row, int32_t i) { return length(kRows) + row * kK + i; }

  void expect(ic_status status, Words words, const std::function<void()> &spoil, uint32_t flags = 0,
              int32_t publish_layer = -1) {
    spoil();
    EXPECT_TRUE(refuses(problem, status, words, [&] {
      return ic_cache_import(problem.cache, publish_layer, flags, problem.block, problem.block_bytes, &problem.header,
                             nullptr);
    }));
    restore();
  }

 private:
  std::vector<uint8_t> original_;
};

TEST_F(BadInputBlock, CutAtEveryByte) {
  for (size_t bytes = 0; bytes < problem.block_bytes; ++bytes) {
    // A copy of exactly these bytes, so that a sanitizer sees the first one that is read behind them.
    Arrays arrays;
    auto *part = arrays.input<uint8_t>(bytes);
    std::memcpy(part, problem.block, bytes);
    ASSERT_TRUE(refuses(problem, IC_ERROR_PARSE, {"the block has ", std::to_string(bytes).c_str()},
                        [&] { return ic_cache_import(problem.cache, -1, 0, part, bytes, &problem.header, nullptr); }));
  }
}

TEST_F(BadInputBlock, Headers) {
  expect(IC_ERROR_PARSE, {"begins with 0x58494348", "0x58494349"}, [&] { header()->magic -= 1; });
  for (const uint32_t version : {0u, 2u})
    expect(IC_ERROR_PARSE, {"version ", std::to_string(version).c_str(), "reads 1"},
           [&] { header()->version = version; });
  expect(IC_ERROR_PARSE, {"flags 0x2"}, [&] { header()->flags = 2; });
  for (uint64_t &word : header()->reserved) expect(IC_ERROR_PARSE, {"reserved"}, [&] { word = 1; });
  for (const int32_t rows : {-1, INT32_MIN})
    expect(IC_ERROR_PARSE, {std::to_string(rows).c_str(), "rows"}, [&] { header()->num_rows = rows; });
  for (const int32_t k : {0, -8, 4097})
    expect(IC_ERROR_PARSE, {"k ", std::to_string(k).c_str()}, [&] { header()->k = k; });
  for (const int32_t layer : {-1, -2, INT32_MIN})
    expect(IC_ERROR_PARSE, {"source_layer ", std::to_string(layer).c_str()}, [&] { header()->source_layer = layer; });
  expect(IC_ERROR_INVALID_ARGUMENT, {"publish_layer is 6", "0 to 5"}, [&] { header()->source_layer = 6; });
  expect(IC_ERROR_INVALID_ARGUMENT, {"publish_layer is 3", "no Full layer"}, [&] { header()->source_layer = 3; });
}

TEST_F(BadInputBlock, FromElsewhere) {
  expect(IC_ERROR_SCHEDULE_HASH, {"schedule hash", "0x"}, [&] { header()->schedule_hash ^= 1; });
  expect(IC_ERROR_SCHEDULE_HASH, {"schedule hash"}, [&] {
    header()->schedule_hash ^= 1;
    header()->source_layer = 60;  // a layer that only the other schedule has
  });
  expect(IC_ERROR_NUMERICS, {"numerics id", "0x"}, [&] { header()->numerics_id ^= 1; }, IC_IMPORT_SAME_NUMERICS);
  expect(IC_ERROR_HANDLE_MISMATCH, {"k 9", "k 8"}, [&] { header()->k = 9; });
  for (const int32_t rows : {0, 4, 6, INT32_MAX})
    expect(IC_ERROR_INVALID_ARGUMENT, {"the block has ", std::to_string(rows).c_str(), "batch has 5"},
           [&] { header()->num_rows = rows; });
  expect(IC_ERROR_HANDLE_MISMATCH, {"no scores", "IC_CACHE_SCORES"}, [&] { header()->flags = 0; });
}

TEST_F(BadInputBlock, AcceptedWhenAskedFor) {
  header()->schedule_hash ^= 1;
  header()->numerics_id ^= 1;
  ASSERT_EQ(ic_cache_import(problem.cache, -1, IC_IMPORT_ANY_SCHEDULE, problem.block, problem.block_bytes,
                            &problem.header, nullptr),
            IC_OK)
      << last_error();
  EXPECT_EQ(problem.header.numerics_id, header()->numerics_id) << "reported";
}

TEST_F(BadInputBlock, PublishLayers) {
  for (const int32_t layer : {-2, 6, INT32_MAX, INT32_MIN})
    expect(IC_ERROR_INVALID_ARGUMENT, {"publish_layer is ", std::to_string(layer).c_str(), "0 to 5"}, [] {}, 0, layer);
  expect(IC_ERROR_INVALID_ARGUMENT, {"publish_layer is 1", "no Full layer"}, [] {}, 0, 1);
}

TEST_F(BadInputBlock, Lists) {
  ASSERT_EQ(*length(0), kK);
  for (const int32_t bad : {-1, kK + 1, INT32_MAX, INT32_MIN})
    expect(IC_ERROR_PARSE, {"row 4", "length ", std::to_string(bad).c_str(), "0 to 8"}, [&] { *length(4) = bad; });
  expect(IC_ERROR_PARSE, {"row 1", "entry 3", "ascending"}, [&] { *index(1, 3) = *index(1, 2); });
  expect(IC_ERROR_PARSE, {"row 1", "ascending"}, [&] { std::swap(*index(1, 3), *index(1, 2)); });
  expect(IC_ERROR_PARSE, {"row 0", "entry 0 is -1"}, [&] { *index(0, 0) = -1; });
  expect(IC_ERROR_PARSE, {"row 0", "entry 7 is -5"}, [&] { *index(0, 7) = -5; });
  expect(IC_ERROR_PARSE, {"row 2", "entry 7", "7 ascending"}, [&] { *length(2) = 7; });  // something behind the list
  expect(IC_ERROR_OUT_OF_RANGE, {"row 3", "19", "0 to 18"}, [&] { *index(3, 7) = 19; });
  expect(IC_ERROR_OUT_OF_RANGE, {"row 2", "indices 1 to", "2 to 39"}, [&] { *index(2, 0) = 1; });
  expect(IC_ERROR_OUT_OF_RANGE, {"row 0", "2147483647"}, [&] { *index(0, 7) = INT32_MAX; });
}

TEST_F(BadInputBlock, Pointers) {
  EXPECT_TRUE(refuses(problem, IC_ERROR_MISALIGNED, {"buffer", "multiple of 8"}, [&] {
    return ic_cache_import(problem.cache, -1, 0, problem.block + 4, problem.block_bytes - 4, &problem.header, nullptr);
  }));
  EXPECT_TRUE(refuses(problem, IC_ERROR_MISALIGNED, {"header", "multiple of 8"}, [&] {
    auto *shifted = reinterpret_cast<ic_export_header *>(problem.exported + 4);
    return ic_cache_import(problem.cache, -1, 0, problem.block, problem.block_bytes, shifted, nullptr);
  }));
}

// Any single byte wrong: either the block is refused and nothing has changed, or what is published is a legal list.
TEST_F(BadInputBlock, EveryByteSpoiled) {
  int accepted = 0, refused = 0;
  for (size_t at = 0; at < problem.block_bytes; ++at) {
    for (const int bits : {0x01, 0x80}) {
      problem.ready();
      problem.block[at] = static_cast<uint8_t>(problem.block[at] ^ bits);
      const std::vector<uint8_t> before = problem.snapshot();
      const ic_status status = problem.call_import();
      if (status != IC_OK) {
        ++refused;
        ASSERT_TRUE(problem.snapshot() == before) << "byte " << at << ": " << last_error();
      } else {
        ++accepted;
        ic_index_view view = IC_INDEX_VIEW_INIT;
        ASSERT_EQ(ic_cache_get_view(problem.cache, header()->source_layer, &view), IC_OK) << last_error();
        for (int32_t row = 0; row < kRows; ++row) {
          const int32_t *list = view.indices + row * view.row_stride;
          ASSERT_LE(view.lengths[row], kK);
          for (int32_t i = 0; i < view.lengths[row]; ++i) {
            ASSERT_LT(i == 0 ? -1 : list[i - 1], list[i]);
            if (host_sees_values()) {
              ASSERT_LT(list[i], problem.key_end[row]);
            }
          }
        }
      }
      restore();
    }
  }
  EXPECT_GT(refused, 300);
  EXPECT_GT(accepted, 300);  // scores may have any value
}

}  // namespace
}  // namespace ic::test
