// SPDX-License-Identifier: Apache-2.0
// Operations on index sets on the GPU: stamps, moved rows, slots, comparison, blocks. The CPU backend's results, plain
// and captured.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/gpu/backends.h"
#include "tests/gpu/captured.h"
#include "tests/gpu/device_array.h"

namespace ic::test {
namespace {

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int32_t draw(int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(engine_); }
  bool one_in(int32_t n) { return draw(1, n) == 1; }
  std::mt19937 &engine() { return engine_; }

 private:
  std::mt19937 engine_;
};

/// One array on the host for the CPU backend and on the device for CUDA.
template <class T>
class Twin {
 public:
  explicit Twin(const std::vector<T> &values, size_t shift_bytes = 0) : host(values), device_(values, shift_bytes) {}
  void assign(const std::vector<T> &values) {
    host = values;
    device_.assign(values);
  }
  T *on(bool cuda) { return cuda ? device_.data() : host.data(); }
  void expect_same(const char *name) const {
    const std::vector<T> device = device_.read();
    ASSERT_EQ(device.size(), host.size());
    for (size_t i = 0; i < host.size(); ++i)
      ASSERT_EQ(std::memcmp(&device[i], &host[i], sizeof(T)), 0)
          << name << "[" << i << "]: cuda " << device[i] << ", cpu " << host[i];
  }
  std::vector<T> host;

