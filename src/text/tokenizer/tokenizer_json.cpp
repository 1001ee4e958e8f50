// tokenizer.json, the format of the tokenizers library.
#include <fmt/core.h>

#include <algorithm>

#include "base/file.h"
#include "base/printable.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/files.h"
#include "text/utf8.h"
#include "tte/error.h"

namespace tte::text {
namespace {

using base::Json;

using base::shown;

// What a file may ask of each text: one step may not grow it without end, nor may there be any number of
// them.
constexpr std::size_t kMostSteps = 64;
constexpr std::size_t kMostContent = 1024;  // Bytes that a step puts in.

// Reads one tokenizer.json.
class Reader {
 public:
  Reader(const std::filesystem::path& file, TokenizerParts& parts)
      : where_(base::shown(file)), json_(base::read_json_object(file)), parts_(parts) {}

  void read(const TokenizerConfig& config) {
    const bool declared_elsewhere = config.json.contains("added_tokens_decoder");
    const bool qwen = config.is_qwen_class();
    if (qwen) {
      set_qwen_pipeline(parts_, config);
      byte_level_ = true;
    } else if (const Json* json = part(json_, "pre_tokenizer")) {
      pre_tokenizer(*json);
    }
    // A class of transformers makes its own pipeline around the file's vocabulary; Llama's not around a
    // byte-level one.
    const bool own_pipeline = config.is_llama_class() && !byte_level_;
    if (own_pipeline) {
      parts_.pre_tokenizer.clear();
    } else if (!qwen) {
      if (const Json* json = part(json_, "normalizer")) normalizer(*json);
      const Json* json = part(json_, "decoder");
      if (json == nullptr) unsupported("decoder", Json());
      decoder(*json, false);
    }
    const Json* model_json = part(json_, "model");
    if (model_json == nullptr || !model_json->is_object()) {
      throw ModelError(fmt::format("{} has no \"model\" object, which tte needs.", where_));
    }
    model(*model_json, own_pipeline, qwen);
    if (const Json* json = part(json_, "added_tokens");
        json != nullptr && !(own_pipeline && declared_elsewhere)) {
      added_tokens(*json);
    }
    if (const Json* json = part(json_, "post_processor")) post_processor(*json);
  }

 private:
  // json[key], null when absent or null.
  static const Json* part(const Json& json, const char* key) {
    const auto it = json.find(key);
    return it == json.end() || it->is_null() ? nullptr : &*it;
  }
  [[noreturn]] void unsupported(const char* what, const Json& json) const {
    throw ModelError(fmt::format("{}: the {} {} is not supported by tte.", where_, what, shown(json)));
  }
  [[nodiscard]] std::string type_of(const char* what, const Json& json) const {
    if (!json.is_object()) unsupported(what, json);
    return base::require<std::string>(json, "type", where_);
  }
  [[nodiscard]] const Json& list(const Json& json, const char* key) const {
    const auto it = json.find(key);
    if (it == json.end() || !it->is_array()) {
      throw ModelError(fmt::format("{}: \"{}\" is missing or not a list in {}.", where_, key, shown(json)));
    }
    return *it;
  }

  [[nodiscard]] std::shared_ptr<const Splitter> pattern(const Json& json) const {
    const auto it = json.find("pattern");
    if (it != json.end() && it->is_object()) {
      if (it->contains("Regex"))
        return Splitter::from_regex(base::require<std::string>(*it, "Regex", where_), where_);
      auto text = base::get_or<std::string>(*it, "String", "", where_);
      if (!text.empty()) return Splitter::from_string(std::move(text));
    }
    throw ModelError(fmt::format("{}: {} has no pattern that tte reads.", where_, shown(json)));
  }

