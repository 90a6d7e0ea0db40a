// SPDX-License-Identifier: Apache-2.0
// config.json of the DSA family: GLM-5 to 5.3, DeepSeek-V3.2 and V4, Hy4. The only file that includes a JSON parser.
#include "core/schedule_config.h"

#include <nlohmann/json.hpp>

#include "core/failure.h"
#include "core/schedule_models.h"

namespace ic {
namespace {

using Json = nlohmann::json;

constexpr char kOrigin[] = "config.json";

/// Long values are cut in messages; the reader of a log knows them by their beginning.
std::string shown(const Json &value) {
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > 40) text = text.substr(0, 37) + "...";
  return text;
}

/// The fields of one config: those of text_config, and those that engines inject beside it.
class Fields {
 public:
  Fields(const Json &root, bool precedence) : outer_(root), text_(&root), precedence_(precedence) {
    const auto nested = root.find("text_config");
    if (nested == root.end() || nested->is_null()) return;
    if (!nested->is_object()) {
      fail(IC_ERROR_PARSE, "%s: text_config is %s; allowed: an object", kOrigin, nested->type_name());
    }
    text_ = &*nested;
  }

  bool nested() const { return text_ != &outer_; }
  const Json &outer() const { return outer_; }
  const Json &text() const { return *text_; }

  /// The value of a field, or null where it is absent or JSON null.
  const Json *find(const char *name) const {
    const Json *inner = find_in(*text_, name);
    const Json *outer = nested() ? find_in(outer_, name) : nullptr;
    if (inner == nullptr) return outer;
    if (outer != nullptr && *outer != *inner && !precedence_) {
      fail(IC_ERROR_SCHEDULE_CONFLICT, "%s: %s is %s beside text_config and %s inside; the two must agree", kOrigin,
           name, shown(*outer).c_str(), shown(*inner).c_str());
    }
    return inner;
  }

  std::optional<int64_t> integer(const char *name) const {
    const Json *value = find(name);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number_integer() || (value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX)) {
      fail(IC_ERROR_PARSE, "%s: %s is %s; allowed: an integer or null", kOrigin, name, shown(*value).c_str());
    }
    return value->get<int64_t>();
  }

  std::optional<bool> boolean(const char *name) const {
    const Json *value = find(name);
    if (value == nullptr) return std::nullopt;
    if (!value->is_boolean()) {
      fail(IC_ERROR_PARSE, "%s: %s is %s; allowed: true, false or null", kOrigin, name, shown(*value).c_str());
    }
    return value->get<bool>();
  }

  const Json *array(const char *name) const {
    const Json *value = find(name);
    if (value != nullptr && !value->is_array()) {
      fail(IC_ERROR_PARSE, "%s: %s is %s; allowed: a list or null", kOrigin, name, shown(*value).c_str());
    }
    return value;
  }

  int32_t count(const char *name, int32_t absent, int32_t low) const {
    const int64_t value = integer(name).value_or(absent);
    if (value < low || value > kMaxScheduleLayers) {
      fail(IC_ERROR_INVALID_ARGUMENT, "%s: %s is %lld; allowed: %d to %d", kOrigin, name,
           static_cast<long long>(value), low, kMaxScheduleLayers);
    }
    return static_cast<int32_t>(value);
  }

 private:
  static const Json *find_in(const Json &object, const char *name) {
    const auto it = object.find(name);
    return it == object.end() || it->is_null() ? nullptr : &*it;
  }

  const Json &outer_;
  const Json *text_;
  bool precedence_;
};

/// model_type, or the first architecture where a checkpoint has none (LongCat). Empty: neither.
std::string name_of(const Json &object) {
  const auto type = object.find("model_type");
  if (type != object.end() && type->is_string()) return type->get<std::string>();
  const auto architectures = object.find("architectures");
  if (architectures != object.end() && architectures->is_array() && !architectures->empty() &&
      architectures->front().is_string()) {
    return architectures->front().get<std::string>();
  }
  return {};
}

void refuse_foreign(const std::string &name) {
  if (const ForeignModel *model = find_foreign_model(name)) {
    fail(IC_ERROR_MODEL_UNSUPPORTED, "%s: model_type %s is not a model whose indices this library can share: %s", kOrigin,
         name.c_str(), model->mechanism);
  }
}

