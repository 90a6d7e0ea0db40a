// SPDX-License-Identifier: Apache-2.0
// Random calls of the CUDA backend until the time is over (RandomLong: IC_TEST_RANDOM_SECONDS, default 60), against the
// CPU backend and against double precision by four rules:
//   (a) what is selected is, bit for bit, what sorting the backend's own scores selects;
//   (b) scores are within the published bound of double precision;
//   (c) against a selection by double-precision scores only keys near the threshold differ;
//   (d) where every partial sum is exact, scores are the CPU backend's bits; those of fp32 always are.
// Plain, and captured once and replayed with other contents. Every case has its own seed: IC_TEST_SEED and
// IC_TEST_RANDOM_CASE repeat one.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "tests/gpu/attend_device.h"
#include "tests/gpu/captured.h"
#include "tests/gpu/random_problem.h"

namespace ic::test {
namespace {

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int32_t operator()(int32_t low, int32_t high) { return std::uniform_int_distribution<int32_t>(low, high)(engine_); }
  template <class T, size_t n>
  T one_of(const T (&values)[n]) {
    return values[(*this)(0, static_cast<int32_t>(n) - 1)];
  }

 private:
  std::mt19937 engine_;
};

/// What the cases have been, for the shares that the run must reach.
struct Shares {
  int64_t cases = 0, cases_with_ties = 0, rows = 0, long_rows = 0;
  int64_t keys_near_threshold = 0;  // rule (c): keys that differ from double precision's selection
};

RandomShape random_shape(Random &random) {
  constexpr int32_t kDtypes[] = {IC_DTYPE_F32, IC_DTYPE_BF16, IC_DTYPE_F16, IC_DTYPE_E4M3};
  constexpr int32_t kHeads[] = {1, 3, 8, 16, 32, 32, 64, 64};
  constexpr int32_t kDims[] = {32, 64, 128, 128};
  constexpr int32_t kPages[] = {0, 0, 1, 16, 32, 64, 64, 128};
  constexpr int32_t kK[] = {16, 100, 512, 1024, 2048, 2048, 4096};
  constexpr Contents kContents[] = {Contents::kNormal, Contents::kNormal, Contents::kQuantised, Contents::kRelu,
                                    Contents::kRepeated};
  RandomShape shape;
  shape.dtype = random.one_of(kDtypes);
  shape.num_heads = random.one_of(kHeads);
  shape.head_dim = random.one_of(kDims);
  shape.page_tokens = random.one_of(kPages);
  shape.num_seqs = random(1, 2);
  shape.num_rows = random(0, 3) == 0 ? random(5, 40) : random(1, 4);
  shape.num_keys = random(0, 9) == 0 ? random(20000, 60000) : random(5400, 12000);
  shape.k = random.one_of(kK);
  shape.contents = random.one_of(kContents);
  shape.q_scale = random(0, 1) == 1;
  shape.key_begin = random(0, 1) == 1;
  shape.holes = shape.page_tokens != 0 && random(0, 3) == 0;
  if (int64_t{shape.num_keys} * shape.num_rows > 200000) shape.num_rows = 200000 / shape.num_keys;
  return shape;
}

/// Scores of the CPU backend, for rule (d).
std::vector<float> cpu_scores(RandomProblem *problem, float untouched) {
  const RandomShape &shape = problem->shape();
  std::vector<float> scores(static_cast<size_t>(shape.num_rows) * static_cast<size_t>(shape.num_keys), untouched);
  uint32_t fault = 0;
  const RandomProblem::Pointers at = problem->on_host(&fault);
  ScoresParams p{};
  p.rows = problem->rows(at);
  p.query = problem->query(at);
  p.keys = problem->pool(at);
  p.scores = scores.data();
  p.score_stride = shape.num_keys;
  p.num_columns = shape.num_keys;
  p.others = OtherColumns::kClean;
  p.workspace_size = cpu_backend().scores_workspace_size(problem->limits(0));
  std::vector<uint8_t> workspace(p.workspace_size + 256);
  p.workspace = workspace.data() + (256 - reinterpret_cast<uintptr_t>(workspace.data()) % 256) % 256;
  cpu_backend().scores(p, nullptr);
  EXPECT_EQ(fault, 0u);
  return scores;
}

/// One row of a selection against the keys that were best.
void expect_row(const std::vector<int32_t> &indices, const std::vector<int32_t> &lengths, int32_t row, int32_t padded,
                const std::vector<Scored> &wanted) {
  const int32_t *list = indices.data() + int64_t{row} * padded;
  ASSERT_EQ(lengths[static_cast<size_t>(row)], static_cast<int32_t>(wanted.size())) << "row " << row;
  for (size_t i = 0; i < wanted.size(); ++i) ASSERT_EQ(list[i], wanted[i].second) << "row " << row << ", entry " << i;
  for (auto i = static_cast<int32_t>(wanted.size()); i < padded; ++i)
    ASSERT_EQ(list[i], -1) << "row " << row << ", entry " << i;
}

/// Rules (a) to (d) on what the device wrote. Returns whether a row had a tie at its selection's boundary.
void check_rules(RandomProblem *problem, const RandomResult &result, Random &random, Shares *shares) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const RandomShape &shape = problem->shape();
  const int32_t padded = problem->k_padded();
  EXPECT_EQ(result.fault, 0u);
  const double bound = cuda_backend().error_bound(shape.num_heads, shape.head_dim, shape.dtype);