  void count_step() {
    if (++steps_ > kMostSteps)
      throw ModelError(fmt::format(
          "{} has more than {} steps of normalizers, pre-tokenizers, post-processors and decoders.", where_,
          kMostSteps));
  }
  [[nodiscard]] std::string content(const Json& json, const char* key) const {
    auto text = base::require<std::string>(json, key, where_);
    if (text.size() > kMostContent)
      throw ModelError(fmt::format("{}: \"{}\" has {} bytes: at most {} are taken.", where_, key, text.size(),
                                   kMostContent));
    return text;
  }

  void normalizer(const Json& json) {
    const std::string type = type_of("normalizer", json);
    count_step();
    if (type == "Sequence") {
      for (const Json& step : list(json, "normalizers")) normalizer(step);
    } else if (type == "NFC") {
      parts_.normalizer.add(Normalizer::Form::kNfc);
    } else if (type == "NFD") {
      parts_.normalizer.add(Normalizer::Form::kNfd);
    } else if (type == "NFKC") {
      parts_.normalizer.add(Normalizer::Form::kNfkc);
    } else if (type == "NFKD") {
      parts_.normalizer.add(Normalizer::Form::kNfkd);
    } else if (type == "Replace") {
      parts_.normalizer.add(Normalizer::Replace{pattern(json), content(json, "content")});
    } else if (type == "Prepend") {
      parts_.normalizer.add(Normalizer::Prepend{content(json, "prepend")});
    } else {
      unsupported("normalizer", json);
    }
  }

  [[nodiscard]] Splitter::Behavior behavior(const Json& json) const {
    const auto name = base::require<std::string>(json, "behavior", where_);
    if (name == "Isolated") return Splitter::Behavior::kIsolated;
    if (name == "Removed") return Splitter::Behavior::kRemoved;
    if (name == "MergedWithPrevious") return Splitter::Behavior::kMergedWithPrevious;
    if (name == "MergedWithNext") return Splitter::Behavior::kMergedWithNext;
    if (name == "Contiguous") return Splitter::Behavior::kContiguous;
    unsupported("split behavior", json);
  }

  [[nodiscard]] MetaspaceStep::Prepend prepend_scheme(const Json& json) const {
    // Files from before prepend_scheme say add_prefix_space.
    const bool prefix = base::get_or<bool>(json, "add_prefix_space", true, where_);
    const auto scheme =
        base::get_or<std::string>(json, "prepend_scheme", prefix ? "always" : "never", where_);
    if (scheme == "always") return MetaspaceStep::Prepend::kAlways;
    if (scheme == "first") return MetaspaceStep::Prepend::kFirst;
    if (scheme == "never") return MetaspaceStep::Prepend::kNever;
    unsupported("prepend scheme", json);
  }

  void pre_tokenizer(const Json& json) {
    const std::string type = type_of("pre-tokenizer", json);
    count_step();
    if (byte_level_) unsupported("pre-tokenizer after ByteLevel", json);
    if (type == "Sequence") {
      for (const Json& step : list(json, "pretokenizers")) pre_tokenizer(step);
    } else if (type == "Split") {
      add_split(parts_, pattern(json), behavior(json), base::get_or<bool>(json, "invert", false, where_));
    } else if (type == "Digits") {
      const bool single = base::get_or<bool>(json, "individual_digits", false, where_);
      add_split(parts_, Splitter::from_regex("\\p{N}", where_),
                single ? Splitter::Behavior::kIsolated : Splitter::Behavior::kContiguous);
    } else if (type == "Metaspace") {
      MetaspaceStep step;
      step.replacement = base::get_or<std::string>(json, "replacement", step.replacement, where_);
      if (step.replacement.empty() || step.replacement.size() > 4) unsupported("pre-tokenizer", json);
      step.prepend = prepend_scheme(json);
      step.split = base::get_or<bool>(json, "split", true, where_);
      parts_.pre_tokenizer.emplace_back(std::in_place_type<MetaspaceStep>, std::move(step));
    } else if (type == "ByteLevel") {
      if (base::get_or<bool>(json, "add_prefix_space", true, where_))
        parts_.pre_tokenizer.emplace_back(std::in_place_type<PrefixSpaceStep>);
      if (base::get_or<bool>(json, "use_regex", true, where_)) {
        add_split(parts_, Splitter::from_regex(std::string(kGpt2Pattern), where_));
      }
      byte_level_ = true;
    } else {
      unsupported("pre-tokenizer", json);
    }
  }