/// A field that says "nothing of the kind here": off, empty, or a pool of one key.
bool is_neutral(const Json &value, std::string_view name) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_structured()) return value.empty();
  if (value.is_number()) return value.get<double>() <= (name == "index_kpool" ? 1.0 : name == "candidate_source_layer_id" ? -1.0 : 0.0);
  return false;
}

ModelFamily read_family(const Fields &fields, bool allow_unknown_model) {
  ModelFamily family;
  family.nested = fields.nested();
  const std::string outer = name_of(fields.outer());
  std::string name = fields.nested() ? name_of(fields.text()) : outer;
  refuse_foreign(outer);
  refuse_foreign(name);
  if (name.empty()) name = outer;
  for (int i = 0; i < kNumForeignFields; ++i) {
    const Json *value = fields.find(kForeignFields[i].name);
    if (value != nullptr && !is_neutral(*value, kForeignFields[i].name)) {
      fail(IC_ERROR_MODEL_UNSUPPORTED, "%s: %s is %s: %s; allowed: absent", kOrigin, kForeignFields[i].name,
           shown(*value).c_str(), kForeignFields[i].mechanism);
    }
  }
  if (const KnownModel *known = find_known_model(name)) {
    family.kind = known->kind;
  } else if (!allow_unknown_model) {
    fail(IC_ERROR_MODEL_UNSUPPORTED,
         "%s: model_type %.64s is unknown; known: glm_moe_dsa, deepseek_v32, deepseek_v4, hy_v4 (a flag reads it as "
         "plain DSA)",
         kOrigin, name.empty() ? "(absent)" : name.c_str());
  }
  family.model_type = name;
  return family;
}

char letter_of(const Json &entry, const char *name, size_t layer) {
  if (entry.is_string()) {
    const auto &word = entry.get_ref<const std::string &>();
    if (word == "full" || word == "F") return 'F';
    if (word == "shared" || word == "S") return 'S';
  }
  const char *hint = entry.is_number() ? " (a list of layer numbers is not a pattern)" : "";
  fail(IC_ERROR_PARSE, "%s: %s has %s at layer %zu%s; allowed: \"full\", \"shared\", \"F\", \"S\"", kOrigin,
       name, shown(entry).c_str(), layer, hint);
}

std::string letters_of(const Json &list, const char *name) {
  std::string letters;
  letters.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) letters += letter_of(list[i], name, i);
  return letters;
}

void read_override(const Fields &fields, OverrideFields *override) {
  if (const Json *pattern = fields.find("index_topk_pattern")) {
    if (pattern->is_string()) {
      override->pattern = pattern->get<std::string>();
    } else if (pattern->is_array()) {
      override->pattern = letters_of(*pattern, "index_topk_pattern");
    } else {
      fail(IC_ERROR_PARSE, "%s: index_topk_pattern is %s; allowed: a string, a list or null", kOrigin,
           shown(*pattern).c_str());
    }
  }
  override->freq = fields.integer("index_topk_freq");
  override->offset = fields.integer("index_skip_topk_offset");
}

/// Every layer of this family is sparse; layer_types, where given, must say so.
void check_layer_types(const Fields &fields) {
  const Json *types = fields.array("layer_types");
  if (types == nullptr) return;
  for (size_t i = 0; i < types->size(); ++i) {
    const Json &type = (*types)[i];
    if (type == "deepseek_sparse_attention" || type == "indexed_attention" || type == "sparse_attention" ||
        type == "sparse") {
      continue;
    }
    fail(IC_ERROR_MODEL_UNSUPPORTED, "%s: layer_types has %s at layer %zu; allowed: deepseek_sparse_attention, "
         "indexed_attention, sparse_attention, sparse", kOrigin, shown(type).c_str(), i);
  }
}