  if (shape.dtype == IC_DTYPE_F32 || shape.contents == Contents::kQuantised) {  // (d)
    const std::vector<float> expected = cpu_scores(problem, 0.0f);
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(cpu::bits_from_f32(result.scores[i]), cpu::bits_from_f32(expected[i]))
          << "rule d: row " << i / static_cast<size_t>(shape.num_keys) << ", key "
          << i % static_cast<size_t>(shape.num_keys) << ": " << result.scores[i] << ", not " << expected[i];
    }
  }

  bool tie = false;
  for (int32_t row = 0; row < shape.num_rows; ++row) {
    const float *scores = result.scores.data() + int64_t{row} * shape.num_keys;
    const std::vector<int32_t> positions = problem->visible(row);
    ++shares->rows;
    if (positions.size() > 4096) ++shares->long_rows;

    // (a) for the selection that scores by itself, and for the one from the matrix (absent keys: columns of -inf)
    std::vector<Scored> keys;
    for (const int32_t s : positions) keys.emplace_back(scores[s], s);
    const std::vector<Scored> wanted = best(keys, shape.k);
    expect_row(result.indices, result.lengths, row, padded, wanted);
    for (size_t i = 0; i < wanted.size(); ++i)
      ASSERT_EQ(cpu::bits_from_f32(result.selected_scores[static_cast<size_t>(row) * static_cast<size_t>(padded) + i]),
                cpu::bits_from_f32(wanted[i].first))
          << "rule a: row " << row << ", score " << i;
    std::vector<Scored> columns;
    const auto r = static_cast<size_t>(row);
    for (int32_t s = shape.key_begin ? problem->begin[r] : 0; s < problem->end[r]; ++s)
      columns.emplace_back(scores[s], s);
    expect_row(result.matrix_indices, result.matrix_lengths, row, padded, best(columns, shape.k));
    if (testing::Test::HasFatalFailure()) return;
    if (keys.size() > wanted.size() && !wanted.empty()) {
      float threshold = kInf;
      for (const Scored &key : wanted) threshold = std::min(threshold, key.first);
      const auto equal = [&](const Scored &key) { return key.first == threshold; };
      tie = tie || std::count_if(keys.begin(), keys.end(), equal) > std::count_if(wanted.begin(), wanted.end(), equal);
    }

    // (b) for some keys of the row
    std::vector<int32_t> some;
    for (int i = 0; i < 48 && !positions.empty(); ++i)
      some.push_back(positions[static_cast<size_t>(random(0, static_cast<int32_t>(positions.size()) - 1))]);
    const std::vector<RandomProblem::Exact> exact = problem->exact(row, some);
    for (size_t i = 0; i < some.size(); ++i)
      ASSERT_LE(std::abs(static_cast<double>(scores[some[i]]) - exact[i].score), bound * exact[i].magnitude)
          << "rule b: row " << row << ", key " << some[i];
  }

  // (c) for one row
  const int32_t row = random(0, shape.num_rows - 1);
  const std::vector<int32_t> positions = problem->visible(row);
  if (positions.size() > static_cast<size_t>(shape.k) &&
      static_cast<int64_t>(positions.size()) * shape.num_heads * shape.head_dim < 60'000'000) {
    const std::vector<RandomProblem::Exact> exact = problem->exact(row, positions);
    std::vector<std::pair<double, int32_t>> keys;
    double widest = 0;
    for (size_t i = 0; i < positions.size(); ++i) {
      keys.emplace_back(exact[i].score, static_cast<int32_t>(i));
      widest = std::max(widest, bound * exact[i].magnitude);
    }
    const auto wanted = best(keys, shape.k);
    double threshold = std::numeric_limits<double>::infinity();
    std::vector<bool> selected(positions.size());
    for (const auto &key : wanted) {
      threshold = std::min(threshold, key.first);
      selected[static_cast<size_t>(key.second)] = true;
    }
    const int32_t *list = result.indices.data() + int64_t{row} * padded;
    for (int32_t i = 0; i < shape.k; ++i) {
      const auto at = std::lower_bound(positions.begin(), positions.end(), list[i]) - positions.begin();
      selected[static_cast<size_t>(at)] = !selected[static_cast<size_t>(at)];
    }
    for (size_t i = 0; i < positions.size(); ++i) {  // selected by one of the two
      if (!selected[i]) continue;
      ++shares->keys_near_threshold;
      ASSERT_LE(std::abs(exact[i].score - threshold), 2 * widest) << "rule c: row " << row << ", key " << positions[i];
    }
  }
  ++shares->cases;
  if (tie) ++shares->cases_with_ties;
}

