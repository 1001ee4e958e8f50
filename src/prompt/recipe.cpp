#include "prompt/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <iterator>
#include <set>

#include "base/printable.h"
#include "prompt/pieces.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using base::Json;
using base::printable;

constexpr std::int64_t kMaxPixels = std::int64_t{1} << 32;
constexpr int kMaxFrames = 100'000;

// An object of the recipe: typed reads, and an error for keys that nobody knows.
class Object {
 public:
  Object(const Json& json, std::string where, std::string path, std::initializer_list<std::string_view> known)
      : json_(json), where_(std::move(where)), path_(std::move(path)) {
    if (!json.is_object()) fail("", fmt::format("is {}: it must be an object", shown(json)));
    for (const auto& [key, value] : json.items()) {
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        fail(key,
             fmt::format("is not a key of a recipe: remove it, or use one of {}", fmt::join(known, ", ")));
      }
    }
  }

  [[noreturn]] void fail(std::string_view key, const std::string& what) const {
    const std::string full = path_.empty() ? std::string(key)
                             : key.empty() ? path_
                                           : fmt::format("{}.{}", path_, key);
    throw ModelError(fmt::format("{}: \"{}\" {}.", where_, printable(full), what));
  }

  [[nodiscard]] const Json* find(const char* key) const {
    const auto it = json_.find(key);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }

  void text(const char* key, std::string& out) const {
    if (const Json* value = find(key)) {
      if (!value->is_string()) fail(key, fmt::format("is {}: it must be a string", shown(*value)));
      out = value->get<std::string>();
    }
  }

  void flag(const char* key, bool& out) const {
    if (const Json* value = find(key)) {
      if (!value->is_boolean()) fail(key, fmt::format("is {}: it must be true or false", shown(*value)));
      out = value->get<bool>();
    }
  }

  // One of `names`; gives its place among them.
  [[nodiscard]] std::optional<std::size_t> choice(const char* key,
                                                  std::initializer_list<std::string_view> names) const {
    const Json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (value->is_string()) {
      const auto it = std::find(names.begin(), names.end(), value->get_ref<const std::string&>());
      if (it != names.end()) return static_cast<std::size_t>(it - names.begin());
    }
    fail(key, fmt::format("is {}: it must be one of {}", shown(*value), fmt::join(names, ", ")));
  }

  template <typename Out>
  void integer(const char* key, Out& out, std::int64_t least, std::int64_t most) const {
    if (const Json* value = find(key))
      out = static_cast<typename ValueOf<Out>::type>(checked(key, *value, least, most));
  }

  void number(const char* key, std::optional<double>& out) const {
    if (const Json* value = find(key)) {
      if (!value->is_number()) fail(key, fmt::format("is {}: it must be a number", shown(*value)));
      out = value->get<double>();
    }
  }

  // A string, or a list of strings.
  void pieces(const char* key, Pieces& out) const {
    const Json* value = find(key);
    if (value == nullptr) return;
    out.clear();
    if (value->is_string()) {
      out.push_back(value->get<std::string>());
      return;
    }
    if (!value->is_array())
      fail(key, fmt::format("is {}: it must be a string or a list of strings", shown(*value)));
    strings(key, out);
  }

  void strings(const char* key, std::vector<std::string>& out) const {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_array()) fail(key, fmt::format("is {}: it must be a list of strings", shown(*value)));
    for (const Json& item : *value) {
      if (!item.is_string()) fail(key, fmt::format("has the entry {}: it must be a string", shown(item)));
      out.push_back(item.get<std::string>());
    }
  }

  template <typename T>
  void integers(const char* key, std::vector<T>& out, std::int64_t least, std::int64_t most) const {
    const Json* value = find(key);
    if (value == nullptr) return;
    if (!value->is_array()) fail(key, fmt::format("is {}: it must be a list of integers", shown(*value)));
    for (const Json& item : *value) out.push_back(static_cast<T>(checked(key, item, least, most)));
  }

  [[nodiscard]] std::string below(std::string_view key) const {
    return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
  }
  [[nodiscard]] const std::string& where() const { return where_; }

  static std::string shown(const Json& value) {
    return printable(value.dump(-1, ' ', false, Json::error_handler_t::replace), 60);
  }

 private:
  template <typename T>
  struct ValueOf {
    using type = T;
  };
  template <typename T>
  struct ValueOf<std::optional<T>> {
    using type = T;
  };

  [[nodiscard]] std::int64_t checked(const char* key, const Json& value, std::int64_t least,
                                     std::int64_t most) const {
    // Numbers past int64 are parsed as unsigned; they are out of every range here.
    const bool fits =
        value.is_number_integer() &&
        !(value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX));
    if (!fits || value.get<std::int64_t>() < least || value.get<std::int64_t>() > most) {
      fail(key, fmt::format("is {}: it must be an integer between {} and {}", shown(value), least, most));
    }
    return value.get<std::int64_t>();
  }

  const Json& json_;
  std::string where_;
  std::string path_;
};