 private:
  DeviceArray<T> device_;
};

/// The CUDA backend that the calls of this file use; null = the usual one.
Backend *chosen = nullptr;

Backend &backend_on(bool cuda) {
  if (!cuda) return cpu_backend();
  return chosen == nullptr ? cuda_backend() : *chosen;
}

/// Runs a call on both backends and waits.
template <class Call>
void on_both(Call &&call) {
  call(false);
  call(true);
  IC_REQUIRE_CUDA(cudaDeviceSynchronize());
}

/// Ascending lists of at most k entries in rows of `stride`, -1 behind; lengths may be illegal.
struct Lists {
  std::vector<int32_t> indices, lengths;
};

Lists draw_lists(int32_t rows, int32_t k, int64_t stride, int32_t highest, Random *random) {
  Lists lists;
  lists.indices.assign(static_cast<size_t>(rows * stride), -1);
  std::vector<int32_t> all(static_cast<size_t>(highest));
  std::iota(all.begin(), all.end(), 0);
  for (int32_t row = 0; row < rows; ++row) {
    const int32_t kind = random->draw(0, 5);
    const int32_t most = std::min(k, highest);
    const int32_t length = kind == 0 ? 0 : kind < 4 ? most : random->draw(0, most);
    auto *list = lists.indices.data() + row * stride;
    std::sample(all.begin(), all.end(), list, length, random->engine());
    lists.lengths.push_back(length);
  }
  return lists;
}

TEST(IndexSets, StampsAndTheirCheck) {
  Random random(run_seed());
  for (const int32_t rows : {1, 2, 255, 5000}) {
    const auto count = static_cast<size_t>(rows);
    Twin<uint32_t> epoch(std::vector<uint32_t>{0xfffffff0u}), fault(std::vector<uint32_t>{0});
    Twin<uint64_t> stamps(std::vector<uint64_t>(count, 7));
    std::vector<int32_t> lengths(count);
    for (int32_t &length : lengths) length = random.draw(INT32_MIN, INT32_MAX);
    Twin<int32_t> given(lengths), checked(std::vector<int32_t>(count, 77));
    const auto stamp = [&](int32_t layer) {
      on_both([&](bool cuda) { backend_on(cuda).stamp({stamps.on(cuda), epoch.on(cuda), layer, rows}, nullptr); });
    };
    const auto check = [&](int32_t layer) {
      on_both([&](bool cuda) {
        backend_on(cuda).check_stamps(
            {given.on(cuda), stamps.on(cuda), epoch.on(cuda), layer, rows, checked.on(cuda), fault.on(cuda)}, nullptr);
      });
      stamps.expect_same("stamps");
      checked.expect_same("checked");
      fault.expect_same("fault");
    };
    stamp(5);
    check(5);
    EXPECT_EQ(fault.host[0], 0u);
    check(6);  // another source
    EXPECT_EQ(fault.host[0], IC_FAULT_EPOCH);
    fault.assign({0});
    epoch.assign({3});  // the caller has moved on
    check(5);
    EXPECT_EQ(fault.host[0], IC_FAULT_EPOCH);
    stamp(5);
    fault.assign({0});
    check(5);
    EXPECT_EQ(fault.host[0], 0u);
  }
}

/// @return the fault bits met
uint32_t compare_moved_rows(int rounds) {
  Random random(run_seed());
  uint32_t seen = 0;
  for (int i = 0; i < rounds; ++i) {
    const bool unaligned = i % 2 == 1;
    const int32_t source_rows = random.draw(1, 40);
    const int32_t count = random.draw(1, 50);
    const int32_t width = unaligned ? random.draw(1, 3000) : 4 * random.draw(1, 700);
    const int32_t padded = unaligned ? width + random.draw(0, 40) : width + 4 * random.draw(0, 20);
    const int64_t in_stride = width + (unaligned ? random.draw(0, 9) : 4 * random.draw(0, 3));
    const int64_t out_stride = padded + (unaligned ? random.draw(0, 9) : 4 * random.draw(0, 3));
    const bool with_scores = random.one_in(2);
    const bool with_rows = !random.one_in(4);
    const size_t shift = unaligned ? 4 : 0;
    std::vector<int32_t> values(static_cast<size_t>(source_rows * in_stride)),
        lengths(static_cast<size_t>(source_rows));
    for (int32_t &v : values) v = random.draw(-1, 1 << 24);
    for (int32_t &v : lengths) v = random.draw(0, width);
    std::vector<float> score_values(values.begin(), values.end());
    std::vector<int32_t> rows(static_cast<size_t>(count));
    for (int32_t &row : rows) {
      row = random.one_in(6) ? -1 : random.draw(0, source_rows - 1);
      if (random.one_in(10)) row = random.one_in(2) ? source_rows : random.one_in(2) ? INT32_MIN : -2;
    }
    Twin<int32_t> from(values, shift), from_lengths(lengths), picked(rows);
    Twin<float> from_scores(score_values, shift);
    const auto out_count = static_cast<size_t>(count * out_stride);
    Twin<int32_t> to(std::vector<int32_t>(out_count, 777), shift), to_lengths(std::vector<int32_t>(rows.size(), 777));
    Twin<float> to_scores(std::vector<float>(out_count, 777.0f), shift);
    Twin<uint32_t> fault(std::vector<uint32_t>{0});
    on_both([&](bool cuda) {
      GatherRowsParams p{};
      p.rows = with_rows ? picked.on(cuda) : nullptr;
      p.count = count;
      p.source_rows = source_rows;  // without rows: those beyond are illegal
      p.width = width;
      p.padded_width = padded;
      p.indices = from.on(cuda);
      p.index_stride = in_stride;
      p.lengths = from_lengths.on(cuda);
      p.scores = with_scores ? from_scores.on(cuda) : nullptr;
      p.out_indices = to.on(cuda);
      p.out_stride = out_stride;
      p.out_lengths = to_lengths.on(cuda);
      p.out_scores = with_scores ? to_scores.on(cuda) : nullptr;
      p.fault = fault.on(cuda);
      backend_on(cuda).gather_rows(p, nullptr);
    });
    to.expect_same("indices");
    to_lengths.expect_same("lengths");
    to_scores.expect_same("scores");
    fault.expect_same("fault");
    seen |= fault.host[0];
    if (testing::Test::HasFatalFailure()) break;
  }
  return seen;
}

TEST(IndexSets, RowsAreMoved) { EXPECT_EQ(compare_moved_rows(60), IC_FAULT_ROW) << "or no illegal row has been met"; }

/// A remap whose contents can be drawn anew.
class RemapProblem {
 public:
  RemapProblem(int32_t page_tokens, bool unaligned, bool illegal, uint32_t seed)
      : random(seed),
        page_tokens_(page_tokens),
        illegal_(illegal),
        rows(random.draw(1, 40)),
        seqs(random.draw(1, 5)),
        k_padded(128 * random.draw(1, 17)),
        index_stride(k_padded + (unaligned ? random.draw(0, 5) : 4 * random.draw(0, 2))),
        slot_stride(k_padded + (unaligned ? random.draw(0, 5) : 4 * random.draw(0, 2))),
        num_blocks(page_tokens == 0 ? 0 : kKeys / page_tokens / 2),  // keys beyond have no block
        table_stride(num_blocks + random.draw(0, 3)),
        indices(std::vector<int32_t>(static_cast<size_t>(rows * index_stride)), unaligned ? 4 : 0),
        lengths(std::vector<int32_t>(static_cast<size_t>(rows))),
        seq(std::vector<int32_t>(static_cast<size_t>(rows))),
        table(std::vector<int32_t>(static_cast<size_t>(seqs * table_stride) + 1)),
        offsets(std::vector<int64_t>(static_cast<size_t>(seqs))),
        slots(std::vector<int32_t>(static_cast<size_t>(rows * slot_stride)), unaligned ? 4 : 0),
        out_lengths(std::vector<int32_t>(static_cast<size_t>(rows))),
        fault(std::vector<uint32_t>{0}) {
    redraw();
  }

