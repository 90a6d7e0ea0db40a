// SPDX-License-Identifier: Apache-2.0
// A problem of sparse attention on the device, and how far its result may be from the definition.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "core/backend.h"
#include "core/dtype.h"
#include "indexcache.h"
#include "tests/cpu/attend_problem.h"
#include "tests/gpu/backends.h"
#include "tests/gpu/device_array.h"

namespace ic::test {

using cpu::AttendProblem;
using cpu::AttendResult;
using cpu::AttendShape;

/// Distances of the arrays from a 256-byte boundary, in bytes; odd strides come with them.
struct AttendShift {
  size_t q = 0, kv = 0, out = 0;
  int64_t q_stride = 0, out_stride = 0;  // elements more than dense
};

/// The arrays of a problem on the device. Outputs are poisoned with NaN patterns before a run, and so is the workspace,
/// which has exactly the size that the backend asks for.
class DeviceAttend {
 public:
  explicit DeviceAttend(const AttendProblem &problem, Backend &backend = cuda_backend(), AttendShift shift = {})
      : backend_(backend),
        params_(problem.params()),
        shift_(shift),
        pool_(problem.pool, shift.kv),
        q_(strided_queries(problem, shift), shift.q),
        table_(problem.block_table),
        indices_(problem.indices),
        lengths_(problem.lengths),
        seq_(problem.seq),
        offsets_(problem.key_offsets),
        sink_(problem.sink),
        fault_(1),
        out_stride_(int64_t{params_.num_heads} * params_.d_latent + shift.out_stride),
        out_(static_cast<size_t>(params_.rows.count * out_stride_ * ic::dtype_bytes(params_.out_dtype)), shift.out),
        lse_(static_cast<size_t>(params_.rows.count * (params_.num_heads + shift.out_stride))),
        workspace_(backend.attend_workspace_size({params_.rows.count, params_.num_heads, params_.d_latent,
                                                  params_.d_rope, params_.kv_dtype, params_.num_indices})) {
    params_.rows.seq = seq_.data();
    params_.rows.fault = fault_.data();
    params_.indices = indices_.data();
    params_.lengths = lengths_.data();
    params_.q = q_.data();
    params_.q_row_stride += shift.q_stride;
    params_.kv.data = pool_.data();
    params_.kv.block_table = table_.data();
    params_.kv.key_offsets = offsets_.data();
    params_.sink = problem.sink.empty() ? nullptr : sink_.data();
    params_.out = out_.data();
    params_.out_row_stride = out_stride_;
    params_.lse = lse_.data();
    params_.lse_row_stride = params_.num_heads + shift.out_stride;
    params_.workspace = workspace_.data();
    poison();
  }

  /// Contents of a problem of the same shape.
  void upload(const AttendProblem &problem) {
    pool_.assign(problem.pool);
    q_.assign(strided_queries(problem, shift_));
    table_.assign(problem.block_table);
    indices_.assign(problem.indices);
    lengths_.assign(problem.lengths);
    seq_.assign(problem.seq);
    offsets_.assign(problem.key_offsets);
    sink_.assign(problem.sink);
    poison();
  }

  void poison() {
    const size_t bytes = workspace_size();
    if (bytes > 0) IC_REQUIRE_CUDA(cudaMemset(workspace_.data(), 0xff, bytes));
    const size_t out_bytes = static_cast<size_t>(params_.rows.count * out_stride_ * ic::dtype_bytes(params_.out_dtype));
    if (out_bytes > 0) {
      IC_REQUIRE_CUDA(cudaMemset(out_.data(), 0xff, out_bytes));
      IC_REQUIRE_CUDA(
          cudaMemset(lse_.data(), 0xff, static_cast<size_t>(params_.rows.count * params_.lse_row_stride) * 4));
    }
    fault_.assign({0});
    IC_REQUIRE_CUDA(cudaDeviceSynchronize());
  }

  AttendParams &params() { return params_; }
  size_t workspace_size() const {
    return backend_.attend_workspace_size({params_.rows.count, params_.num_heads, params_.d_latent, params_.d_rope,
                                           params_.kv_dtype, params_.num_indices});
  }

  void enqueue(cudaStream_t stream) {
    params_.workspace_size = workspace_size();
    backend_.attend(params_, stream);
  }

