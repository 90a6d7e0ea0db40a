// SPDX-License-Identifier: Apache-2.0
// The tables of model types. A new model of the DSA kind is one line here.
#include "core/schedule_models.h"

namespace ic {
namespace {

using Kind = ModelFamily::Kind;

constexpr KnownModel kKnown[] = {
    {"deepseek_v32", Kind::kDeepseekV32},
    {"DeepseekV32ForCausalLM", Kind::kDeepseekV32},
    {"glm_moe_dsa", Kind::kGlmMoeDsa},  // GLM-5, 5.1, 5.2, 5.3
    {"GlmMoeDsaForCausalLM", Kind::kGlmMoeDsa},
    {"hy_v4", Kind::kHyV4},
    {"HYV4ForCausalLM", Kind::kHyV4},
    {"deepseek_v4", Kind::kDeepseekV4},  // Flash and Pro
    {"DeepseekV4ForCausalLM", Kind::kDeepseekV4},
};

constexpr char kCandidatePool[] = "later indexers score only a candidate pool that an earlier layer publishes";
constexpr char kPooledKeys[] = "its indexer scores pooled keys and always adds the last incomplete pool";
constexpr char kBlockSelection[] = "it selects blocks of keys per KV group, not keys";
constexpr char kPooledBlocks[] = "its indexer scores pooled blocks of 4 keys without head weights (QSA)";
constexpr char kForcedEntries[] = "its selection has forced sink and window entries (LSA)";
constexpr char kMixedWindows[] = "its sparse layers are mixed with sliding-window layers of another geometry";
constexpr char kDense[] = "it has no lightning indexer";

constexpr ForeignModel kForeign[] = {
    {"deepseek_v41", kCandidatePool},
    {"deepseek_v41_text", kCandidatePool},
    {"DeepseekV41ForCausalLM", kCandidatePool},
    {"glm5_next", kPooledKeys},  // GLM-5.3-Flash
    {"glm5_next_text", kPooledKeys},
    {"Glm5NextForConditionalGeneration", kPooledKeys},
    {"minimax_m3", kBlockSelection},
    {"minimax_m3_text", kBlockSelection},
    {"minimax_m3_vl", kBlockSelection},
    {"MiniMaxM3SparseForConditionalGeneration", kBlockSelection},
    {"MiniMaxM3SparseForCausalLM", kBlockSelection},
    {"qwen3_8_flash_next", kPooledBlocks},
    {"qwen3_8_flash_next_text", kPooledBlocks},
    {"qwen4_exp", kPooledBlocks},
    {"qwen4_exp_text", kPooledBlocks},
    {"Qwen4ExpForConditionalGeneration", kPooledBlocks},
    {"longcat_flash_sparse", kForcedEntries},
    {"longcat_flash_lsa", kForcedEntries},
    {"LongcatCausalLM", kForcedEntries},  // its config.json has no model_type
    {"openpangu_v2", kMixedWindows},
    {"openpangu_v2_vl_moe", kMixedWindows},
    {"openpangu_v2_omni_moe", kMixedWindows},
    {"pangu_v2_moe", kMixedWindows},
    {"OpenPanguV2ForCausalLM", kMixedWindows},
    {"dots3_note", kMixedWindows},
    {"dots3_note_omni", kMixedWindows},
    {"deepseek_v2", kDense},
    {"deepseek_v3", kDense},
    {"glm4_moe", kDense},
    {"glm4_moe_lite", kDense},
    {"kimi_k2", kDense},
    {"longcat_flash", kDense},
};

template <class Row, size_t N>
const Row *find(const Row (&table)[N], std::string_view name) noexcept {
  for (const Row &row : table) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

}  // namespace

const KnownModel *find_known_model(std::string_view name) noexcept { return find(kKnown, name); }
const ForeignModel *find_foreign_model(std::string_view name) noexcept { return find(kForeign, name); }

const ForeignField kForeignFields[] = {
    {"candidate_source_layer_id", kCandidatePool},
    {"candidate_topk_blocks", kCandidatePool},
    {"index_source_layer_ids", kCandidatePool},
    {"kv_source_layer_ids", kCandidatePool},
    {"index_kpool", kPooledKeys},
    {"sparse_attention_config", kBlockSelection},
    {"sparse_index_refresh_interval", kBlockSelection},
    {"indexer_compress_ratio", kPooledBlocks},
    {"indexer_budget", kPooledBlocks},
};
const int kNumForeignFields = static_cast<int>(sizeof kForeignFields / sizeof *kForeignFields);

}  // namespace ic
