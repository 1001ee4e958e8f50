// tokenizer.json, the format of the tokenizers library.
#include <fmt/core.h>

#include <algorithm>

#include "base/file.h"
#include "base/printable.h"
#include "text/tokenizer/bpe.h"
#include "text/tokenizer/files.h"
#include "tte/error.h"

namespace tte::text {
namespace {

using base::Json;
using base::JsonObject;
using base::shown;

// What a file may ask of each text: one step may not grow it without end, nor may there be any number of them.
constexpr std::size_t kMostSteps = 64;
constexpr std::int64_t kMostId = (1 << 24) - 1;
constexpr std::size_t kMostContent = 1024;  // Bytes that a step puts in.

// Reads one tokenizer.json.
class Reader {
 public:
  Reader(const std::filesystem::path& file, TokenizerParts& parts)
      : where_(base::shown(file)), file_(base::read_json_object(file)), parts_(parts) {}

  void read(const TokenizerConfig& config) {
    const bool qwen = config.is_qwen_class();
    if (qwen) {
      set_qwen_pipeline(parts_, config);
      byte_level_ = true;
    } else if (const Json* json = file_.find("pre_tokenizer")) {
      pre_tokenizer(*json);
    }
    // A class of transformers makes its own pipeline around the file's vocabulary; Llama's not around a
    // byte-level one.
    const bool own_pipeline = config.is_llama_class() && !byte_level_;
    if (own_pipeline) {
      parts_.pre_tokenizer.clear();
    } else if (!qwen) {
      if (const Json* json = file_.find("normalizer")) normalizer(*json);
      const Json* json = file_.find("decoder");
      if (json == nullptr) unsupported("decoder", Json());
      decoder(*json);
    }
    const Json* model_json = file_.find("model");
    if (model_json == nullptr || !model_json->is_object()) {
      throw ModelError(fmt::format("{} has no \"model\" object, which tte needs.", where_));
    }
    model({*model_json, where_}, own_pipeline, qwen);
    if (const Json* json = file_.find("added_tokens")) added_tokens(*json);
    if (!own_pipeline && !qwen) {  // Classes that make their own tokenizer add what is declared, and no more.
      start_adding(parts_);
      for (const AddedToken& token : parts_.listed) add_token(parts_, token);
    }
    if (const Json* json = file_.find("post_processor")) post_processor(*json);
  }

 private:
  [[noreturn]] void unsupported(const char* what, const Json& json) const {
    throw ModelError(fmt::format("{}: the {} {} is not supported by tte.", where_, what, shown(json)));
  }
  [[nodiscard]] JsonObject object(const char* what, const Json& json) const {
    if (!json.is_object()) unsupported(what, json);
    return {json, where_};
  }
  [[nodiscard]] static std::string type_of(const JsonObject& step) {
    return base::require<std::string>(step, "type");
  }
  [[nodiscard]] const Json& list(const JsonObject& json, const char* key) const {
    const Json* found = json.find(key);
    if (found == nullptr || !found->is_array()) {
      throw ModelError(
          fmt::format("{}: \"{}\" is missing or not a list in {}.", where_, key, shown(json.json())));
    }
    return *found;
  }

  [[nodiscard]] std::shared_ptr<const Splitter> pattern(const JsonObject& step) const {
    const Json* found = step.find("pattern");
    if (found != nullptr && found->is_object()) {
      const JsonObject pattern(*found, where_);
      if (found->contains("Regex"))
        return Splitter::from_regex(base::require<std::string>(pattern, "Regex"), where_);
      std::string text = pattern.text("String", "");
      if (!text.empty()) return Splitter::from_string(std::move(text));
    }
    throw ModelError(fmt::format("{}: {} has no pattern that tte reads.", where_, shown(step.json())));
  }

  void count_step() {
    if (++steps_ > kMostSteps)
      throw ModelError(fmt::format(
          "{} has more than {} steps of normalizers, pre-tokenizers, post-processors and decoders.", where_,
          kMostSteps));
  }
  [[nodiscard]] std::string content(const JsonObject& json, const char* key) const {
    auto text = base::require<std::string>(json, key);
    if (text.size() > kMostContent)
      throw ModelError(fmt::format("{}: \"{}\" has {} bytes: at most {} are taken.", where_, key, text.size(),
                                   kMostContent));
    return text;
  }

  void normalizer(const Json& json) {
    const JsonObject step = object("normalizer", json);
    const std::string type = type_of(step);
    count_step();
    if (type == "Sequence") {
      for (const Json& each : list(step, "normalizers")) normalizer(each);
    } else if (type == "NFC") {
      parts_.normalizer.add(Normalizer::Form::kNfc);
    } else if (type == "NFD") {
      parts_.normalizer.add(Normalizer::Form::kNfd);
    } else if (type == "NFKC") {
      parts_.normalizer.add(Normalizer::Form::kNfkc);
    } else if (type == "NFKD") {
      parts_.normalizer.add(Normalizer::Form::kNfkd);
    } else if (type == "Replace") {
      parts_.normalizer.add(Normalizer::Replace{pattern(step), content(step, "content")});
    } else if (type == "Prepend") {
      parts_.normalizer.add(Normalizer::Prepend{content(step, "prepend")});
    } else {
      unsupported("normalizer", json);
    }
  }