void check_placeholders(const Object& object, const char* key, const Pieces& pieces,
                        std::initializer_list<std::string_view> allowed) {
  int contents = 0;
  for (const std::string& piece : pieces) {
    for (const std::string& name : placeholders(piece)) {
      if (std::find(allowed.begin(), allowed.end(), name) == allowed.end()) {
        std::string list;
        for (const std::string_view known : allowed) list += fmt::format(" {{{}}}", known);
        object.fail(
            key, fmt::format("has the placeholder {{{}}}: the known ones are{}", printable(name, 40), list));
      }
      if (name == "content" || name == "media") ++contents;
    }
  }
  if (contents > 1) {
    object.fail(key, "places the pictures twice: use {content}, or {media} with {text}, once");
  }
}

void parse_prompt(const Json& json, const std::string& where, PromptTemplate& out) {
  const Object object(json, where, "prompt",
                      {"style", "system", "user", "raw", "image", "video", "generation_prompt", "no_text",
                       "blank_image", "positions"});
  if (const auto style = object.choice("style", {"chat", "raw"})) out.chat = *style == 0;
  for (const char* key : {"system", "user", "generation_prompt"}) {
    if (!out.chat && object.find(key))
      object.fail(key, "belongs to style \"chat\", but the style is \"raw\"");
  }
  for (const char* key : {"raw", "image", "video"}) {
    if (out.chat && object.find(key)) object.fail(key, "belongs to style \"raw\", but the style is \"chat\"");
  }
  object.pieces("system", out.system);
  object.pieces("user", out.user);
  object.pieces("raw", out.raw);
  object.text("image", out.image);
  object.text("video", out.video);
  object.flag("generation_prompt", out.generation_prompt);
  if (const Json* no_text = object.find("no_text")) {
    const Object texts(*no_text, where, "prompt.no_text", {"image", "video"});
    texts.text("image", out.no_text_image);
    texts.text("video", out.no_text_video);
  }
  object.integer("blank_image", out.blank_image, 0, 4096);
  if (const auto positions = object.choice("positions", {"family", "past_all_axes", "sequential"})) {
    out.positions = static_cast<Positions>(*positions);
  }
  if (!out.chat && out.raw.empty())
    object.fail("raw", "is missing: style \"raw\" needs the text of the prompt");
  check_placeholders(object, "system", out.system, {"instruction"});
  const char* body = out.chat ? "user" : "raw";
  check_placeholders(object, body, out.body(), {"content", "media", "text", "instruction", "trace"});
  for (const auto& [key, value] : {std::pair{"image", &out.image}, std::pair{"video", &out.video}}) {
    check_placeholders(object, key, {*value}, {"token"});
    if (placeholders(*value).size() != 1) object.fail(key, "must have the placeholder {token} exactly once");
  }
  const auto places_content = [](const std::string& piece) {
    const auto names = placeholders(piece);
    return std::any_of(names.begin(), names.end(), [](const std::string& name) {
      return name == "content" || name == "media" || name == "text";
    });
  };
  if (std::none_of(out.body().begin(), out.body().end(), places_content)) {
    object.fail(body, "places nothing of the item: it needs {content}, {media} or {text}");
  }
}

