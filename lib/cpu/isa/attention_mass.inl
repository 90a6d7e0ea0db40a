// SPDX-License-Identifier: Apache-2.0
// The attention mass of one row's keys. Include after attend.inl, whose arithmetic it takes over: the same scores,
// maxima and denominators.
//
// Arithmetic: all keys are passed twice, so that nothing is kept per head and key. The first pass leaves maximum and
// denominator of every head; the second scores again, and a key's mass is one fma chain over the heads ascending of
// exp(score - maximum) * (1 / denominator), divided by their number.

namespace ic::cpu {
namespace {

// Masses of a block whose scores are in s.weights; factors of the heads are in s.rescales.
void store_masses(const RowState &s, int32_t count, const int32_t *entries, float *mass) {
  const F32 heads = set1(static_cast<float>(s.row.num_heads));
  for (int32_t first = 0; first < count; first += kLanes) {
    F32 sum = zero();
    for (int32_t h = 0; h < s.row.num_heads; ++h) {
      const F32 score = load(s.weights + static_cast<int64_t>(h) * kBlock + first);
      const F32 base = set1(s.maxima[h] == -__builtin_inff() ? 0.0f : s.maxima[h]);
      sum = fma(exp_lanes(sub(score, base)), set1(s.rescales[h]), sum);
    }
    float lanes[kLanes];
    store(lanes, div(sum, heads));
    for (int i = 0; i < kLanes && first + i < count; ++i) mass[entries[first + i]] = lanes[i];
  }
}

void attention_mass_row(const AttendRow &row, const int32_t *entries, float *mass, float *scratch) {
  if (row.num_keys == 0) return;
  const RowState s = row_state(row, scratch);
  load_queries(s);
  for (int32_t key = 0; key < row.num_keys; key += kBlock) {
    const int32_t count = score_keys(s, key);
    softmax_block(s, count, key == 0);
  }
  for (int32_t h = 0; h < row.num_heads; ++h) {
    const float denominator = denominator_of(s, h);
    const F32 factor = denominator == 0.0f ? zero() : weight_factor(s, h, denominator);
    store_n(s.rescales + h, factor, 1);
  }
  for (int32_t key = 0; key < row.num_keys; key += kBlock) {
    const int32_t count = score_keys(s, key);
    store_masses(s, count, entries + key, mass);
  }
}

}  // namespace
}  // namespace ic::cpu