  [[nodiscard]] Splitter::Behavior behavior(const JsonObject& step) const {
    const auto name = base::require<std::string>(step, "behavior");
    if (name == "Isolated") return Splitter::Behavior::kIsolated;
    if (name == "Removed") return Splitter::Behavior::kRemoved;
    if (name == "MergedWithPrevious") return Splitter::Behavior::kMergedWithPrevious;
    if (name == "MergedWithNext") return Splitter::Behavior::kMergedWithNext;
    if (name == "Contiguous") return Splitter::Behavior::kContiguous;
    unsupported("split behavior", step.json());
  }

  [[nodiscard]] MetaspaceStep::Prepend prepend_scheme(const JsonObject& step) const {
    // Files from before prepend_scheme say add_prefix_space.
    const bool prefix = step.flag("add_prefix_space", true);
    const auto scheme = step.text("prepend_scheme", prefix ? "always" : "never");
    if (scheme == "always") return MetaspaceStep::Prepend::kAlways;
    if (scheme == "first") return MetaspaceStep::Prepend::kFirst;
    if (scheme == "never") return MetaspaceStep::Prepend::kNever;
    unsupported("prepend scheme", step.json());
  }

  void pre_tokenizer(const Json& json) {
    const JsonObject step = object("pre-tokenizer", json);
    const std::string type = type_of(step);
    count_step();
    if (byte_level_) unsupported("pre-tokenizer after ByteLevel", json);
    if (type == "Sequence") {
      for (const Json& each : list(step, "pretokenizers")) pre_tokenizer(each);
    } else if (type == "Split") {
      add_split(parts_, pattern(step), behavior(step), step.flag("invert", false));
    } else if (type == "Digits") {
      const bool single = step.flag("individual_digits", false);
      add_split(parts_, Splitter::from_regex("\\p{N}", where_),
                single ? Splitter::Behavior::kIsolated : Splitter::Behavior::kContiguous);
    } else if (type == "Metaspace") {
      MetaspaceStep metaspace;
      metaspace.replacement = step.text("replacement", metaspace.replacement);
      if (metaspace.replacement.empty() || metaspace.replacement.size() > 4)
        unsupported("pre-tokenizer", json);
      metaspace.prepend = prepend_scheme(step);
      metaspace.split = step.flag("split", true);
      parts_.pre_tokenizer.emplace_back(std::in_place_type<MetaspaceStep>, std::move(metaspace));
    } else if (type == "ByteLevel") {
      if (step.flag("add_prefix_space", true))
        parts_.pre_tokenizer.emplace_back(std::in_place_type<PrefixSpaceStep>);
      if (step.flag("use_regex", true)) {
        add_split(parts_, Splitter::from_regex(std::string(kGpt2Pattern), where_));
      }
      byte_level_ = true;
    } else {
      unsupported("pre-tokenizer", json);
    }
  }

  // A ByteLevel decoder stands alone: others would change what stands for bytes, or whole texts.
  void decoder(const Json& json) {
    const JsonObject step = object("decoder", json);
    const std::string type = type_of(step);
    count_step();
    DecoderSpec& spec = parts_.decoder;
    if (type == "Sequence") {
      for (const Json& each : list(step, "decoders")) decoder(each);
    } else if (type == "Fuse") {
      fused_ = true;
    } else if (spec.byte_level) {
      unsupported("decoder beside ByteLevel", json);
    } else if (type == "ByteLevel") {
      if (fused_ || decodes_) unsupported("decoder beside others", json);
      spec.byte_level = true;
    } else if (type == "Replace" && !fused_ && !spec.byte_fallback && json.contains("pattern") &&
               json["pattern"].is_object() && json["pattern"].contains("String")) {
      auto what = base::require<std::string>(step.object("pattern"), "String");
      if (what.empty()) unsupported("decoder", json);
      spec.replace.emplace_back(std::move(what), content(step, "content"));
    } else if (type == "ByteFallback" && !fused_) {
      spec.byte_fallback = true;
    } else if (type == "Metaspace" && !fused_) {
      auto what = step.text("replacement", "\xE2\x96\x81");
      if (what.empty()) unsupported("decoder", json);
      spec.replace.emplace_back(std::move(what), " ");
      if (prepend_scheme(step) != MetaspaceStep::Prepend::kNever)
        spec.dropped_from_first = std::string(1, ' ');
    } else if (type == "Strip" && fused_ && base::get_or<std::int64_t>(step, "start", 0) <= 1 &&
               base::get_or<std::int64_t>(step, "stop", 0) == 0) {
      if (base::get_or<std::int64_t>(step, "start", 0) == 1) {
        spec.dropped_prefix = base::require<std::string>(step, "content");
      }
    } else {
      unsupported("decoder", json);
    }
    decodes_ = decodes_ || (type != "Sequence" && type != "Fuse");
  }