  void redraw() {
    const Lists lists = draw_lists(rows, k_padded, index_stride, kKeys, &random);
    std::vector<int32_t> index_values = lists.indices, length_values = lists.lengths;
    std::vector<int32_t> seq_values, table_values;
    std::vector<int64_t> offset_values;
    for (int32_t row = 0; row < rows; ++row) {
      seq_values.push_back(random.draw(0, seqs - 1));
      if (!illegal_) continue;
      if (random.one_in(6)) seq_values.back() = random.one_in(2) ? seqs : INT32_MIN;
      if (random.one_in(6)) length_values[static_cast<size_t>(row)] = random.one_in(2) ? INT32_MAX : -5;
      for (int i = 0; i < 20; ++i)
        index_values[static_cast<size_t>(row * index_stride + random.draw(0, k_padded - 1))] =
            random.one_in(3)   ? INT32_MAX
            : random.one_in(2) ? INT32_MIN
                               : random.draw(-9, 1 << 30);
    }
    for (size_t i = 0; i < table.host.size(); ++i) {
      table_values.push_back(random.one_in(8) ? -1 : random.draw(0, 1 << 20));
      if (illegal_ && random.one_in(8)) table_values.back() = random.one_in(2) ? INT32_MAX : INT32_MIN;
    }
    for (int32_t s = 0; s < seqs; ++s) {
      offset_values.push_back(int64_t{s} * kKeys);
      constexpr int64_t kWrong[] = {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::min(), -100,
                                    int64_t{INT32_MAX} - 100, int64_t{1} << 40};
      if (illegal_ && random.one_in(2)) offset_values.back() = kWrong[random.draw(0, 4)];
    }
    indices.assign(index_values);
    lengths.assign(length_values);
    seq.assign(seq_values);
    table.assign(table_values);
    offsets.assign(offset_values);
    slots.assign(std::vector<int32_t>(slots.host.size(), 777));
    out_lengths.assign(std::vector<int32_t>(out_lengths.host.size(), 777));
    fault.assign({0});
  }

  /// in_place: lengths are replaced, as after a check of stamps.
  void run(bool cuda, bool in_place, cudaStream_t stream, Backend *backend = nullptr) {
    RemapParams p{};
    p.rows = {rows, seqs, kKeys, seqs > 1 ? seq.on(cuda) : nullptr, nullptr, nullptr, fault.on(cuda)};
    p.indices = indices.on(cuda);
    p.index_stride = index_stride;
    p.lengths = in_place ? out_lengths.on(cuda) : lengths.on(cuda);
    p.k_padded = k_padded;
    p.page_tokens = page_tokens_;
    p.block_table = page_tokens_ == 0 ? nullptr : table.on(cuda);
    p.block_table_stride = table_stride;
    p.num_blocks = num_blocks;
    p.key_offsets = page_tokens_ == 0 ? offsets.on(cuda) : nullptr;
    p.slots = slots.on(cuda);
    p.slot_stride = slot_stride;
    p.out_lengths = out_lengths.on(cuda);
    (backend == nullptr ? backend_on(cuda) : *backend).remap(p, stream);
  }

  void expect_same() const {
    slots.expect_same("slots");
    out_lengths.expect_same("lengths");
    fault.expect_same("fault");
  }

