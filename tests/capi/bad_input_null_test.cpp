// SPDX-License-Identifier: Apache-2.0
// Every pointer of the header NULL in turn: parameters of functions and fields of structs. The list is compared with
// the exported symbols and with the description of the header, so that a new pointer cannot be forgotten.
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tests/capi/small_problem.h"

namespace ic::test {
namespace {

using Call = std::function<ic_status(SmallProblem &)>;

struct Case {
  std::string owner;  // a function or a struct
  std::string pointer;
  const char *named;  // how the message names it; null = NULL is allowed
  Call call;
  int32_t dtype = IC_DTYPE_F32;
};

std::ostream &operator<<(std::ostream &to, const Case &which) { return to << which.owner << '.' << which.pointer; }

template <class Function>
Call quiet(Function function) {  // of functions without a status
  return [function](SmallProblem &p) {
    function(p);
    return IC_OK;
  };
}

void ignore_log(void *, int32_t, const char *) {}
void run_inline(void *, int64_t count, ic_task_fn task, void *data) {
  for (int64_t i = 0; i < count; ++i) task(data, i);
}
void *no_memory(void *, size_t) { return nullptr; }
void free_nothing(void *, void *, size_t) {}

std::vector<Case> functions_without_pointers() {
  return {{"ic_version", "", nullptr, quiet([](SmallProblem &) { ic_version(); })},
          {"ic_build_info", "", nullptr, quiet([](SmallProblem &) { ic_build_info(); })},
          {"ic_status_string", "", nullptr, quiet([](SmallProblem &) { ic_status_string(0); })}};
}

std::vector<Case> parameters_of_create_and_queries() {
#define IC_CALL(...) [](SmallProblem &p) -> ic_status { return __VA_ARGS__; }
#define IC_MAKE(handle, ...)              \
  [](SmallProblem &p) -> ic_status {      \
    handle *out = nullptr;                \
    const ic_status status = __VA_ARGS__; \
    handle##_destroy(out);                \
    (void)p;                              \
    return status;                        \
  }
  return {
      {"ic_last_error", "buffer", nullptr, quiet([](SmallProblem &) { ic_last_error(nullptr, 0); })},
      {"ic_context_create", "desc", "desc", IC_MAKE(ic_context, ic_context_create(nullptr, &out))},
      {"ic_context_create", "out", "out", IC_CALL(ic_context_create(&p.context_desc, nullptr))},
      {"ic_context_destroy", "context", nullptr, quiet([](SmallProblem &) { ic_context_destroy(nullptr); })},
      {"ic_device_count", "count", "count", IC_CALL(((void)p, ic_device_count(IC_BACKEND_CPU, nullptr)))},
      {"ic_device_get_caps", "caps", "caps", IC_CALL(((void)p, ic_device_get_caps(IC_BACKEND_CPU, 0, nullptr)))},
      {"ic_schedule_create", "desc", "desc", IC_MAKE(ic_schedule, ic_schedule_create(nullptr, &out))},
      {"ic_schedule_create", "out", "out", IC_CALL(ic_schedule_create(&p.schedule_desc, nullptr))},
      {"ic_schedule_destroy", "schedule", nullptr, quiet([](SmallProblem &) { ic_schedule_destroy(nullptr); })},
      {"ic_schedule_get_info", "schedule", "schedule", IC_CALL(ic_schedule_get_info(nullptr, &p.schedule_info))},
      {"ic_schedule_get_info", "info", "info", IC_CALL(ic_schedule_get_info(p.schedule, nullptr))},
      {"ic_schedule_get_layer", "schedule", "schedule", IC_CALL(ic_schedule_get_layer(nullptr, 0, &p.layer_info))},
      {"ic_schedule_get_layer", "info", "info", IC_CALL(ic_schedule_get_layer(p.schedule, 0, nullptr))},
      {"ic_schedule_get_cut", "schedule", "schedule", IC_CALL(ic_schedule_get_cut(nullptr, 1, &p.number))},
      {"ic_schedule_get_cut", "source_layer", "source_layer", IC_CALL(ic_schedule_get_cut(p.schedule, 1, nullptr))},
      {"ic_schedule_get_cache_slot", "schedule", "schedule",
       IC_CALL(ic_schedule_get_cache_slot(nullptr, 0, 1, &p.number))},
      {"ic_schedule_get_cache_slot", "slot", "slot", IC_CALL(ic_schedule_get_cache_slot(p.schedule, 0, 1, nullptr))},
      {"ic_schedule_pattern", "schedule", "schedule", IC_CALL(ic_schedule_pattern(nullptr, p.text, &p.size))},
      {"ic_schedule_pattern", "buffer", "buffer", IC_CALL(ic_schedule_pattern(p.schedule, nullptr, &p.size))},
      {"ic_schedule_pattern", "size", "size", IC_CALL(ic_schedule_pattern(p.schedule, p.text, nullptr))},
      {"ic_schedule_explain", "schedule", "schedule", IC_CALL(ic_schedule_explain(nullptr, p.text, &p.size))},
      {"ic_schedule_explain", "buffer", "buffer", IC_CALL(ic_schedule_explain(p.schedule, nullptr, &p.size))},
      {"ic_schedule_explain", "size", "size", IC_CALL(ic_schedule_explain(p.schedule, p.text, nullptr))},
      {"ic_schedule_export", "schedule", "schedule",
       IC_CALL(ic_schedule_export(nullptr, IC_ENGINE_VLLM, p.text, &p.size))},
      {"ic_schedule_export", "buffer", "buffer",
       IC_CALL(ic_schedule_export(p.schedule, IC_ENGINE_VLLM, nullptr, &p.size))},
      {"ic_schedule_export", "size", "size", IC_CALL(ic_schedule_export(p.schedule, IC_ENGINE_VLLM, p.text, nullptr))},
      {"ic_search_create", "desc", "desc", IC_MAKE(ic_search, ic_search_create(nullptr, &out))},
      {"ic_search_create", "out", "out", IC_CALL(ic_search_create(&p.search_desc, nullptr))},
      {"ic_search_destroy", "search", nullptr, quiet([](SmallProblem &) { ic_search_destroy(nullptr); })},
      {"ic_search_next", "search", "search", IC_CALL(ic_search_next(nullptr, &p.candidate))},
      {"ic_search_next", "candidate", "candidate", IC_CALL(ic_search_next(p.search, nullptr))},
      {"ic_search_candidate_pattern", "search", "search",
       IC_CALL(ic_search_candidate_pattern(nullptr, 0, p.text, &p.size))},
      {"ic_search_candidate_pattern", "buffer", "buffer",
       IC_CALL(ic_search_candidate_pattern(p.search, 0, nullptr, &p.size))},
      {"ic_search_candidate_pattern", "size", "size",
       IC_CALL(ic_search_candidate_pattern(p.search, 0, p.text, nullptr))},
      {"ic_search_tell", "search", "search", IC_CALL(((void)p, ic_search_tell(nullptr, 4, 1.0)))},
      {"ic_search_reject", "search", "search", IC_CALL(((void)p, ic_search_reject(nullptr, 4)))},
      {"ic_search_release", "search", "search", IC_CALL(((void)p, ic_search_release(nullptr, 4)))},
      {"ic_search_get_info", "search", "search", IC_CALL(ic_search_get_info(nullptr, &p.search_info))},
      {"ic_search_get_info", "info", "info", IC_CALL(ic_search_get_info(p.search, nullptr))},
      {"ic_search_accepted", "search", "search", IC_CALL(ic_search_accepted(nullptr, p.text, &p.size))},
      {"ic_search_accepted", "buffer", "buffer", IC_CALL(ic_search_accepted(p.search, nullptr, &p.size))},
      {"ic_search_accepted", "size", "size", IC_CALL(ic_search_accepted(p.search, p.text, nullptr))},
      {"ic_search_get_step", "search", "search", IC_CALL(ic_search_get_step(nullptr, 0, &p.search_step))},
      {"ic_search_get_step", "info", "info", IC_CALL(ic_search_get_step(p.search, 0, nullptr))},
      {"ic_search_step_pattern", "search", "search", IC_CALL(ic_search_step_pattern(nullptr, 0, p.text, &p.size))},
      {"ic_search_step_pattern", "buffer", "buffer", IC_CALL(ic_search_step_pattern(p.search, 0, nullptr, &p.size))},
      {"ic_search_step_pattern", "size", "size", IC_CALL(ic_search_step_pattern(p.search, 0, p.text, nullptr))},
      {"ic_search_journal", "search", "search", IC_CALL(ic_search_journal(nullptr, 0, p.text, &p.size))},
      {"ic_search_journal", "buffer", "buffer", IC_CALL(ic_search_journal(p.search, 0, nullptr, &p.size))},
      {"ic_search_journal", "size", "size", IC_CALL(ic_search_journal(p.search, 0, p.text, nullptr))},
      {"ic_indexer_create", "context", "context",
       IC_MAKE(ic_indexer, ic_indexer_create(nullptr, &p.indexer_desc, &out))},
      {"ic_indexer_create", "desc", "desc", IC_MAKE(ic_indexer, ic_indexer_create(p.context, nullptr, &out))},
      {"ic_indexer_create", "out", "out", IC_CALL(ic_indexer_create(p.context, &p.indexer_desc, nullptr))},
      {"ic_indexer_destroy", "indexer", nullptr, quiet([](SmallProblem &) { ic_indexer_destroy(nullptr); })},
      {"ic_indexer_get_info", "indexer", "indexer", IC_CALL(ic_indexer_get_info(nullptr, &p.indexer_info))},
      {"ic_indexer_get_info", "info", "info", IC_CALL(ic_indexer_get_info(p.indexer, nullptr))},
      {"ic_indexer_scores_workspace_size", "indexer", "indexer",
       IC_CALL(ic_indexer_scores_workspace_size(nullptr, 1, 1, &p.size))},
      {"ic_indexer_scores_workspace_size", "size", "size",
       IC_CALL(ic_indexer_scores_workspace_size(p.indexer, 1, 1, nullptr))},
      {"ic_topk_create", "context", "context", IC_MAKE(ic_topk, ic_topk_create(nullptr, &p.topk_desc, &out))},
      {"ic_topk_create", "desc", "desc", IC_MAKE(ic_topk, ic_topk_create(p.context, nullptr, &out))},
      {"ic_topk_create", "out", "out", IC_CALL(ic_topk_create(p.context, &p.topk_desc, nullptr))},
      {"ic_topk_destroy", "topk", nullptr, quiet([](SmallProblem &) { ic_topk_destroy(nullptr); })},
      {"ic_topk_select_workspace_size", "topk", "topk", IC_CALL(ic_topk_select_workspace_size(nullptr, 1, 1, &p.size))},
      {"ic_topk_select_workspace_size", "size", "size", IC_CALL(ic_topk_select_workspace_size(p.topk, 1, 1, nullptr))},
      {"ic_topk_merge_workspace_size", "topk", "topk", IC_CALL(ic_topk_merge_workspace_size(nullptr, 1, 1, &p.size))},
      {"ic_topk_merge_workspace_size", "size", "size", IC_CALL(ic_topk_merge_workspace_size(p.topk, 1, 1, nullptr))},
      {"ic_attention_create", "context", "context",
       IC_MAKE(ic_attention, ic_attention_create(nullptr, &p.attention_desc, &out))},
      {"ic_attention_create", "desc", "desc", IC_MAKE(ic_attention, ic_attention_create(p.context, nullptr, &out))},
      {"ic_attention_create", "out", "out", IC_CALL(ic_attention_create(p.context, &p.attention_desc, nullptr))},
      {"ic_attention_destroy", "attention", nullptr, quiet([](SmallProblem &) { ic_attention_destroy(nullptr); })},
      {"ic_attention_workspace_size", "attention", "attention",
       IC_CALL(ic_attention_workspace_size(nullptr, 1, 1, &p.size))},
      {"ic_attention_workspace_size", "size", "size", IC_CALL(ic_attention_workspace_size(p.attention, 1, 1, nullptr))},
      {"ic_attention_mass_workspace_size", "attention", "attention",
       IC_CALL(ic_attention_mass_workspace_size(nullptr, 1, 1, &p.size))},
      {"ic_attention_mass_workspace_size", "size", "size",
       IC_CALL(ic_attention_mass_workspace_size(p.attention, 1, 1, nullptr))},
      {"ic_cache_memory_size", "desc", "desc", IC_CALL(ic_cache_memory_size(nullptr, &p.size))},
      {"ic_cache_memory_size", "size", "size", IC_CALL(ic_cache_memory_size(&p.cache_desc, nullptr))},
      {"ic_cache_create", "context", "context", IC_MAKE(ic_cache, ic_cache_create(nullptr, &p.cache_desc, &out))},
      {"ic_cache_create", "desc", "desc", IC_MAKE(ic_cache, ic_cache_create(p.context, nullptr, &out))},
      {"ic_cache_create", "out", "out", IC_CALL(ic_cache_create(p.context, &p.cache_desc, nullptr))},
      {"ic_cache_destroy", "cache", nullptr, quiet([](SmallProblem &) { ic_cache_destroy(nullptr); })},
      {"ic_cache_reset", "cache", "cache", IC_CALL(((void)p, ic_cache_reset(nullptr)))},
      {"ic_cache_get_info", "cache", "cache", IC_CALL(ic_cache_get_info(nullptr, &p.cache_info))},
      {"ic_cache_get_info", "info", "info", IC_CALL(ic_cache_get_info(p.cache, nullptr))},
      {"ic_cache_get_view", "cache", "cache", IC_CALL(ic_cache_get_view(nullptr, 0, &p.view))},
      {"ic_cache_get_view", "view", "view", IC_CALL(ic_cache_get_view(p.cache, 0, nullptr))},
      {"ic_cache_faults", "cache", "cache", IC_CALL(ic_cache_faults(nullptr, 0, &p.faults, nullptr))},
      {"ic_cache_faults", "faults", "faults", IC_CALL(ic_cache_faults(p.cache, 0, nullptr, nullptr))},
      {"ic_forward_workspace_size", "cache", "cache", IC_CALL(ic_forward_workspace_size(nullptr, 1, 1, &p.size))},
      {"ic_forward_workspace_size", "size", "size", IC_CALL(ic_forward_workspace_size(p.cache, 1, 1, nullptr))},
      {"ic_cache_compact_workspace_size", "cache", "cache",
       IC_CALL(ic_cache_compact_workspace_size(nullptr, 1, &p.size))},
      {"ic_cache_compact_workspace_size", "size", "size",
       IC_CALL(ic_cache_compact_workspace_size(p.cache, 1, nullptr))},
      {"ic_cache_export_size", "cache", "cache", IC_CALL(ic_cache_export_size(nullptr, 1, 0, &p.size))},
      {"ic_cache_export_size", "size", "size", IC_CALL(ic_cache_export_size(p.cache, 1, 0, nullptr))},
  };
#undef IC_MAKE
}

std::vector<Case> parameters_of_operations() {
  return {
      {"ic_indexer_scores", "indexer", "indexer", IC_CALL(ic_indexer_scores(nullptr, &p.batch, &p.scores, nullptr))},
      {"ic_indexer_scores", "batch", "batch", IC_CALL(ic_indexer_scores(p.indexer, nullptr, &p.scores, nullptr))},
      {"ic_indexer_scores", "args", "args", IC_CALL(ic_indexer_scores(p.indexer, &p.batch, nullptr, nullptr))},
      {"ic_indexer_scores", "stream", nullptr, IC_CALL(p.call_scores())},
      {"ic_topk_select", "topk", "topk", IC_CALL(ic_topk_select(nullptr, &p.select, nullptr))},
      {"ic_topk_select", "args", "args", IC_CALL(ic_topk_select(p.topk, nullptr, nullptr))},
      {"ic_topk_select", "stream", nullptr, IC_CALL(p.call_select())},
      {"ic_topk_merge", "topk", "topk", IC_CALL(ic_topk_merge(nullptr, &p.merge, nullptr))},
      {"ic_topk_merge", "args", "args", IC_CALL(ic_topk_merge(p.topk, nullptr, nullptr))},
      {"ic_topk_merge", "stream", nullptr, IC_CALL(p.call_merge())},
      {"ic_attention_run", "attention", "attention",
       IC_CALL(ic_attention_run(nullptr, &p.batch, 0, &p.given, &p.attend, p.attend_workspace, p.attend_workspace_size,
                                nullptr))},
      {"ic_attention_run", "batch", "batch",
       IC_CALL(ic_attention_run(p.attention, nullptr, 0, &p.given, &p.attend, p.attend_workspace,
                                p.attend_workspace_size, nullptr))},
      {"ic_attention_run", "indices", "indices",
       IC_CALL(ic_attention_run(p.attention, &p.batch, 0, nullptr, &p.attend, p.attend_workspace,
                                p.attend_workspace_size, nullptr))},
      {"ic_attention_run", "args", "args",
       IC_CALL(ic_attention_run(p.attention, &p.batch, 0, &p.given, nullptr, p.attend_workspace,
                                p.attend_workspace_size, nullptr))},
      {"ic_attention_run", "workspace", "workspace",
       IC_CALL(
           ic_attention_run(p.attention, &p.batch, 0, &p.given, &p.attend, nullptr, p.attend_workspace_size, nullptr))},
      {"ic_attention_run", "stream", nullptr, IC_CALL(p.call_attend())},
      {"ic_attention_mass", "attention", "attention",
       IC_CALL(ic_attention_mass(nullptr, &p.batch, 0, &p.given, &p.mass, p.mass_workspace, p.mass_workspace_size,
                                 nullptr))},
      {"ic_attention_mass", "batch", "batch",
       IC_CALL(ic_attention_mass(p.attention, nullptr, 0, &p.given, &p.mass, p.mass_workspace, p.mass_workspace_size,
                                 nullptr))},
      {"ic_attention_mass", "indices", "indices",
       IC_CALL(ic_attention_mass(p.attention, &p.batch, 0, nullptr, &p.mass, p.mass_workspace, p.mass_workspace_size,
                                 nullptr))},
      {"ic_attention_mass", "args", "args",
       IC_CALL(ic_attention_mass(p.attention, &p.batch, 0, &p.given, nullptr, p.mass_workspace, p.mass_workspace_size,
                                 nullptr))},
      {"ic_attention_mass", "workspace", "workspace",
       IC_CALL(
           ic_attention_mass(p.attention, &p.batch, 0, &p.given, &p.mass, nullptr, p.mass_workspace_size, nullptr))},
      {"ic_attention_mass", "stream", nullptr, IC_CALL(p.call_mass())},
      {"ic_cache_begin", "cache", "cache", IC_CALL(ic_cache_begin(nullptr, &p.batch))},
      {"ic_cache_begin", "batch", "batch", IC_CALL(ic_cache_begin(p.cache, nullptr))},
      {"ic_cache_faults", "stream", nullptr, IC_CALL(ic_cache_faults(p.cache, 0, &p.faults, nullptr))},
      {"ic_forward", "cache", "cache", IC_CALL(ic_forward(nullptr, &p.full, &p.view, nullptr))},
      {"ic_forward", "args", "args", IC_CALL(ic_forward(p.cache, nullptr, &p.view, nullptr))},
      {"ic_forward", "out", nullptr, IC_CALL(ic_forward(p.cache, &p.full, nullptr, nullptr))},
      {"ic_forward", "stream", nullptr, IC_CALL(p.call_shared())},
      {"ic_indexer_prepare_queries", "indexer", "indexer",
       IC_CALL(ic_indexer_prepare_queries(nullptr, &p.prepare_queries, nullptr))},
      {"ic_indexer_prepare_queries", "args", "args", IC_CALL(ic_indexer_prepare_queries(p.indexer, nullptr, nullptr))},
      {"ic_indexer_prepare_queries", "stream", nullptr, IC_CALL(p.call_prepare_queries())},
      {"ic_indexer_prepare_keys", "indexer", "indexer",
       IC_CALL(ic_indexer_prepare_keys(nullptr, &p.prepare_keys, nullptr))},
      {"ic_indexer_prepare_keys", "args", "args", IC_CALL(ic_indexer_prepare_keys(p.indexer, nullptr, nullptr))},
      {"ic_indexer_prepare_keys", "stream", nullptr, IC_CALL(p.call_prepare_keys())},
      {"ic_cache_remap", "cache", "cache", IC_CALL(ic_cache_remap(nullptr, &p.remap, &p.view, nullptr))},
      {"ic_cache_remap", "args", "args", IC_CALL(ic_cache_remap(p.cache, nullptr, &p.view, nullptr))},
      {"ic_cache_remap", "out", nullptr, IC_CALL(ic_cache_remap(p.cache, &p.remap, nullptr, nullptr))},
      {"ic_cache_remap", "stream", nullptr, IC_CALL(p.call_remap())},
      {"ic_cache_compact", "cache", "cache", IC_CALL(ic_cache_compact(nullptr, &p.compact, nullptr))},
      {"ic_cache_compact", "args", "args", IC_CALL(ic_cache_compact(p.cache, nullptr, nullptr))},
      {"ic_cache_compact", "stream", nullptr, IC_CALL(p.call_compact())},
      {"ic_cache_export", "cache", "cache",
       IC_CALL(ic_cache_export(nullptr, 0, 0, IC_MEMORY_HOST, p.exported, p.block_bytes, nullptr))},
      {"ic_cache_export", "buffer", "buffer",
       IC_CALL(ic_cache_export(p.cache, 0, 0, IC_MEMORY_HOST, nullptr, p.block_bytes, nullptr))},
      {"ic_cache_export", "stream", nullptr, IC_CALL(p.call_export())},
      {"ic_cache_import", "cache", "cache",
       IC_CALL(ic_cache_import(nullptr, 0, 0, p.block, p.block_bytes, &p.header, nullptr))},
      {"ic_cache_import", "buffer", "buffer",
       IC_CALL(ic_cache_import(p.cache, 0, 0, nullptr, p.block_bytes, &p.header, nullptr))},
      {"ic_cache_import", "header", nullptr,
       IC_CALL(ic_cache_import(p.cache, 0, 0, p.block, p.block_bytes, nullptr, nullptr))},
      {"ic_cache_import", "stream", nullptr, IC_CALL(p.call_import())},
      {"ic_index_overlap", "context", "context",
       IC_CALL(ic_index_overlap(nullptr, &p.given, &p.given, &p.overlap, nullptr))},
      {"ic_index_overlap", "a", "a is NULL",
       IC_CALL(ic_index_overlap(p.context, nullptr, &p.given, &p.overlap, nullptr))},
      {"ic_index_overlap", "b", "b is NULL",
       IC_CALL(ic_index_overlap(p.context, &p.given, nullptr, &p.overlap, nullptr))},
      {"ic_index_overlap", "out", "out", IC_CALL(ic_index_overlap(p.context, &p.given, &p.given, nullptr, nullptr))},
      {"ic_index_overlap", "stream", nullptr, IC_CALL(p.call_overlap())},
  };
}

std::vector<Case> fields_of_descs() {
#define IC_SPOIL(field, ...)         \
  [](SmallProblem &p) -> ic_status { \
    p.field = nullptr;               \
    return __VA_ARGS__;              \
  }
  const auto with_callbacks = [](void (*spoil)(ic_context_desc &)) {
    return [spoil](SmallProblem &p) {
      p.context_desc.log = ignore_log;
      p.context_desc.log_user = &p;
      p.context_desc.alloc = no_memory;
      p.context_desc.free = free_nothing;
      p.context_desc.alloc_user = &p;
      p.context_desc.parallel_for = run_inline;
      p.context_desc.parallel_user = &p;
      spoil(p.context_desc);
      return p.call_context_create();
    };
  };
  return {
      {"ic_context_desc", "log", nullptr, with_callbacks([](ic_context_desc &d) { d.log = nullptr; })},
      {"ic_context_desc", "log_user", nullptr, with_callbacks([](ic_context_desc &d) { d.log_user = nullptr; })},
      {"ic_context_desc", "alloc", "desc->alloc", with_callbacks([](ic_context_desc &d) { d.alloc = nullptr; })},
      {"ic_context_desc", "free", "desc->free", with_callbacks([](ic_context_desc &d) { d.free = nullptr; })},
      {"ic_context_desc", "alloc_user", nullptr, with_callbacks([](ic_context_desc &d) { d.alloc_user = nullptr; })},
      {"ic_context_desc", "parallel_for", nullptr,
       with_callbacks([](ic_context_desc &d) { d.parallel_for = nullptr; })},
      {"ic_context_desc", "parallel_user", nullptr,
       with_callbacks([](ic_context_desc &d) { d.parallel_user = nullptr; })},
      {"ic_schedule_desc", "pattern", nullptr, IC_SPOIL(schedule_desc.pattern, p.call_schedule_create())},
      {"ic_schedule_desc", "indexer_layers", "desc->indexer_layers",
       IC_SPOIL(schedule_desc.indexer_layers, p.call_schedule_create())},
      {"ic_schedule_desc", "config_json", nullptr, IC_SPOIL(schedule_desc.config_json, p.call_schedule_create())},
      {"ic_search_desc", "start", nullptr, IC_SPOIL(search_desc.start, p.call_search_create())},
      {"ic_search_desc", "keep_full", "desc->keep_full", IC_SPOIL(search_desc.keep_full, p.call_search_create())},
      {"ic_search_desc", "similarity", "desc->similarity", IC_SPOIL(search_desc.similarity, p.call_search_create())},
      {"ic_search_desc", "journal", "desc->journal", IC_SPOIL(search_desc.journal, p.call_search_create())},
      {"ic_cache_desc", "schedule", "desc->schedule", IC_SPOIL(cache_desc.schedule, p.call_cache_create())},
      {"ic_cache_desc", "schedule", "desc->schedule",
       IC_SPOIL(cache_desc.schedule, ic_cache_memory_size(&p.cache_desc, &p.size))},
      {"ic_cache_desc", "indexer", "desc->indexer", IC_SPOIL(cache_desc.indexer, p.call_cache_create())},
      {"ic_cache_desc", "topk", "desc->topk", IC_SPOIL(cache_desc.topk, p.call_cache_create())},
      {"ic_cache_desc", "attention", nullptr, IC_SPOIL(cache_desc.attention, p.call_cache_create())},
      {"ic_cache_desc", "memory", nullptr, IC_SPOIL(cache_desc.memory, p.call_cache_create())},
      {"ic_cache_desc", "memory", "desc->memory",
       [](SmallProblem &p) {
         p.cache_desc.memory_size = size_t{1} << 20;
         return p.call_cache_create();
       }},
      {"ic_cache_desc", "epoch", nullptr, IC_SPOIL(cache_desc.epoch, p.call_cache_create())},
  };
}

std::vector<Case> fields_of_arguments() {
  const auto flat = [](Call call) {
    return [call](SmallProblem &p) {
      p.full.keys = &p.flat_keys;
      p.full.new_keys = nullptr;
      return call(p);
    };
  };
  return {
      {"ic_block_table", "pages", "pages", IC_SPOIL(tables[0].pages, p.call_begin())},
      {"ic_batch", "row_seq", nullptr, IC_SPOIL(batch.row_seq, p.call_begin())},
      {"ic_batch", "key_begin", nullptr, IC_SPOIL(batch.key_begin, p.call_begin())},
      {"ic_batch", "key_end", "batch->key_end", IC_SPOIL(batch.key_end, p.call_begin())},
      {"ic_batch", "key_end", "batch->key_end", IC_SPOIL(batch.key_end, p.call_scores())},
      {"ic_batch", "key_end", "batch->key_end", IC_SPOIL(batch.key_end, p.call_attend())},
      {"ic_batch", "block_tables", "batch->block_tables", IC_SPOIL(batch.block_tables, p.call_begin())},
      {"ic_batch", "key_offsets", nullptr, IC_SPOIL(batch.key_offsets, p.call_begin())},
      {"ic_pool", "data", "args->keys->data", IC_SPOIL(keys.data, p.call_full())},
      {"ic_pool", "data", "args->keys->data", IC_SPOIL(flat_keys.data, p.call_scores())},
      {"ic_pool", "data", "args->kv->data", IC_SPOIL(kv.data, p.call_attend())},
      {"ic_pool", "data", "args->pool->data", IC_SPOIL(prepared.data, p.call_prepare_keys())},
      {"ic_pool", "scales", "args->keys->scales", flat(IC_SPOIL(flat_keys.scales, p.call_full())), IC_DTYPE_E4M3},
      {"ic_pool", "scales", "args->keys->scales", IC_SPOIL(flat_keys.scales, p.call_scores()), IC_DTYPE_E4M3},
      {"ic_pool", "scales", "args->pool->scales", IC_SPOIL(prepared.scales, p.call_prepare_keys()), IC_DTYPE_E4M3},
      {"ic_pool", "scales", nullptr, IC_SPOIL(keys.scales, p.call_full())},
      {"ic_queries", "q", "args->queries->q", IC_SPOIL(queries.q, p.call_full())},
      {"ic_queries", "q", "args->queries->q", IC_SPOIL(queries.q, p.call_scores())},
      {"ic_queries", "w", "args->queries->w", IC_SPOIL(queries.w, p.call_full())},
      {"ic_queries", "q_scale", nullptr, IC_SPOIL(queries.q_scale, p.call_full())},
      {"ic_scores_args", "queries", "args->queries", IC_SPOIL(scores.queries, p.call_scores())},
      {"ic_scores_args", "keys", "args->keys", IC_SPOIL(scores.keys, p.call_scores())},
      {"ic_scores_args", "scores", "args->scores", IC_SPOIL(scores.scores, p.call_scores())},
      {"ic_scores_args", "workspace", "args->workspace", IC_SPOIL(scores.workspace, p.call_scores())},
      {"ic_select_args", "scores", "args->scores", IC_SPOIL(select.scores, p.call_select())},
      {"ic_select_args", "begin", nullptr, IC_SPOIL(select.begin, p.call_select())},
      {"ic_select_args", "end", "args->end", IC_SPOIL(select.end, p.call_select())},
      {"ic_select_args", "indices", "args->indices", IC_SPOIL(select.indices, p.call_select())},
      {"ic_select_args", "lengths", "args->lengths", IC_SPOIL(select.lengths, p.call_select())},
      {"ic_select_args", "selected_scores", nullptr, IC_SPOIL(select.selected_scores, p.call_select())},
      {"ic_select_args", "workspace", "args->workspace", IC_SPOIL(select.workspace, p.call_select())},
      {"ic_merge_args", "in_indices", "args->in_indices", IC_SPOIL(merge.in_indices, p.call_merge())},
      {"ic_merge_args", "in_scores", "args->in_scores", IC_SPOIL(merge.in_scores, p.call_merge())},
      {"ic_merge_args", "in_lengths", "args->in_lengths", IC_SPOIL(merge.in_lengths, p.call_merge())},
      {"ic_merge_args", "indices", "args->indices", IC_SPOIL(merge.indices, p.call_merge())},
      {"ic_merge_args", "lengths", "args->lengths", IC_SPOIL(merge.lengths, p.call_merge())},
      {"ic_merge_args", "selected_scores", nullptr, IC_SPOIL(merge.selected_scores, p.call_merge())},
      {"ic_merge_args", "workspace", "args->workspace", IC_SPOIL(merge.workspace, p.call_merge())},
      {"ic_attention_args", "q", "args->attention->q", IC_SPOIL(attend.q, p.call_shared())},
      {"ic_attention_args", "q", "args->q", IC_SPOIL(attend.q, p.call_attend())},
      {"ic_attention_args", "kv", "args->attention->kv", IC_SPOIL(attend.kv, p.call_shared())},
      {"ic_attention_args", "kv", "args->kv", IC_SPOIL(attend.kv, p.call_attend())},
      {"ic_attention_args", "sink", nullptr, IC_SPOIL(attend.sink, p.call_attend())},
      {"ic_attention_args", "out", "args->attention->out", IC_SPOIL(attend.out, p.call_full())},
      {"ic_attention_args", "out", "args->out", IC_SPOIL(attend.out, p.call_attend())},
      {"ic_attention_args", "lse", nullptr, IC_SPOIL(attend.lse, p.call_attend())},
      {"ic_mass_args", "q", "args->q", IC_SPOIL(mass.q, p.call_mass())},
      {"ic_mass_args", "kv", "args->kv", IC_SPOIL(mass.kv, p.call_mass())},
      {"ic_mass_args", "sink", nullptr, IC_SPOIL(mass.sink, p.call_mass())},
      {"ic_mass_args", "mass", "args->mass", IC_SPOIL(mass.mass, p.call_mass())},
      {"ic_index_view", "indices", "indices->indices", IC_SPOIL(given.indices, p.call_attend())},
      {"ic_index_view", "indices", "a->indices", IC_SPOIL(given.indices, p.call_overlap())},
      {"ic_index_view", "lengths", "indices->lengths", IC_SPOIL(given.lengths, p.call_attend())},
      {"ic_index_view", "lengths", "a->lengths", IC_SPOIL(given.lengths, p.call_overlap())},
      {"ic_index_view", "scores", nullptr, IC_SPOIL(given.scores, p.call_attend())},
      {"ic_new_keys", "keys", "args->new_keys->keys", IC_SPOIL(new_keys.keys, p.call_full())},
      {"ic_new_keys", "scales", "args->new_keys->scales", IC_SPOIL(new_keys.scales, p.call_full()), IC_DTYPE_E4M3},
      {"ic_new_keys", "scales", nullptr, IC_SPOIL(new_keys.scales, p.call_full())},
      {"ic_new_keys", "slots", "args->new_keys->slots", IC_SPOIL(new_keys.slots, p.call_full())},
      {"ic_forward_args", "queries", "args->queries", IC_SPOIL(full.queries, p.call_full())},
      {"ic_forward_args", "queries", nullptr, IC_SPOIL(shared.queries, p.call_shared())},
      {"ic_forward_args", "keys", "args->keys", IC_SPOIL(full.keys, p.call_full())},
      {"ic_forward_args", "keys", "args->keys",
       [](SmallProblem &p) {
         p.shared.new_keys = &p.new_keys;
         return p.call_shared();
       }},
      {"ic_forward_args", "keys", nullptr, IC_SPOIL(shared.keys, p.call_shared())},
      {"ic_forward_args", "new_keys", nullptr, IC_SPOIL(full.new_keys, p.call_full())},
      {"ic_forward_args", "attention", nullptr, IC_SPOIL(full.attention, p.call_full())},
      {"ic_forward_args", "hint", nullptr, IC_SPOIL(full.hint, p.call_full())},
      {"ic_forward_args", "candidates", nullptr, IC_SPOIL(full.candidates, p.call_full())},
      {"ic_forward_args", "workspace", "args->workspace", IC_SPOIL(full.workspace, p.call_full())},
      {"ic_forward_args", "workspace", "args->workspace", IC_SPOIL(shared.workspace, p.call_shared())},
      {"ic_forward_args", "workspace", nullptr,
       [](SmallProblem &p) {
         p.shared.attention = nullptr;
         p.shared.workspace = nullptr;
         p.shared.workspace_size = 0;
         return p.call_shared();
       }},
      {"ic_prepare_args", "x", "args->x", IC_SPOIL(prepare_queries.x, p.call_prepare_queries())},
      {"ic_prepare_args", "x", "args->x", IC_SPOIL(prepare_keys.x, p.call_prepare_keys())},
      {"ic_prepare_args", "positions", "args->positions",
       IC_SPOIL(prepare_queries.positions, p.call_prepare_queries())},
      {"ic_prepare_args", "positions", "args->positions", IC_SPOIL(prepare_keys.positions, p.call_prepare_keys())},
      {"ic_prepare_args", "cos_table", "args->cos_table",
       IC_SPOIL(prepare_queries.cos_table, p.call_prepare_queries())},
      {"ic_prepare_args", "sin_table", "args->sin_table", IC_SPOIL(prepare_keys.sin_table, p.call_prepare_keys())},
      {"ic_prepare_args", "norm_weight", "args->norm_weight",
       IC_SPOIL(prepare_keys.norm_weight, p.call_prepare_keys())},
      {"ic_prepare_args", "norm_bias", nullptr, IC_SPOIL(prepare_keys.norm_bias, p.call_prepare_keys())},
      {"ic_prepare_args", "q_out", "args->q_out", IC_SPOIL(prepare_queries.q_out, p.call_prepare_queries())},
      {"ic_prepare_args", "q_scale_out", "args->q_scale_out",
       IC_SPOIL(prepare_queries.q_scale_out, p.call_prepare_queries()), IC_DTYPE_E4M3},
      {"ic_prepare_args", "pool", "args->pool", IC_SPOIL(prepare_keys.pool, p.call_prepare_keys())},
      {"ic_prepare_args", "slots", "args->slots", IC_SPOIL(prepare_keys.slots, p.call_prepare_keys())},
      {"ic_remap_args", "slots", "args->slots", IC_SPOIL(remap.slots, p.call_remap())},
      {"ic_remap_args", "lengths", "args->lengths", IC_SPOIL(remap.lengths, p.call_remap())},
      {"ic_compact_args", "rows", "args->rows", IC_SPOIL(compact.rows, p.call_compact())},
      {"ic_compact_args", "workspace", "args->workspace", IC_SPOIL(compact.workspace, p.call_compact())},
      {"ic_overlap_args", "intersection", nullptr, IC_SPOIL(overlap.intersection, p.call_overlap())},
      {"ic_overlap_args", "recall", nullptr, IC_SPOIL(overlap.recall, p.call_overlap())},
      {"ic_overlap_args", "jaccard", nullptr, IC_SPOIL(overlap.jaccard, p.call_overlap())},
      {"ic_overlap_args", "mass", "out->mass", IC_SPOIL(overlap.mass, p.call_overlap())},
      {"ic_overlap_args", "mass", nullptr,
       [](SmallProblem &p) {
         p.overlap.mass = nullptr;
         p.overlap.mass_recall = nullptr;
         return p.call_overlap();
       }},
      {"ic_overlap_args", "mass_recall", nullptr, IC_SPOIL(overlap.mass_recall, p.call_overlap())},
  };
#undef IC_SPOIL
#undef IC_CALL
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (auto *part : {functions_without_pointers, parameters_of_create_and_queries, parameters_of_operations,
                     fields_of_descs, fields_of_arguments}) {
    const std::vector<Case> more = part();
    cases.insert(cases.end(), more.begin(), more.end());
  }
  return cases;
}

/// The CPU backend needs a workspace for every operation that takes one; others may need none for some.
bool needs_no_workspace(const SmallProblem &problem, const std::string &owner) {
  if (host_sees_values()) return false;
  if (owner == "ic_attention_run") return problem.attend_workspace_size == 0;
  if (owner == "ic_scores_args") return problem.scores.workspace_size == 0;
  if (owner == "ic_select_args") return problem.select.workspace_size == 0;
  return owner == "ic_merge_args" && problem.merge.workspace_size == 0;
}

void try_all(int32_t dtype) {
  SmallProblem problem({.dtype = dtype});
  const std::vector<uint8_t> expected = problem.run_all();
  int tried = 0;
  for (const Case &one : all_cases()) {
    if (one.dtype != dtype) continue;
    SCOPED_TRACE(testing::Message() << one);
    ++tried;
    const bool needless = one.pointer == "workspace" && needs_no_workspace(problem, one.owner);
    if (one.named != nullptr && !needless) {
      EXPECT_TRUE(refuses(problem, IC_ERROR_NULL_POINTER, {one.named, "NULL"}, [&] { return one.call(problem); }));
    } else {
      problem.ready();
      EXPECT_TRUE(accepts(problem, [&] { return one.call(problem); }));
      problem.ready();
    }
  }
  EXPECT_GT(tried, 3);
  EXPECT_TRUE(problem.run_all() == expected) << "valid calls no longer give the same results";
}

TEST(BadInputNull, EveryPointerIsRefusedByNameOrOptional) { try_all(IC_DTYPE_F32); }
TEST(BadInputNull, PointersThatOnlyE4m3Needs) { try_all(IC_DTYPE_E4M3); }

TEST(BadInputNull, EveryExportedFunctionIsTried) {
  std::set<std::string> tried;
  for (const Case &one : all_cases()) tried.insert(one.owner);
  std::ifstream file(INDEXCACHE_TEST_DIR "/abi/symbols.txt");
  std::set<std::string> exported;
  for (std::string name; file >> name;) exported.insert(name);
  EXPECT_GE(exported.size(), 53u);
  for (const std::string &name : exported) EXPECT_EQ(tried.count(name), 1u) << name << " is exported, but not tried";
}

TEST(BadInputNull, EveryPointerOfTheHeaderIsTried) {
  std::ifstream file(INDEXCACHE_TEST_DIR "/../bindings/api.json");
  const auto api = nlohmann::json::parse(file);
  std::set<std::string> callbacks{"ic_stream"};
  for (const auto &callback : api.at("callbacks")) callbacks.insert(callback.at("name"));
  const auto is_pointer = [&](const nlohmann::json &type) {
    return type.contains("pointers") || callbacks.count(type.at("base")) != 0;
  };
  std::set<std::string> wanted, tried;
  for (const auto &function : api.at("functions"))
    for (const auto &param : function.at("params"))
      if (is_pointer(param.at("type")))
        wanted.insert(function.at("name").get<std::string>() + "." + param.at("name").get<std::string>());
  for (const auto &record : api.at("structs"))
    for (const auto &field : record.at("fields"))
      if (is_pointer(field.at("type")))
        wanted.insert(record.at("name").get<std::string>() + "." + field.at("name").get<std::string>());
  for (const Case &one : all_cases())
    if (!one.pointer.empty()) tried.insert(one.owner + "." + one.pointer);
  EXPECT_GE(wanted.size(), 190u);
  for (const std::string &name : wanted) EXPECT_EQ(tried.count(name), 1u) << name << " is not tried";
  for (const std::string &name : tried) EXPECT_EQ(wanted.count(name), 1u) << name << " is no pointer of the header";
}

}  // namespace
}  // namespace ic::test