// A string for both models, or an object with one for both or one for each.
Instruction parse_instruction(const Json& json, const std::string& where, const std::string& path) {
  Instruction out;
  if (json.is_string()) {
    out.reason = out.embed = json.get<std::string>();
    return out;
  }
  const Object object(json, where, path, {"both", "reason", "embed", "think"});
  if (object.find("both") && (object.find("reason") || object.find("embed"))) {
    object.fail("both", "excludes \"reason\" and \"embed\"");
  }
  object.text("both", out.reason);
  out.embed = out.reason;
  object.flag("think", out.think);
  object.text("reason", out.reason);
  object.text("embed", out.embed);
  return out;
}

void parse_presets(const Json& json, const std::string& where, Recipe& out) {
  if (!json.is_object()) {
    throw ModelError(fmt::format("{}: \"tasks\" is {}: it must be an object.", where, Object::shown(json)));
  }
  for (const auto& [family, sides] : json.items()) {
    const Object object(sides, where, "tasks." + family, {"query", "target"});
    for (const char* side : {"query", "target"}) {
      if (const Json* value = object.find(side)) {
        out.presets[family][side] = parse_instruction(*value, where, object.below(side));
      }
    }
  }
}

void parse_trace(const Json& json, const std::string& where, TraceFormat& out) {
  const Object object(json, where, "trace", {"open", "close", "keep", "suffix"});
  object.text("open", out.open);
  object.text("close", out.close);
  object.text("suffix", out.suffix);
  if (const auto keep = object.choice("keep", {"all", "conclusion"})) out.conclusion_only = *keep == 1;
  check_placeholders(object, "suffix", {out.suffix}, {"eos"});
}

void parse_pooling(const Object& recipe, Recipe& out) {
  constexpr std::array kPoolings = {Pooling::kLast, Pooling::kToken, Pooling::kMean, Pooling::kNone};
  if (const auto pooling = recipe.choice("pooling", {"last", "token", "mean", "none"}))
    out.pooling = kPoolings[*pooling];
  recipe.text("pooling_token", out.pooling_token);
  if (out.pooling == Pooling::kToken && out.pooling_token.empty()) {
    recipe.fail("pooling_token",
                "is missing: pooling \"token\" needs the token that is pooled, such as \"<emb>\"");
  }
  if (out.pooling != Pooling::kToken && !out.pooling_token.empty()) {
    recipe.fail("pooling_token", "is given, but only pooling \"token\" uses it");
  }
}

void parse_media(const Object& recipe, Recipe& out) {
  const auto limits = [](const Object& object, std::optional<std::int64_t>& least,
                         std::optional<std::int64_t>& most) {
    object.integer("min_pixels", least, 1, kMaxPixels);
    object.integer("max_pixels", most, 1, kMaxPixels);
    if (least && most && *least > *most)
      object.fail("min_pixels", fmt::format("is {}, more than max_pixels", *least));
  };
  if (const Json* image = recipe.find("image")) {
    limits(Object(*image, recipe.where(), "image", {"min_pixels", "max_pixels"}), out.image_min_pixels,
           out.image_max_pixels);
  }
  if (const Json* video = recipe.find("video")) {
    const Object object(*video, recipe.where(), "video",
                        {"min_pixels", "max_pixels", "fps", "num_frames", "min_frames", "max_frames"});
    limits(object, out.video_min_pixels, out.video_max_pixels);
    object.number("fps", out.frames.fps);
    if (out.frames.fps && !(*out.frames.fps > 0 && *out.frames.fps <= 1000)) {
      object.fail("fps", fmt::format("is {}: it must be more than 0 and at most 1000", *out.frames.fps));
    }
    object.integer("num_frames", out.frames.num_frames, 1, kMaxFrames);
    if (out.frames.fps && out.frames.num_frames) object.fail("num_frames", "and \"fps\" exclude each other");
    object.integer("min_frames", out.frames.min_frames, 1, kMaxFrames);
    object.integer("max_frames", out.frames.max_frames, 1, kMaxFrames);
    if (out.frames.min_frames > out.frames.max_frames) {
      object.fail("min_frames", fmt::format("is {}, more than max_frames", out.frames.min_frames));
    }
  }
}