  AttendResult run() {
    enqueue(nullptr);
    return read();
  }

  /// Dense results, bf16 widened. What lies between rows must not have been written.
  AttendResult read() const {
    IC_REQUIRE_CUDA(cudaDeviceSynchronize());
    AttendResult result;
    const int64_t width = int64_t{params_.num_heads} * params_.d_latent;
    const int64_t element = ic::dtype_bytes(params_.out_dtype);
    std::vector<uint8_t> bytes(static_cast<size_t>(params_.rows.count * out_stride_ * element));
    std::vector<float> lse(static_cast<size_t>(params_.rows.count * params_.lse_row_stride));
    IC_REQUIRE_CUDA(cudaMemcpy(bytes.data(), out_.data(), bytes.size(), cudaMemcpyDeviceToHost));
    IC_REQUIRE_CUDA(cudaMemcpy(lse.data(), lse_.data(), lse.size() * 4, cudaMemcpyDeviceToHost));
    result.out.resize(static_cast<size_t>(params_.rows.count * width));
    for (int64_t row = 0; row < params_.rows.count; ++row) {
      const uint8_t *at = bytes.data() + row * out_stride_ * element;
      cpu::convert_to_f32(params_.out_dtype, at, result.out.data() + row * width, width);
      EXPECT_TRUE(std::all_of(at + width * element, at + out_stride_ * element, [](uint8_t b) { return b == 0xff; }));
      const auto first = lse.begin() + row * params_.lse_row_stride;
      result.lse.insert(result.lse.end(), first, first + params_.num_heads);
    }
    result.fault = fault_.read()[0];
    return result;
  }

 private:
  static std::vector<uint8_t> strided_queries(const AttendProblem &problem, const AttendShift &shift) {
    if (shift.q_stride == 0) return problem.q_bytes;
    const AttendParams p = problem.params();
    const int64_t element = ic::dtype_bytes(p.q_dtype);
    const int64_t row_bytes = p.q_row_stride * element, stride = (p.q_row_stride + shift.q_stride) * element;
    std::vector<uint8_t> bytes(static_cast<size_t>(stride * p.rows.count), 0xff);
    for (int64_t row = 0; row < p.rows.count; ++row) {
      std::memcpy(bytes.data() + row * stride, problem.q_bytes.data() + row * row_bytes,
                  static_cast<size_t>(row_bytes));
    }
    return bytes;
  }

