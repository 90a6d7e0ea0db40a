// SPDX-License-Identifier: Apache-2.0
// config.json of the DSA family: GLM-5 to 5.3, DeepSeek-V3.2 and V4, Hy4.
#include "core/schedule_config.h"

#include "core/failure.h"
#include "core/schedule_json.h"
#include "core/schedule_models.h"

namespace ic {
namespace {

using Kind = ConfigValue::Kind;

constexpr char kOrigin[] = "config.json";

/// The value of a member, or null where it is absent or JSON null.
const ConfigValue *find_in(const ConfigMembers &members, std::string_view name) {
  const ConfigValue *found = nullptr;
  for (const auto &[key, value] : members) {
    if (key != name || value.is(Kind::kNull)) continue;
    if (found != nullptr && *found != value) {
      fail(IC_ERROR_SCHEDULE_CONFLICT, "%s: %s is there twice, as %s and as %s", kOrigin, key.c_str(),
           found->shown().c_str(), value.shown().c_str());
    }
    found = &value;
  }
  return found;
}

/// The fields of one config: those of text_config, and those that engines inject beside it.
class Fields {
 public:
  Fields(const ConfigText &config, bool precedence) : config_(config), precedence_(precedence) {
    const ConfigValue *nested = find_in(config.outer, "text_config");
    if (nested == nullptr) return;
    if (!nested->is(Kind::kObject)) {
      fail(IC_ERROR_PARSE, "%s: text_config is %s; allowed: an object", kOrigin, nested->shown().c_str());
    }
    nested_ = true;
  }

  bool nested() const { return nested_; }
  const ConfigMembers &outer() const { return config_.outer; }
  const ConfigMembers &text() const { return nested_ ? config_.text : config_.outer; }

  /// The value of a field, or null where it is absent or JSON null.
  const ConfigValue *find(const char *name) const {
    const ConfigValue *inner = find_in(text(), name);
    const ConfigValue *beside = nested_ ? find_in(config_.outer, name) : nullptr;
    if (inner == nullptr) return beside;
    if (beside != nullptr && *beside != *inner && !precedence_) {
      fail(IC_ERROR_SCHEDULE_CONFLICT, "%s: %s is %s beside text_config and %s inside; the two must agree", kOrigin,
           name, beside->shown().c_str(), inner->shown().c_str());
    }
    return inner;
  }

  std::optional<int64_t> integer(const char *name) const {
    const ConfigValue *value = find_kind(name, Kind::kInteger, "an integer or null");
    if (value == nullptr) return std::nullopt;
    return value->integer;
  }

  std::optional<bool> boolean(const char *name) const {
    const ConfigValue *value = find_kind(name, Kind::kBoolean, "true, false or null");
    if (value == nullptr) return std::nullopt;
    return value->boolean;
  }

  const ConfigValue *array(const char *name) const { return find_kind(name, Kind::kArray, "a list or null"); }

  int32_t count(const char *name, int32_t absent, int32_t low) const {
    const int64_t value = integer(name).value_or(absent);
    if (value < low || value > kMaxScheduleLayers) {
      fail(IC_ERROR_INVALID_ARGUMENT, "%s: %s is %lld; allowed: %d to %d", kOrigin, name, static_cast<long long>(value),
           low, kMaxScheduleLayers);
    }
    return static_cast<int32_t>(value);
  }

 private:
  const ConfigValue *find_kind(const char *name, Kind kind, const char *allowed) const {
    const ConfigValue *value = find(name);
    if (value != nullptr && !value->is(kind)) {
      fail(IC_ERROR_PARSE, "%s: %s is %s; allowed: %s", kOrigin, name, value->shown().c_str(), allowed);
    }
    return value;
  }