void parse_decoding(const Json& json, const std::string& where, GenerateOptions& out) {
  const Object object(json, where, "decoding",
                      {"max_new_tokens", "min_new_tokens", "temperature", "top_k", "top_p", "min_p",
                       "repetition_penalty", "stop", "stop_token_ids", "ignore_eos", "max_think_tokens"});
  object.integer("max_new_tokens", out.max_new_tokens, 1, 1 << 24);
  object.integer("min_new_tokens", out.min_new_tokens, 0, 1 << 24);
  object.number("temperature", out.temperature);
  object.integer("top_k", out.top_k, 0, 1 << 24);
  object.number("top_p", out.top_p);
  object.number("min_p", out.min_p);
  object.number("repetition_penalty", out.repetition_penalty);
  object.strings("stop", out.stop);
  object.integers("stop_token_ids", out.stop_token_ids, 0, 1 << 30);
  object.flag("ignore_eos", out.ignore_eos);
  object.integer("max_think_tokens", out.max_think_tokens, 0, 1 << 24);
  try {
    out.validate();
  } catch (const InputError& error) {
    throw ModelError(fmt::format("{}: \"decoding\" does not work: {}", where, error.what()));
  }
}

std::string bundled_names() {
  std::vector<std::string> names;
  for (const auto& [name, json] : bundled_recipes()) names.push_back(name);
  return fmt::format("{}", fmt::join(names, ", "));
}

Recipe bundled(const std::string& name) {
  return parse_recipe(base::parse_json(bundled_recipes().at(name), "the bundled recipe " + name),
                      "the bundled recipe " + name);
}

}  // namespace

bool PromptTemplate::trace_in_body() const {
  return std::any_of(body().begin(), body().end(), [](const std::string& piece) {
    const auto names = placeholders(piece);
    return std::find(names.begin(), names.end(), "trace") != names.end();
  });
}

const Instruction& Recipe::preset(const Task& task) const {
  if (task.family.empty()) return instruction;
  const auto family = presets.find(task.family);
  if (family == presets.end()) {
    std::vector<std::string> names;
    for (const auto& [key, value] : presets) names.push_back(key);
    throw InputError(fmt::format("The task \"{}\" is not one of the recipe \"{}\", which has {}.",
                                 printable(task.family, 40), name,
                                 names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "))));
  }
  const char* side = task.side == Side::kQuery ? "query" : "target";
  const auto found = family->second.find(side);
  return found == family->second.end() ? instruction : found->second;
}

Recipe parse_recipe(const Json& json, const std::string& where) {
  const Object object(
      json, where, "",
      {"name", "description", "prompt", "instruction", "tasks", "trace", "pooling", "pooling_token",
       "normalize", "dims", "image", "video", "decoding", "benchmark_prompts"});
  Recipe out;
  out.source = json;
  out.name = where;
  object.text("name", out.name);
  object.text("description", out.description);
  if (const Json* prompt = object.find("prompt")) parse_prompt(*prompt, where, out.prompt);
  if (const Json* value = object.find("instruction"))
    out.instruction = parse_instruction(*value, where, "instruction");
  if (const Json* tasks = object.find("tasks")) parse_presets(*tasks, where, out);
  if (const Json* trace = object.find("trace")) parse_trace(*trace, where, out.trace);
  parse_pooling(object, out);
  object.flag("normalize", out.normalize);
  object.integers("dims", out.dims, 1, 1 << 20);
  parse_media(object, out);
  if (const Json* decoding = object.find("decoding")) parse_decoding(*decoding, where, out.decoding);
  // Read by the evaluation from `source`; checked here, so that a misspelt one is found when the model loads.
  [[maybe_unused]] const auto wording =
      object.choice("benchmark_prompts", {"plain", "vlm2vec", "qwen3_vl_embedding"});
  return out;
}

Recipe load_recipe(const std::filesystem::path& checkpoint, const std::string& wanted) {
  if (!wanted.empty()) {
    if (bundled_recipes().count(wanted) != 0) return bundled(wanted);
    std::error_code error;  // Of a path that cannot be looked at; it is no file then.
    if (!std::filesystem::is_regular_file(wanted, error)) {
      throw ModelError(fmt::format("The recipe \"{}\" is neither a file nor one of the bundled recipes: {}.",
                                   printable(wanted), bundled_names()));
    }
    return parse_recipe(base::read_json(wanted), wanted);
  }
  const std::filesystem::path own = checkpoint / "recipe.json";
  if (std::filesystem::exists(own)) return parse_recipe(base::read_json(own), own.string());
  return bundled("raw");
}

}  // namespace tte::prompt