/// DeepSeek-V4: an indexer lives only in layers that compress 4 keys to one.
std::vector<bool> read_compressed_layers(const Fields &fields, int32_t num_layers, int32_t total) {
  const Json *ratios = fields.array("compress_ratios");
  const Json *types = fields.array("layer_types");
  if (ratios == nullptr && types == nullptr) {
    fail(IC_ERROR_INVALID_ARGUMENT, "%s: compress_ratios and layer_types are absent; deepseek_v4 needs one of them",
         kOrigin);
  }
  const auto check_length = [&](const Json &list, const char *name) {
    if (list.size() >= static_cast<size_t>(num_layers)) return;
    fail(IC_ERROR_INVALID_ARGUMENT, "%s: %s has %zu entries; allowed: %d and more, one per layer", kOrigin, name,
         list.size(), num_layers);
  };
  const size_t entries = static_cast<size_t>(total);
  std::vector<bool> sparse(entries, false);  // an MTP layer that nobody describes is a sliding window
  if (ratios != nullptr) {
    check_length(*ratios, "compress_ratios");
    for (size_t i = 0; i < ratios->size(); ++i) {
      const Json &ratio = (*ratios)[i];
      if (ratio != 0 && ratio != 1 && ratio != 4 && ratio != 128) {
        fail(IC_ERROR_MODEL_UNSUPPORTED, "%s: compress_ratios has %s at layer %zu; allowed: 0, 1, 4, 128", kOrigin,
             shown(ratio).c_str(), i);
      }
      if (i < entries) sparse[i] = ratio == 4;
    }
  }
  if (types != nullptr) {
    check_length(*types, "layer_types");
    for (size_t i = 0; i < types->size() && i < entries; ++i) {
      const Json &type = (*types)[i];
      const bool compressed = type == "compressed_sparse_attention";
      if (!compressed && type != "heavily_compressed_attention" && type != "sliding_attention") {
        fail(IC_ERROR_MODEL_UNSUPPORTED, "%s: layer_types has %s at layer %zu; allowed: compressed_sparse_attention, "
             "heavily_compressed_attention, sliding_attention", kOrigin, shown(type).c_str(), i);
      }
      if (ratios == nullptr) {
        sparse[i] = compressed;
      } else if (sparse[i] != compressed && i < static_cast<size_t>(num_layers)) {
        fail(IC_ERROR_SCHEDULE_CONFLICT, "%s: layer %zu has compress_ratio %s and layer_type %s; the two must agree",
             kOrigin, i, shown((*ratios)[i]).c_str(), shown(type).c_str());
      }
    }
  }
  return sparse;
}

Json parse(std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error &error) {
    fail(IC_ERROR_PARSE, "%s: not JSON at byte %zu: %.400s", kOrigin, error.byte, error.what());
  }
}

}  // namespace

ConfigFields read_config(std::string_view text, bool allow_unknown_model, bool precedence) {
  const Json root = parse(text);
  if (!root.is_object()) fail(IC_ERROR_PARSE, "%s: the top level is %s; allowed: an object", kOrigin, root.type_name());
  const Fields fields(root, precedence);

  ConfigFields config;
  config.family = read_family(fields, allow_unknown_model);
  if (fields.find("num_hidden_layers") == nullptr) {
    fail(IC_ERROR_INVALID_ARGUMENT, "%s: num_hidden_layers is absent; allowed: 1 to %d", kOrigin, kMaxScheduleLayers);
  }
  config.num_layers = fields.count("num_hidden_layers", 0, 1);
  config.num_mtp_layers = fields.count("num_nextn_predict_layers", 0, 0);
  if (config.family.kind == ModelFamily::Kind::kDeepseekV4) {
    config.sparse = read_compressed_layers(fields, config.num_layers, config.num_layers + config.num_mtp_layers);
    if (const Json *types = fields.find("indexer_types")) {
      fail(IC_ERROR_MODEL_UNSUPPORTED, "%s: indexer_types is %s; allowed for deepseek_v4: absent", kOrigin,
           shown(*types).c_str());
    }
  } else {
    if (const Json *ratios = fields.find("compress_ratios")) {
      fail(IC_ERROR_MODEL_UNSUPPORTED, "%s: compress_ratios is %s; allowed only for deepseek_v4", kOrigin,
           shown(*ratios).c_str());
    }
    check_layer_types(fields);
    if (const Json *types = fields.array("indexer_types")) config.indexer_types = letters_of(*types, "indexer_types");
  }
  read_override(fields, &config.override);
  config.use_index_cache = fields.boolean("use_index_cache");
  config.mtp_can_share = fields.boolean("index_share_for_mtp_iteration").value_or(false);
  return config;
}

}  // namespace ic