  static constexpr int32_t kKeys = 6000;
  Random random;
  int32_t page_tokens_;
  bool illegal_;
  int32_t rows, seqs, k_padded;
  int64_t index_stride, slot_stride;
  int32_t num_blocks;
  int64_t table_stride;
  Twin<int32_t> indices, lengths, seq, table;
  Twin<int64_t> offsets;
  Twin<int32_t> slots, out_lengths;
  Twin<uint32_t> fault;
};

constexpr int32_t kPageTokens[] = {0, 1, 16, 32, 64, 128};

TEST(IndexSets, PositionsToSlots) {
  uint32_t seen = 0;
  for (uint32_t i = 0; i < 72; ++i) {
    const bool unaligned = i % 12 < 6, illegal = i % 24 < 12, in_place = i % 5 == 0;
    SCOPED_TRACE("page_tokens " + std::to_string(kPageTokens[i % 6]) + (unaligned ? ", unaligned" : "") +
                 (illegal ? ", illegal" : "") + (in_place ? ", in place" : "") + ", seed " +
                 std::to_string(run_seed() + i));
    RemapProblem problem(kPageTokens[i % 6], unaligned, illegal, run_seed() + i);
    if (in_place) problem.out_lengths.assign(problem.lengths.host);
    on_both([&](bool cuda) { problem.run(cuda, in_place, nullptr); });
    problem.expect_same();
    seen |= problem.fault.host[0];
    if (HasFatalFailure()) return;
  }
  EXPECT_EQ(seen, IC_FAULT_SEQUENCE | IC_FAULT_SLOT) << "the test has not met every fault";
}

TEST(IndexSets, RemapIsCapturedAndLimited) {
  const std::unique_ptr<Backend> limited = make_cuda_backend({0, 3, {}});
  for (uint32_t i = 0; i < 6; ++i) {
    RemapProblem problem(kPageTokens[i], i % 2 == 1, true, run_seed() + i);
    CapturedGraph graph(
        [&](cudaStream_t stream) { problem.run(true, false, stream, i % 3 == 0 ? limited.get() : nullptr); });
    for (int replay = 0; replay < 25; ++replay) {
      graph.replay();
      problem.run(false, false, nullptr);
      problem.expect_same();
      if (HasFatalFailure()) return;
      if (replay % 5 == 0) problem.redraw();
    }
  }
}

/// Masses of softmaxes, sharp and flat ones; every fifth row has none.
std::vector<float> draw_masses(int32_t rows, int64_t stride, Random *random) {
  std::vector<float> masses(static_cast<size_t>(rows * stride));
  for (size_t i = 0; i < masses.size(); ++i) {
    const bool none = static_cast<int64_t>(i) / stride % 5 == 4;
    masses[i] = none ? 0.0f : std::exp(static_cast<float>(random->draw(-4000, 0)) / 100.0f);
  }
  return masses;
}

void compare_overlaps(int rounds) {
  Random random(run_seed());
  for (int i = 0; i < rounds; ++i) {
    const int32_t rows = random.draw(1, 50);
    const bool same = i % 5 == 0;
    const int32_t a_k = random.draw(1, 2500);
    const int32_t b_k = same ? a_k : i % 3 == 0 ? random.draw(1, 40) : random.draw(1, 2500);
    const int64_t a_stride = a_k + random.draw(0, 9), b_stride = same ? a_stride : b_k + random.draw(0, 9);
    const int32_t highest = i % 4 == 0 ? std::max(a_k, b_k) : random.draw(1, 8000);
    Lists a_lists = draw_lists(rows, a_k, a_stride, highest, &random);
    Lists b_lists = draw_lists(rows, b_k, b_stride, highest, &random);
    if (same) b_lists = a_lists;
    for (int32_t row = 0; row < rows; ++row)  // a length beyond the list counts as the whole list
      if (random.one_in(9) && a_lists.lengths[static_cast<size_t>(row)] == a_k)
        a_lists.lengths[static_cast<size_t>(row)] = INT32_MAX;
    if (rows > 3) a_lists.lengths[2] = -7;
    Twin<int32_t> a(a_lists.indices), b(b_lists.indices), a_lengths(a_lists.lengths), b_lengths(b_lists.lengths);
    const auto count = static_cast<size_t>(rows);
    Twin<int32_t> intersection(std::vector<int32_t>(count, 777));
    Twin<float> recall(std::vector<float>(count, 777.0f)), jaccard(recall.host), mass_recall(recall.host);
    const int64_t mass_stride = a_k + random.draw(0, 9);
    Twin<float> mass(draw_masses(rows, mass_stride, &random));
    on_both([&](bool cuda) {
      backend_on(cuda).overlap(
          {a.on(cuda), a_stride, a_lengths.on(cuda), a_k, b_k, b.on(cuda), b_stride, b_lengths.on(cuda), rows, 0,
           i % 7 == 1 ? nullptr : intersection.on(cuda), i % 7 == 2 ? nullptr : recall.on(cuda),
           i % 7 == 3 ? nullptr : jaccard.on(cuda), i % 7 == 4 ? nullptr : mass_recall.on(cuda),
           i % 7 == 4 ? nullptr : mass.on(cuda), mass_stride},
          nullptr);
    });
    intersection.expect_same("intersection");
    recall.expect_same("recall");
    jaccard.expect_same("jaccard");
    mass_recall.expect_same("mass_recall");
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(IndexSets, Overlap) { compare_overlaps(60); }

TEST(IndexSets, OverlapIsCapturedAndSeesOtherContents) {
  Random random(run_seed());
  constexpr int32_t kRows = 40, kK = 1300;
  constexpr size_t kEntries = size_t{kRows} * kK;
  Twin<int32_t> a(std::vector<int32_t>(kEntries, -1)), b(a.host), a_lengths(std::vector<int32_t>(kRows, 0)),
      b_lengths(a_lengths.host), intersection(std::vector<int32_t>(kRows, 777));
  Twin<float> mass(std::vector<float>(kEntries, 0.0f)), recall(std::vector<float>(kRows, 777.0f)), jaccard(recall.host),
      mass_recall(recall.host);
  const auto run = [&](bool cuda, cudaStream_t stream) {
    backend_on(cuda).overlap(
        {a.on(cuda), kK, a_lengths.on(cuda), kK, kK, b.on(cuda), kK, b_lengths.on(cuda), kRows, 0,
         intersection.on(cuda), recall.on(cuda), jaccard.on(cuda), mass_recall.on(cuda), mass.on(cuda), kK},
        stream);
  };
  CapturedGraph graph([&](cudaStream_t stream) { run(true, stream); });
  EXPECT_EQ(mass_recall.host[0], 777.0f);
  mass_recall.expect_same("what nobody has written yet");
  for (int round = 0; round < 20; ++round) {
    const Lists a_lists = draw_lists(kRows, kK, kK, 3000, &random), b_lists = draw_lists(kRows, kK, kK, 3000, &random);
    a.assign(a_lists.indices);
    a_lengths.assign(a_lists.lengths);
    b.assign(b_lists.indices);
    b_lengths.assign(b_lists.lengths);
    mass.assign(draw_masses(kRows, kK, &random));
    graph.replay();
    run(false, nullptr);
    intersection.expect_same("intersection");
    recall.expect_same("recall");
    jaccard.expect_same("jaccard");
    mass_recall.expect_same("mass_recall");
    if (HasFatalFailure()) return;
  }
}

TEST(IndexSets, OverlapOfWhatIsNoListStaysInBounds) {
  Random random(run_seed());
  constexpr int32_t kRows = 30, kK = 300;
  std::vector<int32_t> values(kRows * kK), lengths(kRows);
  for (int32_t &v : values) v = random.one_in(3) ? random.draw(-1, 5) : random.draw(INT32_MIN, INT32_MAX);
  for (int32_t &v : lengths) v = random.draw(-400, 400);
  const std::vector<float> ratios(kRows, 777.0f);
  Twin<int32_t> a(values), a_lengths(lengths), intersection(std::vector<int32_t>(kRows, 777));
  Twin<float> recall(ratios), jaccard(ratios), mass_recall(ratios), mass(draw_masses(kRows, kK, &random));
  cuda_backend().overlap(
      {a.on(true), kK, a_lengths.on(true), kK, kK, a.on(true), kK, a_lengths.on(true), kRows, 0, intersection.on(true),
       recall.on(true), jaccard.on(true), mass_recall.on(true), mass.on(true), kK},
      nullptr);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

/// A publication in device memory and its twin on the host.
struct Publication {
  Publication(int32_t rows_in, int32_t k_in, Random *random)
      : rows(rows_in),
        k(k_in),
        stride((k_in + 127) / 128 * 128),
        lists(draw_lists(rows_in, k_in, stride, kKeys, random)),
        indices(lists.indices),
        lengths(lists.lengths),
        scores(std::vector<float>(lists.indices.begin(), lists.indices.end())) {}

  size_t block_bytes() const { return 64 + static_cast<size_t>(rows) * 4 * (1 + 2 * static_cast<size_t>(k)); }
  void export_to(bool cuda, void *block, cudaStream_t stream) {
    ExportParams p{};
    for (uint32_t i = 0; i < 16; ++i) p.header[i] = 0x10000 * i + 3;
    p.indices = indices.on(cuda);
    p.index_stride = stride;
    p.lengths = lengths.on(cuda);
    p.scores = scores.on(cuda);
    p.count = rows;
    p.k = k;
    p.block = block;
    backend_on(cuda).export_rows(p, stream);
  }
  std::vector<uint8_t> expected() {
    std::vector<uint8_t> block(block_bytes());
    export_to(false, block.data(), nullptr);
    return block;
  }

  static constexpr int32_t kKeys = 5000;
  int32_t rows, k;
  int64_t stride;
  Lists lists;
  Twin<int32_t> indices, lengths;
  Twin<float> scores;
};

class PinnedMemory {
 public:
  explicit PinnedMemory(size_t bytes) {
    void *memory = nullptr;
    IC_REQUIRE_CUDA(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault));
    data_ = static_cast<uint8_t *>(memory);
  }
  ~PinnedMemory() { cudaFreeHost(data_); }
  PinnedMemory(const PinnedMemory &) = delete;
  PinnedMemory &operator=(const PinnedMemory &) = delete;
  uint8_t *data() const { return data_; }

 private:
  uint8_t *data_ = nullptr;
};

TEST(IndexSets, BlocksLeaveToEveryMemory) {
  Random random(run_seed());
  for (const int32_t k : {1, 17, 64, 2048}) {
    for (const int32_t rows : {1, 3, 64}) {
      Publication publication(rows, k, &random);
      const std::vector<uint8_t> expected = publication.expected();
      const size_t bytes = expected.size();

      const DeviceArray<uint8_t> device(std::vector<uint8_t>(bytes, 0xa5), 8);
      publication.export_to(true, device.data(), nullptr);
      EXPECT_EQ(device.read(), expected) << "device memory";

      const PinnedMemory pinned(bytes);
      publication.export_to(true, pinned.data(), nullptr);
      IC_REQUIRE_CUDA(cudaDeviceSynchronize());
      EXPECT_EQ(std::memcmp(pinned.data(), expected.data(), bytes), 0) << "pinned memory";

      std::vector<uint8_t> pageable(bytes + 8);
      publication.export_to(true, pageable.data() + 8, nullptr);
      EXPECT_EQ(std::memcmp(pageable.data() + 8, expected.data(), bytes), 0) << "pageable memory, without waiting";
    }
  }
}

/// The header of a captured export is in the graph: nothing of the capturing call's stack is read at replay.
TEST(IndexSets, CapturedExportKeepsItsHeader) {
  Random random(run_seed());
  Publication publication(9, 100, &random);
  const PinnedMemory pinned(publication.block_bytes());
  CapturedGraph graph([&](cudaStream_t stream) { publication.export_to(true, pinned.data(), stream); });
  for (int replay = 0; replay < 25; ++replay) {
    volatile uint8_t overwritten[4096];  // what was the stack of the capture
    for (volatile uint8_t &byte : overwritten) byte = 0xee;
    std::memset(pinned.data(), 0xa5, publication.block_bytes());
    graph.replay();
    const std::vector<uint8_t> expected = publication.expected();
    ASSERT_EQ(std::memcmp(pinned.data(), expected.data(), expected.size()), 0) << "replay " << replay;
    if (replay % 5 != 0) continue;
    const Lists lists = draw_lists(publication.rows, publication.k, publication.stride, Publication::kKeys, &random);
    publication.indices.assign(lists.indices);
    publication.lengths.assign(lists.lengths);
  }
}

/// An import with its rows' ranges, and what the rules of the header make of a body.
class ImportProblem {
 public:
  ImportProblem(int32_t rows_in, int32_t k_in, bool with_scores, uint32_t seed)
      : random(seed),
        rows(rows_in),
        k(k_in),
        k_padded((k_in + 127) / 128 * 128),
        scores_wanted(with_scores),
        begin(std::vector<int32_t>(static_cast<size_t>(rows))),
        end(begin.host),
        seq(begin.host),
        indices(static_cast<size_t>(rows * k_padded)),
        lengths(static_cast<size_t>(rows)),
        scores(indices.read().size()),
        fault(1) {}

  /// Lists into `body`; illegal: some that are none.
  void draw(uint8_t *body, bool illegal) {
    const Lists lists = draw_lists(rows, k, k, kKeys, &random);
    std::vector<int32_t> values = lists.indices, counts = lists.lengths;
    std::vector<int32_t> begins, ends, seqs;
    for (int32_t row = 0; row < rows; ++row) {
      const auto r = static_cast<size_t>(row);
      int32_t *list = values.data() + int64_t{row} * k;
      const int32_t length = counts[r];
      begins.push_back(length == 0 ? 0 : random.draw(0, list[0]));
      ends.push_back(length == 0 ? 0 : random.draw(list[length - 1] + 1, kKeys));
      seqs.push_back(random.draw(0, 1));
      if (!illegal || !random.one_in(2)) continue;
      switch (random.draw(0, 7)) {
        case 0:
          counts[r] = -1;
          break;
        case 1:
          counts[r] = k + 1;
          break;
        case 2:
          counts[r] = INT32_MIN;
          break;
        case 3:
          if (length > 1) std::swap(list[length - 1], list[length / 2]);
          break;
        case 4:
          if (length > 1) list[length / 2] = list[length / 2 - 1];
          break;
        case 5:
          ends[r] = length == 0 ? 0 : list[length - 1];
          break;
        case 6:
          begins[r] = length == 0 ? 0 : list[0] + 1;
          break;
        default:
          seqs[r] = 2;
          break;
      }
    }
    std::vector<float> values_of_scores(values.size());
    for (float &v : values_of_scores) v = static_cast<float>(random.draw(-1000, 1000));
    std::memcpy(body, counts.data(), counts.size() * 4);
    std::memcpy(body + counts.size() * 4, values.data(), values.size() * 4);
    std::memcpy(body + counts.size() * 4 + values.size() * 4, values_of_scores.data(), values.size() * 4);
    begin.assign(begins);
    end.assign(ends);
    seq.assign(seqs);
    indices.assign(std::vector<int32_t>(static_cast<size_t>(rows * k_padded), 777));
    lengths.assign(std::vector<int32_t>(static_cast<size_t>(rows), 777));
    scores.assign(std::vector<float>(static_cast<size_t>(rows * k_padded), 777.0f));
    fault.assign({0});
  }

  void run(const uint8_t *body, cudaStream_t stream) {
    ImportParams p{};
    p.rows = {rows, 2, kKeys, seq.on(true), begin.on(true), end.on(true), fault.data()};
    p.body = body;
    p.k = k;
    p.k_padded = k_padded;
    p.indices = indices.data();
    p.lengths = lengths.data();
    p.scores = scores_wanted ? scores.data() : nullptr;
    cuda_backend().import_rows(p, stream);
  }

  /// @return the fault bits that were expected
  uint32_t expect_imported(const uint8_t *body) {
    std::vector<int32_t> counts(static_cast<size_t>(rows)), values(static_cast<size_t>(rows * k));
    std::vector<float> block_scores(values.size());
    std::memcpy(counts.data(), body, counts.size() * 4);
    std::memcpy(values.data(), body + counts.size() * 4, values.size() * 4);
    std::memcpy(block_scores.data(), body + counts.size() * 4 + values.size() * 4, values.size() * 4);
    const std::vector<int32_t> got = indices.read(), got_lengths = lengths.read();
    const std::vector<float> got_scores = scores.read();
    uint32_t faults = 0;
    for (size_t r = 0; r < counts.size(); ++r) {
      const int32_t *list = values.data() + r * static_cast<size_t>(k);
      bool good = counts[r] >= 0 && counts[r] <= k;
      if (good && counts[r] > 0 && end.host[r] > begin.host[r] && seq.host[r] > 1) faults |= IC_FAULT_SEQUENCE;
      if (good && counts[r] > 0 && seq.host[r] > 1) good = false;
      for (int32_t i = 0; good && i < counts[r]; ++i)
        good = list[i] >= begin.host[r] && list[i] < end.host[r] && (i == 0 || list[i] > list[i - 1]);
      if (!good) faults |= IC_FAULT_INDEX;
      const int32_t length = good ? counts[r] : 0;
      EXPECT_EQ(got_lengths[r], length) << "row " << r;
      for (int32_t i = 0; i < k_padded; ++i) {
        const size_t at = r * static_cast<size_t>(k_padded) + static_cast<size_t>(i);
        EXPECT_EQ(got[at], i < length ? list[i] : -1) << "row " << r << ", entry " << i;
        const float score = good && i < k ? block_scores[r * static_cast<size_t>(k) + static_cast<size_t>(i)]
                                          : -std::numeric_limits<float>::infinity();
        EXPECT_EQ(got_scores[at], scores_wanted ? score : 777.0f) << "row " << r << ", entry " << i;
        if (testing::Test::HasFailure()) return faults;
      }
    }
    EXPECT_EQ(fault.read()[0], faults);
    return faults;
  }

  size_t body_bytes() const { return static_cast<size_t>(rows) * 4 * (1 + 2 * static_cast<size_t>(k)); }

  static constexpr int32_t kKeys = 5000;
  Random random;
  int32_t rows, k, k_padded;
  bool scores_wanted;
  Twin<int32_t> begin, end, seq;
  DeviceArray<int32_t> indices, lengths;
  DeviceArray<float> scores;
  DeviceArray<uint32_t> fault;
};

TEST(IndexSets, BlocksEnterFromPageableAndPinnedMemory) {
  uint32_t seen = 0;
  uint32_t seed = run_seed();
  for (const int32_t k : {1, 17, 128, 2048}) {
    for (const int32_t rows : {1, 33}) {
      for (const bool illegal : {false, true}) {
        SCOPED_TRACE("k " + std::to_string(k) + ", rows " + std::to_string(rows) + ", seed " + std::to_string(seed));
        ImportProblem problem(rows, k, seed % 2 == 0, seed);
        ++seed;
        std::vector<uint8_t> pageable(problem.body_bytes());
        problem.draw(pageable.data(), illegal);
        problem.run(pageable.data(), nullptr);
        IC_REQUIRE_CUDA(cudaDeviceSynchronize());
        seen |= problem.expect_imported(pageable.data());
        const PinnedMemory pinned(problem.body_bytes());
        problem.draw(pinned.data(), illegal);
        problem.run(pinned.data(), nullptr);
        IC_REQUIRE_CUDA(cudaDeviceSynchronize());
        seen |= problem.expect_imported(pinned.data());
        if (HasFailure()) return;
      }
    }
  }
  EXPECT_EQ(seen, IC_FAULT_INDEX | IC_FAULT_SEQUENCE) << "the test has not met every fault";
}

TEST(IndexSets, ReplayedImportChecksWhatItFinds) {
  ImportProblem problem(40, 200, true, run_seed());
  const PinnedMemory pinned(problem.body_bytes());
  problem.draw(pinned.data(), false);
  CapturedGraph graph([&](cudaStream_t stream) { problem.run(pinned.data(), stream); });
  for (int replay = 0; replay < 8; ++replay) {
    problem.draw(pinned.data(), replay % 2 == 1);
    graph.replay();
    problem.expect_imported(pinned.data());
    if (HasFailure()) return;
  }
}

TEST(IndexSets, EightThreadsOnOneBackend) {
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 8; ++t) {
    threads.emplace_back([t] {
      RemapProblem problem(kPageTokens[t % 6], false, true, run_seed() + t);
      const TestStream stream;
      problem.run(false, false, nullptr);
      for (int i = 0; i < 20; ++i) {
        problem.run(true, false, stream.get());
        stream.wait();
        problem.expect_same();
      }
    });
  }
  for (std::thread &thread : threads) thread.join();
}

TEST(IndexSets, MaxCtasChangesNothing) {
  for (const int32_t max_ctas : {1, 5}) {
    const std::unique_ptr<Backend> limited = make_cuda_backend({0, max_ctas, {}});
    chosen = limited.get();
    compare_moved_rows(10);
    compare_overlaps(10);
    Random random(run_seed());
    Publication publication(33, 300, &random);
    const std::vector<uint8_t> expected = publication.expected();
    const DeviceArray<uint8_t> block(std::vector<uint8_t>(expected.size(), 0xa5), 8);
    publication.export_to(true, block.data(), nullptr);
    EXPECT_EQ(block.read(), expected);
    chosen = nullptr;
  }
}

/// Rows that lie beyond 2^31 elements.
TEST(IndexSets, OffsetsBeyond32BitsLong) {
  constexpr int64_t kStride = (int64_t{1} << 31) - 128;
  constexpr int32_t kWidth = 128;
  int32_t *matrix = static_cast<int32_t *>(device_malloc(static_cast<size_t>(kStride + kWidth) * 4));
  std::vector<int32_t> row(kWidth);
  std::iota(row.begin(), row.end(), 1000);
  upload(matrix + kStride, row.data(), kWidth * 4);
  Twin<int32_t> rows(std::vector<int32_t>{1}), lengths(std::vector<int32_t>{5, kWidth});
  Twin<int32_t> out(std::vector<int32_t>(kWidth, 777)), out_lengths(std::vector<int32_t>{777});
  GatherRowsParams p{};
  p.rows = rows.on(true);
  p.count = 1;
  p.source_rows = 2;
  p.width = p.padded_width = kWidth;
  p.indices = matrix;
  p.index_stride = kStride;
  p.lengths = lengths.on(true);
  p.out_indices = out.on(true);
  p.out_stride = kWidth;
  p.out_lengths = out_lengths.on(true);
  cuda_backend().gather_rows(p, nullptr);
  IC_REQUIRE_CUDA(cudaDeviceSynchronize());
  out.host = row;
  out_lengths.host = {kWidth};
  out.expect_same("indices");
  out_lengths.expect_same("lengths");
  cudaFree(matrix);
}

}  // namespace
}  // namespace ic::test