  const ConfigText &config_;
  bool precedence_;
  bool nested_ = false;
};

/// model_type, or the first architecture where a checkpoint has none (LongCat). Empty: neither.
std::string name_of(const ConfigMembers &members) {
  const ConfigValue *type = find_in(members, "model_type");
  if (type != nullptr && type->is(Kind::kString)) return type->text;
  const ConfigValue *architectures = find_in(members, "architectures");
  if (architectures != nullptr && !architectures->items.empty() && architectures->items[0].is(Kind::kString)) {
    return architectures->items[0].text;
  }
  return {};
}

void refuse_foreign(const std::string &name) {
  if (const ForeignModel *model = find_foreign_model(name)) {
    fail(IC_ERROR_MODEL_UNSUPPORTED, "%s: model_type %s is not a model whose indices this library can share: %s",
         kOrigin, name.c_str(), model->mechanism);
  }
}

/// A field that says "nothing of the kind here": off, empty, or a pool of one key.
bool is_neutral(const ConfigValue &value, std::string_view name) {
  switch (value.kind) {
    case Kind::kBoolean:
      return !value.boolean;
    case Kind::kArray:
    case Kind::kObject:
      return value.size == 0;
    case Kind::kInteger:
    case Kind::kNumber:
      if (name == "index_kpool") return value.number <= 1;
      return value.number <= (name == "candidate_source_layer_id" ? -1 : 0);
    default:
      return false;
  }
}

ModelFamily read_family(const Fields &fields) {
  ModelFamily family;
  family.nested = fields.nested();
  const std::string outer = name_of(fields.outer());
  std::string name = fields.nested() ? name_of(fields.text()) : outer;
  refuse_foreign(outer);
  refuse_foreign(name);
  if (name.empty()) name = outer;
  for (int i = 0; i < kNumForeignFields; ++i) {
    const ConfigValue *value = fields.find(kForeignFields[i].name);
    if (value != nullptr && !is_neutral(*value, kForeignFields[i].name)) {
      fail(IC_ERROR_MODEL_UNSUPPORTED, "%s: %s is %s: %s; allowed: absent", kOrigin, kForeignFields[i].name,
           value->shown().c_str(), kForeignFields[i].mechanism);
    }
  }
  const KnownModel *known = find_known_model(name);
  if (known == nullptr) {
    fail(IC_ERROR_MODEL_UNSUPPORTED,
         "%s: model_type %.64s is unknown; known: glm_moe_dsa, deepseek_v32, deepseek_v4, hy_v4. For another model of "
         "that kind give num_layers, indexer_layers and the pattern instead of its config",
         kOrigin, name.empty() ? "(absent)" : name.c_str());
  }
  family.kind = known->kind;
  family.model_type = name;
  return family;
}

char letter_of(const ConfigValue &entry, const char *name, size_t layer) {
  if (entry.is_string("full") || entry.is_string("F")) return 'F';
  if (entry.is_string("shared") || entry.is_string("S")) return 'S';
  const char *hint = entry.is(Kind::kInteger) ? " (a list of layer numbers is not a pattern)" : "";
  fail(IC_ERROR_PARSE, "%s: %s has %s at layer %zu%s; allowed: \"full\", \"shared\", \"F\", \"S\"", kOrigin, name,
       entry.shown().c_str(), layer, hint);
}

std::string letters_of(const ConfigValue &list, const char *name) {
  std::string letters;
  letters.reserve(list.size);
  for (size_t i = 0; i < list.size; ++i) letters += letter_of(list.items[i], name, i);
  return letters;
}

void read_override(const Fields &fields, OverrideFields *override) {
  if (const ConfigValue *pattern = fields.find("index_topk_pattern")) {
    if (pattern->is(Kind::kString)) {
      override->pattern = pattern->text;
    } else if (pattern->is(Kind::kArray)) {
      override->pattern = letters_of(*pattern, "index_topk_pattern");
    } else {
      fail(IC_ERROR_PARSE, "%s: index_topk_pattern is %s; allowed: a string, a list or null", kOrigin,
           pattern->shown().c_str());
    }
  }
  override->freq = fields.integer("index_topk_freq");
  override->offset = fields.integer("index_skip_topk_offset");
}

/// Every layer of this family is sparse; layer_types, where given, must say so.
void check_layer_types(const Fields &fields) {
  const ConfigValue *types = fields.array("layer_types");
  if (types == nullptr) return;
  for (size_t i = 0; i < types->size; ++i) {
    const ConfigValue &type = types->items[i];
    if (type.is_string("deepseek_sparse_attention") || type.is_string("indexed_attention") ||
        type.is_string("sparse_attention") || type.is_string("sparse")) {
      continue;
    }
    fail(IC_ERROR_MODEL_UNSUPPORTED,
         "%s: layer_types has %s at layer %zu; allowed: deepseek_sparse_attention, "
         "indexed_attention, sparse_attention, sparse",
         kOrigin, type.shown().c_str(), i);
  }
}

/// DeepSeek-V4: an indexer lives only in layers that compress 4 keys to one.
std::vector<bool> read_compressed_layers(const Fields &fields, int32_t num_layers, int32_t total) {
  const ConfigValue *ratios = fields.array("compress_ratios");
  const ConfigValue *types = fields.array("layer_types");
  if (ratios == nullptr && types == nullptr) {
    fail(IC_ERROR_INVALID_ARGUMENT, "%s: compress_ratios and layer_types are absent; deepseek_v4 needs one of them",
         kOrigin);
  }
  const auto check_length = [&](const ConfigValue &list, const char *name) {
    if (list.size >= static_cast<size_t>(num_layers)) return;
    fail(IC_ERROR_INVALID_ARGUMENT, "%s: %s has %zu entries; allowed: %d and more, one per layer", kOrigin, name,
         list.size, num_layers);
  };
  const size_t entries = static_cast<size_t>(total);
  std::vector<bool> sparse(entries, false);  // an MTP layer that nobody describes is a sliding window
  if (ratios != nullptr) {
    check_length(*ratios, "compress_ratios");
    for (size_t i = 0; i < ratios->size; ++i) {
      const ConfigValue &ratio = ratios->items[i];
      if (!ratio.is(Kind::kInteger) ||
          (ratio.integer != 0 && ratio.integer != 1 && ratio.integer != 4 && ratio.integer != 128)) {
        fail(IC_ERROR_MODEL_UNSUPPORTED, "%s: compress_ratios has %s at layer %zu; allowed: 0, 1, 4, 128", kOrigin,
             ratio.shown().c_str(), i);
      }
      if (i < entries) sparse[i] = ratio.integer == 4;
    }
  }
  if (types != nullptr) {
    check_length(*types, "layer_types");
    for (size_t i = 0; i < types->size && i < entries; ++i) {
      const ConfigValue &type = types->items[i];
      const bool compressed = type.is_string("compressed_sparse_attention");
      if (!compressed && !type.is_string("heavily_compressed_attention") && !type.is_string("sliding_attention")) {
        fail(IC_ERROR_MODEL_UNSUPPORTED,
             "%s: layer_types has %s at layer %zu; allowed: compressed_sparse_attention, "
             "heavily_compressed_attention, sliding_attention",
             kOrigin, type.shown().c_str(), i);
      }
      if (ratios == nullptr) {
        sparse[i] = compressed;
      } else if (sparse[i] != compressed && i < static_cast<size_t>(num_layers)) {
        fail(IC_ERROR_SCHEDULE_CONFLICT, "%s: layer %zu has compress_ratio %s and layer_type %s; the two must agree",
             kOrigin, i, ratios->items[i].shown().c_str(), type.shown().c_str());
      }
    }
  }
  return sparse;
}

}  // namespace

ConfigFields read_config(std::string_view text, bool precedence) {
  const ConfigText parsed = parse_config_text(text);
  if (parsed.kind != Kind::kObject) {
    fail(IC_ERROR_PARSE, "%s: the top level is %s; allowed: an object", kOrigin, kind_name(parsed.kind));
  }
  const Fields fields(parsed, precedence);

  ConfigFields config;
  config.family = read_family(fields);
  if (fields.find("num_hidden_layers") == nullptr) {
    fail(IC_ERROR_INVALID_ARGUMENT, "%s: num_hidden_layers is absent; allowed: 1 to %d", kOrigin, kMaxScheduleLayers);
  }
  config.num_layers = fields.count("num_hidden_layers", 0, 1);
  config.num_mtp_layers = fields.count("num_nextn_predict_layers", 0, 0);
  if (config.family.kind == ModelFamily::Kind::kDeepseekV4) {
    config.sparse = read_compressed_layers(fields, config.num_layers, config.num_layers + config.num_mtp_layers);
    if (const ConfigValue *types = fields.find("indexer_types")) {
      fail(IC_ERROR_MODEL_UNSUPPORTED, "%s: indexer_types is %s; allowed for deepseek_v4: absent", kOrigin,
           types->shown().c_str());
    }
  } else {
    if (const ConfigValue *ratios = fields.find("compress_ratios")) {
      fail(IC_ERROR_MODEL_UNSUPPORTED, "%s: compress_ratios is %s; allowed only for deepseek_v4", kOrigin,
           ratios->shown().c_str());
    }
    check_layer_types(fields);
    if (const ConfigValue *types = fields.array("indexer_types"))
      config.indexer_types = letters_of(*types, "indexer_types");
  }
  read_override(fields, &config.override);
  config.use_index_cache = fields.boolean("use_index_cache");
  config.mtp_can_share = fields.boolean("index_share_for_mtp_iteration").value_or(false);
  return config;
}

}  // namespace ic