  void decoder(const Json& json, bool fused) {
    const std::string type = type_of("decoder", json);
    count_step();
    DecoderSpec& spec = parts_.decoder;
    if (type == "Sequence") {
      bool after_fuse = fused;
      for (const Json& step : list(json, "decoders")) {
        decoder(step, after_fuse);
        after_fuse = after_fuse || type_of("decoder", step) == "Fuse";
      }
    } else if (type == "ByteLevel") {
      spec.byte_level = true;
    } else if (type == "Replace" && !fused && !spec.byte_fallback && json.contains("pattern") &&
               json["pattern"].is_object() && json["pattern"].contains("String")) {
      auto what = base::require<std::string>(json["pattern"], "String", where_);
      if (what.empty()) unsupported("decoder", json);
      spec.replace.emplace_back(std::move(what), content(json, "content"));
    } else if (type == "ByteFallback" && !fused) {
      spec.byte_fallback = true;
    } else if (type == "Metaspace" && !fused) {
      auto what = base::get_or<std::string>(json, "replacement", "\xE2\x96\x81", where_);
      if (what.empty()) unsupported("decoder", json);
      spec.replace.emplace_back(std::move(what), " ");
      if (prepend_scheme(json) != MetaspaceStep::Prepend::kNever)
        spec.dropped_from_first = std::string(1, ' ');
    } else if (type == "Strip" && fused && base::get_or<std::int64_t>(json, "start", 0, where_) <= 1 &&
               base::get_or<std::int64_t>(json, "stop", 0, where_) == 0) {
      if (base::get_or<std::int64_t>(json, "start", 0, where_) == 1) {
        spec.dropped_prefix = base::require<std::string>(json, "content", where_);
      }
    } else if (type != "Fuse") {
      unsupported("decoder", json);
    }
  }

  // Tokens around a text of its own; what there is for pairs of texts does not matter.
  void post_processor(const Json& json) {
    const std::string type = type_of("post-processor", json);
    count_step();
    std::vector<std::int64_t> begin, end;
    if (type == "Sequence") {
      for (const Json& step : list(json, "processors")) post_processor(step);
    } else if (type == "TemplateProcessing") {
      bool behind = false;
      for (const Json& piece : list(json, "single")) {
        const base::JsonObject object(piece, where_);
        behind = behind || object.has("Sequence");
        if (!object.has("SpecialToken")) continue;
        const auto name = base::require<std::string>(object.object("SpecialToken"), "id");
        const base::JsonObject token = base::JsonObject(json, where_).object("special_tokens").object(name);
        const auto ids = base::require<std::vector<std::int64_t>>(token, "ids");
        auto& side = behind ? end : begin;
        side.insert(side.end(), ids.begin(), ids.end());
      }
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      begin = {paired_id(json, "cls")};
      end = {paired_id(json, "sep")};
    } else if (type != "ByteLevel") {
      unsupported("post-processor", json);
    }
    parts_.begin_ids.insert(parts_.begin_ids.begin(), begin.begin(), begin.end());
    parts_.end_ids.insert(parts_.end_ids.end(), end.begin(), end.end());
    if (parts_.begin_ids.size() + parts_.end_ids.size() > kMostSteps)
      throw ModelError(fmt::format("{} puts more than {} tokens around every text.", where_, kMostSteps));
  }
  // The id in a pair such as ["</s>", 2].
  [[nodiscard]] std::int64_t paired_id(const Json& json, const char* key) const {
    const Json& pair = list(json, key);
    const auto id = pair.size() == 2 ? base::whole_number(pair[1], 0) : std::nullopt;
    if (!id) unsupported("post-processor", json);
    return *id;
  }