void indexer_case(uint32_t seed, Shares *shares) {
  Random random(seed);
  const RandomShape shape = random_shape(random);
  SCOPED_TRACE(describe(shape));
  RandomProblem problem(shape, seed);
  DeviceRandomProblem device(problem);
  const TestStream stream;
  CapturedGraph graph([&](cudaStream_t capturing) { device.enqueue(capturing); });

  device.poison(0xff);
  device.enqueue(stream.get());
  stream.wait();
  const RandomResult plain = device.read();
  check_rules(&problem, plain, random, shares);
  if (testing::Test::HasFatalFailure()) return;
  device.poison(0x7e);
  graph.replay();
  ASSERT_TRUE(device.read().same_bits(plain)) << "a replay differs from the plain run";

  problem.redraw();
  device.upload();
  device.poison(0x01);
  graph.replay();
  SCOPED_TRACE("replayed with other contents");
  check_rules(&problem, device.read(), random, shares);
}

// ---- attention ------------------------------------------------------------------------------------------------------

cpu::AttendShape random_attend_shape(Random &random, uint32_t seed) {
  constexpr int32_t kDtypes[] = {IC_DTYPE_F32, IC_DTYPE_BF16, IC_DTYPE_E4M3};
  constexpr int32_t kOther[] = {IC_DTYPE_F32, IC_DTYPE_BF16};
  constexpr int32_t kHeads[] = {1, 2, 5, 16, 64, 128};
  constexpr int32_t kPages[] = {0, 1, 16, 32, 64, 128};
  constexpr int32_t kIndices[] = {7, 128, 300, 1024, 2048};
  cpu::AttendShape shape;
  shape.kv_dtype = random.one_of(kDtypes);
  shape.q_dtype = random.one_of(kOther);
  shape.out_dtype = random.one_of(kOther);
  const bool small = shape.kv_dtype != IC_DTYPE_E4M3 && random(0, 1) == 0;
  shape.d_latent = small ? 48 : 512;
  shape.d_rope = small ? 16 : 64;
  shape.num_heads = random.one_of(kHeads);
  shape.page_tokens = random.one_of(kPages);
  shape.slots = random(0, 1) == 1;
  shape.num_seqs = random(1, 3);
  shape.seq_tokens = random(50, 2000);
  shape.num_indices = random.one_of(kIndices);
  shape.rows = random(1, 12);
  const int64_t work = int64_t{shape.num_heads} * shape.num_indices * (shape.d_latent + shape.d_rope);
  while (shape.rows > 1 && shape.rows * work > 60'000'000) --shape.rows;
  shape.scale = small ? 0.2f : 0.06f;
  shape.seed = seed;
  return shape;
}

