// SPDX-License-Identifier: Apache-2.0
// The schedule as text for people: who computes, who reads, and what the inputs did not agree on.
#include <cinttypes>
#include <cstdio>

#include "core/schedule.h"

namespace ic {
namespace {

std::string number(int32_t value) { return std::to_string(value); }

void list(std::string *out, const char *title, const std::vector<std::string> &lines) {
  if (lines.empty()) return;
  *out += title;
  *out += ":\n";
  for (const std::string &line : lines) *out += "  " + line + "\n";
}

}  // namespace

std::string Schedule::explain() const {
  const int32_t num_none = num_layers() - num_full_ - num_shared_;
  std::string out = "layers: " + number(num_layers());
  if (num_mtp_layers() != 0) out += " and " + number(num_mtp_layers()) + " MTP";
  out += "; " + number(num_full_) + " Full, " + number(num_shared_) + " Shared";
  if (num_none != 0) out += ", " + number(num_none) + " without indexed attention";
  char hash[24];
  std::snprintf(hash, sizeof hash, "0x%016" PRIx64, hash_);
  out += "\npattern: " + parts_.pattern + "\nhash: " + hash + "\n";
  if (!parts_.family.model_type.empty()) out += "model: " + parts_.family.model_type + "\n";
  out += "architecture: " + parts_.architecture + "\noverride: " + parts_.override + "\n";

  out += "groups:\n";
  for (const GlobalLayer full : key_layers_) {
    const std::span<const GlobalLayer> readers = consumers(full);
    out += "  layer " + number(raw(full)) + (is_mtp(full) ? " (MTP) Full" : " Full");
    if (is_mtp(full)) {
      out += ", computes at draft step 0; a later step that shares reads its own step 0";
    } else if (readers.empty()) {
      out += ", read by nobody else";
    } else {
      out += readers.size() == 1 ? ", read by Shared layer" : ", read by Shared layers";
      for (const GlobalLayer reader : readers) out.append(" ").append(number(raw(reader)));
    }
    out += "\n";
  }
  std::string none;
  for (int32_t i = 0; i < num_all_layers(); ++i) {
    if (mode(GlobalLayer{i}) == LayerMode::kNone) none.append(" ").append(number(i));
  }
  if (!none.empty()) out += "without indexed attention:" + none + "\n";
  std::string unused;
  for (const GlobalLayer layer : indexer_layers_) {
    if (mode(layer) == LayerMode::kShared) unused.append(" ").append(number(raw(layer)));
  }
  if (!unused.empty()) out += "indexers that do not run:" + unused + "\n";
  list(&out, "disagreements", parts_.conflicts);
  list(&out, "warnings", parts_.warnings);
  return out;
}

}  // namespace ic