  [[nodiscard]] std::pair<std::string, std::string> merge_of(const Json& merge) const {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      return {merge[0].get<std::string>(), merge[1].get<std::string>()};
    }
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      const std::size_t space = text.find(' ');
      if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
        return {text.substr(0, space), text.substr(space + 1)};
      }
    }
    throw ModelError(fmt::format("{}: the merge {} is not a pair of tokens.", where_, shown(merge)));
  }

  void model(const Json& json, bool own_pipeline, bool qwen) {
    const auto type = base::get_or<std::string>(json, "type", "BPE", where_);
    if (type != "BPE") {
      throw ModelError(
          fmt::format("{}: models of type \"{}\" are not supported, only BPE; tte reads unigram models "
                      "from tokenizer.model.",
                      where_, base::printable(type)));
    }
    for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
      if (qwen) break;  // The class leaves them out.
      const Json* value = part(json, key);
      const bool inert = value == nullptr ||
                         (value->is_string() && value->get_ref<const std::string&>().empty()) ||
                         (value->is_number() && value->get<double>() == 0.0);
      if (!inert) unsupported(key, *value);
    }
    BpeSpec spec;
    const auto vocab = json.find("vocab");
    if (vocab == json.end() || !vocab->is_object()) {
      throw ModelError(fmt::format("{}: model.vocab is missing or not an object.", where_));
    }
    auto vocabulary = std::make_shared<Vocabulary>();
    vocabulary->reserve(vocab->size());
    for (const auto& [token, id] : vocab->items()) {
      const auto number = base::whole_number(id, 0, (1 << 24) - 1);
      if (!number) {
        throw ModelError(fmt::format("{}: the token \"{}\" has the id {}; an integer from 0 to {} is needed.",
                                     where_, base::printable(token), shown(id), (1 << 24) - 1));
      }
      vocabulary->emplace(token, static_cast<std::int32_t>(*number));
    }
    spec.vocabulary = std::move(vocabulary);
    spec.merges.reserve(list(json, "merges").size());
    for (const Json& merge : list(json, "merges")) spec.merges.push_back(merge_of(merge));
    spec.byte_level = byte_level_;
    spec.byte_fallback = own_pipeline || base::get_or<bool>(json, "byte_fallback", false, where_);
    spec.fuse_unknown = own_pipeline || base::get_or<bool>(json, "fuse_unk", false, where_);
    spec.ignore_merges = !own_pipeline && !qwen && base::get_or<bool>(json, "ignore_merges", false, where_);
    if (const Json* unknown = part(json, "unk_token"); unknown != nullptr && !own_pipeline && !qwen) {
      spec.unknown = base::require<std::string>(json, "unk_token", where_);
    }
    parts_.vocabulary = spec.vocabulary;
    parts_.model = std::make_unique<Bpe>(std::move(spec), where_);
  }

  void added_tokens(const Json& json) {
    if (!json.is_array()) throw ModelError(fmt::format("{}: \"added_tokens\" is not a list.", where_));
    for (const Json& entry : json) {
      AddedToken token = read_added_token(entry, where_);
      token.id = base::require<std::int64_t>(entry, "id", where_);
      if (token.id < 0) throw ModelError(fmt::format("{}: an added token has the id {}.", where_, token.id));
      add_token(parts_, std::move(token));
    }
  }

  std::string where_;
  Json json_;
  TokenizerParts& parts_;
  bool byte_level_ = false;
  std::size_t steps_ = 0;
};

}  // namespace

TokenizerParts read_tokenizer_json(const std::filesystem::path& file, const TokenizerConfig& config) {
  TokenizerParts parts;
  const bool llama = config.is_llama_class();
  Reader(file, parts).read(config);
  if (llama && parts.pre_tokenizer.empty() && !parts.decoder.byte_level) set_llama_pipeline(parts, config);
  return parts;
}

}  // namespace tte::text