  // Tokens around a text of its own; what there is for pairs of texts does not matter.
  void post_processor(const Json& json) {
    const JsonObject step = object("post-processor", json);
    const std::string type = type_of(step);
    count_step();
    std::vector<std::int64_t> begin, end;
    if (type == "Sequence") {
      for (const Json& each : list(step, "processors")) post_processor(each);
    } else if (type == "TemplateProcessing") {
      bool behind = false;
      for (const Json& piece : list(step, "single")) {
        const JsonObject token_or_text(piece, where_);
        behind = behind || token_or_text.has("Sequence");
        if (!token_or_text.has("SpecialToken")) continue;
        const auto name = base::require<std::string>(token_or_text.object("SpecialToken"), "id");
        const JsonObject token = step.object("special_tokens").object(name);
        const auto ids = base::require<std::vector<std::int64_t>>(token, "ids");
        auto& side = behind ? end : begin;
        side.insert(side.end(), ids.begin(), ids.end());
      }
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      begin = {paired_id(step, "cls")};
      end = {paired_id(step, "sep")};
    } else if (type != "ByteLevel") {
      unsupported("post-processor", json);
    }
    parts_.begin_ids.insert(parts_.begin_ids.begin(), begin.begin(), begin.end());
    parts_.end_ids.insert(parts_.end_ids.end(), end.begin(), end.end());
    if (parts_.begin_ids.size() + parts_.end_ids.size() > kMostSteps)
      throw ModelError(fmt::format("{} puts more than {} tokens around every text.", where_, kMostSteps));
  }
  // The id in a pair such as ["</s>", 2].
  [[nodiscard]] std::int64_t paired_id(const JsonObject& step, const char* key) const {
    const Json& pair = list(step, key);
    const auto id = pair.size() == 2 ? base::whole_number(pair[1], 0) : std::nullopt;
    if (!id) unsupported("post-processor", step.json());
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

  void model(const JsonObject& json, bool own_pipeline, bool qwen) {
    const std::string type = json.text("type", "BPE");
    if (type != "BPE") {
      throw ModelError(
          fmt::format("{}: models of type \"{}\" are not supported, only BPE; tte reads unigram models "
                      "from tokenizer.model.",
                      where_, base::printable(type)));
    }
    for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
      if (qwen) break;  // The class leaves them out.
      const Json* value = json.find(key);
      const bool inert = value == nullptr ||
                         (value->is_string() && value->get_ref<const std::string&>().empty()) ||
                         (value->is_number() && value->get<double>() == 0.0);
      if (!inert) unsupported(key, *value);
    }
    BpeSpec spec;
    const Json* vocab = json.find("vocab");
    if (vocab == nullptr || !vocab->is_object()) {
      throw ModelError(fmt::format("{}: model.vocab is missing or not an object.", where_));
    }
    auto vocabulary = std::make_shared<Vocabulary>();
    vocabulary->reserve(vocab->size());
    for (const auto& [token, id] : vocab->items()) {
      const auto number = base::whole_number(id, 0, kMostId);
      if (!number) {
        throw ModelError(fmt::format("{}: the token \"{}\" has the id {}; an integer from 0 to {} is needed.",
                                     where_, base::printable(token), shown(id), kMostId));
      }
      vocabulary->emplace(token, static_cast<std::int32_t>(*number));
    }
    spec.vocabulary = std::move(vocabulary);
    spec.merges.reserve(list(json, "merges").size());
    for (const Json& merge : list(json, "merges")) spec.merges.push_back(merge_of(merge));
    spec.byte_level = byte_level_;
    spec.byte_fallback = own_pipeline || json.flag("byte_fallback", false);
    spec.fuse_unknown = own_pipeline || json.flag("fuse_unk", false);
    spec.ignore_merges = !own_pipeline && !qwen && json.flag("ignore_merges", false);
    if (!own_pipeline && !qwen && json.has("unk_token"))
      spec.unknown = base::require<std::string>(json, "unk_token");
    parts_.vocabulary = spec.vocabulary;
    parts_.model = std::make_unique<Bpe>(std::move(spec), where_);
  }

  void added_tokens(const Json& json) {
    if (!json.is_array()) throw ModelError(fmt::format("{}: \"added_tokens\" is not a list.", where_));
    for (const Json& entry : json) {
      const JsonObject object(entry, where_, "added_tokens");
      AddedToken token = read_added_token(object);
      token.id = base::require<std::int64_t>(object, "id");
      if (token.id < 0 || token.id > kMostId)
        throw ModelError(fmt::format("{}: an added token has the id {}; ids are from 0 to {}.", where_,
                                     token.id, kMostId));
      parts_.listed.push_back(std::move(token));
    }
  }

  std::string where_;
  JsonObject file_;
  TokenizerParts& parts_;
  bool byte_level_ = false;
  bool decodes_ = false, fused_ = false;  // What decoders there were so far.
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