void attend_case(uint32_t seed) {
  Random random(seed ^ 0x5bd1e995u);
  cpu::AttendShape shape = random_attend_shape(random, seed);
  SCOPED_TRACE("attention: heads " + std::to_string(shape.num_heads) + ", d " + std::to_string(shape.d_latent) + " + " +
               std::to_string(shape.d_rope) + ", kv dtype " + std::to_string(shape.kv_dtype) + ", q dtype " +
               std::to_string(shape.q_dtype) + ", page_tokens " + std::to_string(shape.page_tokens) + ", slots " +
               std::to_string(shape.slots) + ", rows " + std::to_string(shape.rows) + ", indices " +
               std::to_string(shape.num_indices) + ", tokens " + std::to_string(shape.seq_tokens));
  const bool with_sink = random(0, 1) == 1;
  const auto make = [&](uint32_t with_seed) {
    shape.seed = with_seed;
    auto problem = std::make_unique<cpu::AttendProblem>(shape);
    if (with_sink) problem->sink.assign(static_cast<size_t>(shape.num_heads), 0.3f);
    return problem;
  };
  const auto first = make(seed), second = make(seed + 1);
  // The shape of real models with bf16 queries: tensor cores; sums in fp32 otherwise.
  const bool tensor_cores = shape.d_latent == 512 && shape.q_dtype == IC_DTYPE_BF16 && shape.kv_dtype != IC_DTYPE_F32;
  DeviceAttend device(*first);
  const TestStream stream;
  CapturedGraph graph([&](cudaStream_t capturing) { device.enqueue(capturing); });
  device.poison();
  device.enqueue(stream.get());
  stream.wait();
  const AttendResult plain = device.read();
  EXPECT_EQ(plain.fault, 0u);
  expect_near_definition(*first, plain, tensor_cores);
  if (testing::Test::HasFailure()) return;
  device.poison();
  graph.replay();
  expect_same_bits(device.read(), plain);
  if (testing::Test::HasFailure()) return;
  device.upload(*second);
  graph.replay();
  SCOPED_TRACE("replayed with other contents");
  const AttendResult other = device.read();
  EXPECT_EQ(other.fault, 0u);
  expect_near_definition(*second, other, tensor_cores);
}

int64_t from_environment(const char *variable, int64_t otherwise) {
  const char *text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoll(text, nullptr, 10);
}

struct Tried {
  Shares shares;
  int64_t attended = 0;
};

Tried try_for(std::chrono::seconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  const int64_t only = from_environment("IC_TEST_RANDOM_CASE", -1);
  Tried tried;
  for (int64_t number = std::max<int64_t>(only, 0);; ++number) {
    SCOPED_TRACE("IC_TEST_SEED=" + std::to_string(run_seed()) + " IC_TEST_RANDOM_CASE=" + std::to_string(number));
    const auto seed = static_cast<uint32_t>(run_seed() * 2654435761u + static_cast<uint32_t>(number) * 40503u);
    indexer_case(seed, &tried.shares);
    if (!testing::Test::HasFailure()) attend_case(seed), tried.attended += 2;
    if (testing::Test::HasFailure() || only >= 0) return tried;
    if (number > 0 && std::chrono::steady_clock::now() >= end) return tried;
  }
}