  Backend &backend_;
  AttendParams params_;
  AttendShift shift_;
  DeviceArray<uint8_t> pool_, q_;
  DeviceArray<int32_t> table_, indices_, lengths_, seq_;
  DeviceArray<int64_t> offsets_;
  DeviceArray<float> sink_;
  DeviceArray<uint32_t> fault_;
  int64_t out_stride_;
  DeviceArray<uint8_t> out_;
  DeviceArray<float> lse_;
  DeviceArray<uint8_t> workspace_;
};

/// Largest deviations met, in units of what is allowed: for the log.
struct AttendError {
  double out = 0, lse = 0;
};

/// Compares with the definition in double.
///   scores   an fp32 sum of n products is off by at most n * 2^-24 of the sum of magnitudes; the tensor cores truncate
///            their 36 partial sums, so 36 * 2^-23 of it
///   outputs  an error e of all scores moves a weighted mean by 2 e of the mean of magnitudes; weights in bf16 move it
///   by
///            2^-8 of that; so does a bf16 output by its own half unit
inline AttendError expect_near_definition(const AttendProblem &problem, const AttendResult &result, bool tensor_cores) {
  const AttendShape &shape = problem.shape();
  const AttendParams p = problem.params();
  const int32_t d = shape.d_latent + shape.d_rope;
  const double per_score = tensor_cores ? 36 * 0x1p-23 : d / 16 * 0x1p-23;
  const double per_weight = tensor_cores ? 0x1p-8 : 0x1p-19;
  const double per_output = shape.out_dtype == IC_DTYPE_BF16 ? 0x1p-8 : 0x1p-22;
  constexpr double kInf = std::numeric_limits<double>::infinity();
  std::vector<AttendError> errors(static_cast<size_t>(shape.rows));
  const auto check_row = [&](int32_t row) {
    AttendError &worst = errors[static_cast<size_t>(row)];
    const std::vector<int32_t> &list = problem.lists[static_cast<size_t>(row)];
    const int32_t sequence = problem.seq[static_cast<size_t>(row)];
    for (int32_t h = 0; h < shape.num_heads; ++h) {
      const size_t at = static_cast<size_t>(row * shape.num_heads + h);
      const float *q = &problem.queries[at * static_cast<size_t>(d)];
      std::vector<double> scores;
      double maximum = -kInf, score_error = 0;
      for (const int32_t token : list) {
        double dot = 0, magnitude = 0;
        const float *k = problem.key(sequence, token);
        for (int32_t i = 0; i < d; ++i) {
          const double product = static_cast<double>(q[i]) * static_cast<double>(k[i]);
          dot += product;
          magnitude += std::fabs(product);
        }
        scores.push_back(dot * static_cast<double>(p.softmax_scale));
        maximum = std::max(maximum, scores.back());
        score_error = std::max(score_error, magnitude * static_cast<double>(p.softmax_scale) * per_score);
      }
      std::vector<double> out(static_cast<size_t>(shape.d_latent)), magnitude(out.size());
      double sum = 0;
      for (size_t i = 0; i < list.size(); ++i) {
        const double weight = std::exp(scores[i] - maximum);
        const float *v = problem.key(sequence, list[i]);
        sum += weight;
        for (size_t c = 0; c < out.size(); ++c) {
          out[c] += weight * static_cast<double>(v[c]);
          magnitude[c] += weight * std::fabs(static_cast<double>(v[c]));
        }
      }
      const double lse = maximum + std::log(sum);
      if (p.sink != nullptr) sum += std::exp(static_cast<double>(p.sink[h]) - maximum);
      if (list.empty()) {
        EXPECT_EQ(static_cast<double>(result.lse[at]), -kInf) << "row " << row << ", head " << h;
      } else {
        const double allowed = score_error + 2e-6 * std::max(1.0, std::fabs(lse));
        const double off = std::fabs(static_cast<double>(result.lse[at]) - lse) / allowed;
        worst.lse = std::max(worst.lse, off);
        EXPECT_LE(off, 1) << "lse " << result.lse[at] << " of row " << row << ", head " << h << " is " << lse;
        if (!(off <= 1)) return;
      }
      for (size_t c = 0; c < out.size(); ++c) {
        const double expected = list.empty() ? 0.0 : out[c] / sum;
        const double scale = list.empty() ? 0.0 : magnitude[c] / sum;
        const double allowed =
            (per_weight + 2 * score_error) * scale + per_output * (std::fabs(expected) + per_weight * scale) + 1e-30;
        const double got = static_cast<double>(result.out[at * out.size() + c]);
        const double off = std::fabs(got - expected) / allowed;
        worst.out = std::max(worst.out, off);
        EXPECT_LE(off, 1) << "out " << got << " of row " << row << ", head " << h << ", column " << c << " is "
                          << expected << " within " << allowed;
        if (!(off <= 1)) return;
      }
    }
  };
  std::atomic<int32_t> next{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < std::max(1u, std::thread::hardware_concurrency()); ++t) {
    threads.emplace_back([&] {
      for (int32_t row = next++; row < shape.rows; row = next++) check_row(row);
    });
  }
  for (std::thread &thread : threads) thread.join();
  AttendError worst;
  for (const AttendError &error : errors) {
    worst = {std::max(worst.out, error.out), std::max(worst.lse, error.lse)};
  }
  return worst;
}

/// Same bits.
inline void expect_same_bits(const AttendResult &a, const AttendResult &b) {
  ASSERT_EQ(a.out.size(), b.out.size());
  ASSERT_EQ(a.lse.size(), b.lse.size());
  EXPECT_EQ(a.fault, b.fault);
  for (size_t i = 0; i < a.out.size(); ++i)
    ASSERT_EQ(cpu::bits_from_f32(a.out[i]), cpu::bits_from_f32(b.out[i])) << "out " << i;
  for (size_t i = 0; i < a.lse.size(); ++i)
    ASSERT_EQ(cpu::bits_from_f32(a.lse[i]), cpu::bits_from_f32(b.lse[i])) << "lse " << i;
}

}  // namespace ic::test
