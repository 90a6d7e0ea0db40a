// SPDX-License-Identifier: Apache-2.0
// ic_search: arguments in, candidates and steps out.
#include <string>

#include "capi/guard.h"
#include "capi/validate.h"
#include "core/search_handle.h"

namespace {

/// A list of the caller's with its length; NULL stands for an empty one.
template <class T>
std::span<const T> read_list(const T *items, int32_t count, const char *name, const char *count_name) {
  ic::require_range(count, 0, INT32_MAX, {"desc", count_name});
  if (count != 0) ic::require_pointer(items, {"desc", name});
  ic::require_aligned(items, alignof(T), {"desc", name});
  return {items, static_cast<size_t>(count)};
}

ic::SearchRequest read_request(const ic_search_desc &desc) {
  ic::SearchRequest request;
  request.num_layers = desc.num_layers;
  request.strategy = desc.strategy;
  if (desc.start != nullptr) request.start = desc.start;
  request.keep_full = read_list(desc.keep_full, desc.num_keep_full, "keep_full", "num_keep_full");
  request.num_full = desc.num_full;
  request.max_full = desc.max_full;
  request.num_blocks = desc.num_blocks;
  request.loss_budget = desc.loss_budget;
  request.similarity = read_list(desc.similarity, desc.num_similarity, "similarity", "num_similarity");
  request.num_samples = desc.num_samples;
  request.seed = desc.seed;
  return request;
}

void write_text(std::string_view text, char *buffer, size_t *size) {
  ic::write_text(text.data(), text.size(), buffer, size);
}

const ic::Search &require_step(const ic_search *search, int32_t step) {
  ic::require_pointer(search, "search");
  const int32_t steps = search->search.num_steps();
  if (steps == 0) ic::fail(IC_ERROR_INVALID_ARGUMENT, "step is %d; no step has been accepted yet", step);
  ic::require_range(step, 0, steps - 1, "step");
  return search->search;
}

}  // namespace

extern "C" {

ic_status ic_search_create(const ic_search_desc *desc, ic_search **out) {
  return ic::guarded([&] {
    ic::require_array(out, alignof(ic_search *), "out");
    *out = nullptr;
    const ic_search_desc fields = ic::read_struct(desc, "desc");
    if (fields.journal_size != 0) ic::require_pointer(fields.journal, "desc->journal");
    const std::string_view journal(fields.journal, fields.journal_size);
    *out = new ic_search(ic::plan_search(read_request(fields)), journal);
  });
}

void ic_search_destroy(ic_search *search) { ic::Ref<ic_search>::release(search); }

ic_status ic_search_next(ic_search *search, ic_search_candidate *candidate) {
  return ic::guarded([&] {
    ic::require_pointer(search, "search");
    ic::require_output(candidate, "candidate");
    const ic::Search::Candidate found = search->search.next().value_or(ic::Search::Candidate{});
    ic_search_candidate filled = IC_SEARCH_CANDIDATE_INIT;
    filled.id = found.id;
    filled.step = found.step;
    filled.layer = found.layer;
    filled.first_layer = found.first_layer;
    filled.num_full = found.num_full;
    ic::write_struct(candidate, filled);
  });
}

ic_status ic_search_candidate_pattern(const ic_search *search, int64_t id, char *buffer, size_t *size) {
  return ic::guarded([&] {
    ic::require_pointer(search, "search");
    write_text(search->search.candidate_pattern(id), buffer, size);
  });
}

ic_status ic_search_tell(ic_search *search, int64_t id, double loss) {
  return ic::guarded([&] {
    ic::require_pointer(search, "search");
    search->search.tell(id, loss);
  });
}

ic_status ic_search_reject(ic_search *search, int64_t id) {
  return ic::guarded([&] {
    ic::require_pointer(search, "search");
    search->search.reject(id);
  });
}

ic_status ic_search_release(ic_search *search, int64_t id) {
  return ic::guarded([&] {
    ic::require_pointer(search, "search");
    search->search.release(id);
  });
}

ic_status ic_search_get_info(const ic_search *search, ic_search_info *info) {
  return ic::guarded([&] {
    ic::require_pointer(search, "search");
    ic::require_output(info, "info");
    const ic::Search &s = search->search;
    ic_search_info filled = IC_SEARCH_INFO_INIT;
    filled.state = static_cast<int32_t>(s.state());
    filled.num_steps = s.num_steps();
    filled.num_full = ic::count_full(s.accepted());
    filled.target_num_full = s.target_num_full();
    filled.baseline_loss = s.baseline_loss();
    filled.accepted_loss = s.accepted_loss();
    filled.num_evaluated = s.counts().evaluated;
    filled.num_rejected = s.counts().rejected;
    filled.num_handed_out = s.counts().handed_out;
    filled.num_planned = s.counts().planned;
    filled.journal_size = static_cast<int64_t>(s.journal().size());
    filled.journal_resumed = static_cast<int64_t>(s.journal_resumed());
    ic::write_struct(info, filled);
  });
}

ic_status ic_search_accepted(const ic_search *search, char *buffer, size_t *size) {
  return ic::guarded([&] {
    ic::require_pointer(search, "search");
    write_text(search->search.accepted(), buffer, size);
  });
}

ic_status ic_search_get_step(const ic_search *search, int32_t step, ic_search_step *info) {
  return ic::guarded([&] {
    const ic::Search &s = require_step(search, step);
    ic::require_output(info, "info");
    const ic::Search::Step accepted = s.step(step);
    ic_search_step filled = IC_SEARCH_STEP_INIT;
    filled.id = accepted.id;
    filled.loss = accepted.loss;
    filled.layer = accepted.layer;
    filled.num_full = accepted.num_full;
    ic::write_struct(info, filled);
  });
}

ic_status ic_search_step_pattern(const ic_search *search, int32_t step, char *buffer, size_t *size) {
  return ic::guarded([&] { write_text(require_step(search, step).step_pattern(step), buffer, size); });
}

ic_status ic_search_journal(const ic_search *search, int64_t from_byte, char *buffer, size_t *size) {
  return ic::guarded([&] {
    ic::require_pointer(search, "search");
    const std::string_view journal = search->search.journal();
    ic::require_range(from_byte, 0, static_cast<int64_t>(journal.size()), "from_byte");
    write_text(journal.substr(static_cast<size_t>(from_byte)), buffer, size);
  });
}

}  // extern "C"