// Each element type and each kind of attention once and small: what a tool that slows a launch a thousandfold can run.
TEST(RandomSmall, EveryType) {
  Random random(run_seed());
  Shares shares;
  int32_t page_tokens = 0;
  for (const int32_t dtype : {IC_DTYPE_F32, IC_DTYPE_BF16, IC_DTYPE_F16, IC_DTYPE_E4M3}) {
    RandomShape shape{.dtype = dtype, .num_heads = 16, .head_dim = 64, .page_tokens = page_tokens, .num_rows = 2};
    shape.num_keys = 4200;
    shape.k = 256;
    shape.contents = Contents::kRelu;
    SCOPED_TRACE(describe(shape));
    RandomProblem problem(shape, run_seed());
    DeviceRandomProblem device(problem);
    const TestStream stream;
    device.poison(0xff);
    device.enqueue(stream.get());
    stream.wait();
    check_rules(&problem, device.read(), random, &shares);
    page_tokens = 64 - page_tokens;
  }
  for (const int32_t dtype : {IC_DTYPE_F32, IC_DTYPE_BF16, IC_DTYPE_E4M3}) {
    cpu::AttendShape shape;
    shape.kv_dtype = dtype;
    shape.q_dtype = dtype == IC_DTYPE_F32 ? IC_DTYPE_F32 : IC_DTYPE_BF16;
    shape.d_latent = 512;
    shape.d_rope = 64;
    shape.num_heads = 16;
    shape.page_tokens = 64;
    shape.rows = 2;
    shape.num_indices = 150;
    shape.scale = 0.06f;
    shape.seed = run_seed();
    const AttendProblem problem(shape);
    DeviceAttend device(problem);
    expect_near_definition(problem, device.run(), dtype != IC_DTYPE_F32);
  }
}

TEST(RandomCalls, ByTheFourRules) {
  const Tried tried = try_for(std::chrono::seconds(3));
  EXPECT_GE(tried.shares.cases, 1);
  EXPECT_GE(tried.attended, 1);
}

TEST(RandomLong, ByTheFourRules) {
  const auto [shares, attended] = try_for(std::chrono::seconds(from_environment("IC_TEST_RANDOM_SECONDS", 60)));
  const double long_share = 100.0 * static_cast<double>(shares.long_rows) / static_cast<double>(shares.rows);
  const double tie_share = 100.0 * static_cast<double>(shares.cases_with_ties) / static_cast<double>(shares.cases);
  std::printf("random: %lld contents for scores, select and score_select, %lld for attention; one half by replays\n",
              static_cast<long long>(shares.cases), static_cast<long long>(attended));
  std::printf(
      "random: %lld rows, %.1f %% of them longer than 4096 keys; %.1f %% of the contents with ties at a boundary\n",
      static_cast<long long>(shares.rows), long_share, tie_share);
  std::printf("random: %lld keys near a threshold selected otherwise than in double\n",
              static_cast<long long>(shares.keys_near_threshold));
  const auto record = [](const char *what, double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g", value);
    RecordProperty(what, text);
  };
  RecordProperty("contents", std::to_string(shares.cases));
  RecordProperty("attention_contents", std::to_string(attended));
  RecordProperty("rows", std::to_string(shares.rows));
  record("rows_longer_than_4096_keys_percent", long_share);
  record("contents_with_ties_at_a_boundary_percent", tie_share);
  if (from_environment("IC_TEST_RANDOM_CASE", -1) >= 0 || HasFailure()) return;
  EXPECT_GE(shares.cases, 20);
  EXPECT_GE(attended, 20);
  EXPECT_GE(long_share, 90.0);
  EXPECT_GE(tie_share, 20.0);
}

}  // namespace
}  // namespace ic::test
