#include "prompt/recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <iterator>
#include <set>

#include "base/printable.h"
#include "prompt/decoding.h"
#include "prompt/pieces.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using base::Json;
using base::JsonObject;
using base::printable;

constexpr std::int64_t kMaxPixels = std::int64_t{1} << 32;
constexpr int kMaxFrames = 100'000;
constexpr std::int64_t kMostSide = 4096;

// An object of a recipe, which may have no other keys than these.
JsonObject known_object(const Json& json, const std::string& where, const std::string& path,
                        const std::vector<std::string_view>& known) {
  JsonObject object(json, where, path);
  object.allow_only(known);
  return object;
}

// A string, or a list of strings.
Pieces pieces(const JsonObject& object, const char* key, const Pieces& fallback) {
  const Json* value = object.find(key);
  if (value == nullptr) return fallback;
  if (value->is_string()) return {value->get<std::string>()};
  const auto list = base::strict_cast<Pieces>(*value);
  if (!list) object.reject(key, "it must be a string or a list of strings");
  return *list;
}

void check_placeholders(const JsonObject& object, const char* key, const Pieces& pieces,
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
    object.fail(key, "places the visuals twice: use {content}, or {media} with {text}, once");
  }
}

models::VisualOptions::Limits pixel_limits(const JsonObject& object) {
  models::VisualOptions::Limits out{object.integer("min_pixels", 1, kMaxPixels),
                                    object.integer("max_pixels", 1, kMaxPixels)};
  if (out.min_pixels && out.max_pixels && *out.min_pixels > *out.max_pixels)
    object.fail("min_pixels", fmt::format("is {}, more than max_pixels", *out.min_pixels));
  return out;
}

TemplateOptions parse_template_options(const JsonObject& object) {
  TemplateOptions out;
  for (const auto& [name, value] : object.json().items()) {
    if (name == "messages" || name == "tools" || name == "documents" || name == "add_generation_prompt")
      object.fail(name, "is no option of a template: tte sets it itself");
    if (const auto flag = base::strict_cast<bool>(value)) {
      out.emplace(name, *flag);
    } else if (const auto number = base::strict_cast<std::int64_t>(value)) {
      out.emplace(name, *number);
    } else if (const auto text = base::strict_cast<std::string>(value)) {
      out.emplace(name, *text);
    } else {
      object.reject(name, "it must be true, false, a whole number or a string");
    }
  }
  return out;
}

void check_prompt(const JsonObject& object, const PromptTemplate& prompt) {
  if (!prompt.chat && prompt.raw.empty())
    object.fail("raw", "is missing: style \"raw\" needs the text of the prompt");
  check_placeholders(object, "system", prompt.system, {"instruction"});
  const char* body = prompt.chat ? "user" : "raw";
  check_placeholders(object, body, prompt.body(),
                     {"content", "media", "images", "videos", "text", "instruction", "request", "trace"});
  for (const auto& [key, value] : {std::pair{"image", &prompt.image}, std::pair{"video", &prompt.video}}) {
    check_placeholders(object, key, {*value}, {"token"});
    if (placeholders(*value).size() != 1) object.fail(key, "must have the placeholder {token} exactly once");
  }
  const auto places_content = [](const std::string& piece) {
    const auto names = placeholders(piece);
    return std::any_of(names.begin(), names.end(), [](const std::string& name) {
      return name == "content" || name == "media" || name == "text";
    });
  };
  if (std::none_of(prompt.body().begin(), prompt.body().end(), places_content)) {
    object.fail(body, "places nothing of the item: it needs {content}, {media} or {text}");
  }
}

void parse_prompt(const Json& json, const std::string& where, PromptTemplate& out) {
  const JsonObject object = known_object(
      json, where, "prompt",
      {"style", "system", "user", "raw", "image", "video", "request", "generation_prompt", "no_text",
       "blank_image", "positions", "instruction_end", "strip_text", "template_options"});
  if (const auto style = object.choice("style", {"chat", "raw"})) out.chat = *style == 0;
  for (const char* key : {"system", "user", "generation_prompt", "template_options"}) {
    if (!out.chat && object.find(key))
      object.fail(key, "belongs to style \"chat\", but the style is \"raw\"");
  }
  for (const char* key : {"raw", "image", "video"}) {
    if (out.chat && object.find(key)) object.fail(key, "belongs to style \"raw\", but the style is \"chat\"");
  }
  out.system = pieces(object, "system", out.system);
  out.user = pieces(object, "user", out.user);
  out.raw = pieces(object, "raw", out.raw);
  out.image = object.text("image", out.image);
  out.video = object.text("video", out.video);
  out.generation_prompt = object.flag("generation_prompt", out.generation_prompt);
  out.template_options = parse_template_options(object.object("template_options"));
  if (const Json* no_text = object.find("no_text")) {
    const JsonObject texts = known_object(*no_text, where, "prompt.no_text", {"image", "video"});
    out.no_text_image = texts.text("image", out.no_text_image);
    out.no_text_video = texts.text("video", out.no_text_video);
  }
  out.blank_image = static_cast<int>(object.integer("blank_image", out.blank_image, 0, 4096));
  out.request = object.text("request", out.request);
  out.instruction_end = object.text("instruction_end", out.instruction_end);
  out.strip_text = object.flag("strip_text", out.strip_text);
  if (const auto positions = object.choice("positions", {"family", "past_all_axes", "sequential"})) {
    out.positions = static_cast<Positions>(*positions);
  }
  check_prompt(object, out);
}

// A string for both models, or an object with one for both or one for each.
Instruction parse_instruction(const Json& json, const std::string& where, const std::string& path) {
  Instruction out;
  if (json.is_string()) {
    out.reason = out.embed = json.get<std::string>();
    return out;
  }
  const JsonObject object = known_object(json, where, path, {"both", "reason", "embed", "think"});
  if (object.has("both") && (object.has("reason") || object.has("embed"))) {
    object.fail("both", "excludes \"reason\" and \"embed\"");
  }
  out.reason = object.text("both", out.reason);
  out.embed = out.reason;
  out.think = object.flag("think", out.think);
  out.reason = object.text("reason", out.reason);
  out.embed = object.text("embed", out.embed);
  return out;
}

void parse_presets(const Json& json, const std::string& where, Recipe& out) {
  const JsonObject tasks(json, where, "tasks");
  for (const auto& [family, sides] : tasks.json().items()) {
    const JsonObject object = known_object(sides, where, "tasks." + family, {"query", "target"});
    for (const char* side : {"query", "target"}) {
      if (const Json* value = object.find(side)) {
        out.presets[family][side] = parse_instruction(*value, where, object.below(side));
      }
    }
  }
}

void parse_evidence(const Json& json, const std::string& where, EvidenceRule& out) {
  constexpr int kMostEvidence = 1024;
  constexpr double kLargest = 1e9;
  const JsonObject object = known_object(
      json, where, "trace.evidence",
      {"open", "close", "behind", "boxes", "scale", "frames", "min_side", "max_aspect", "most", "frame"});
  out.open = object.text("open", "");
  out.close = object.text("close", "");
  for (const char* key : {"open", "close"}) {
    if (object.text(key, "").empty())
      object.fail(key, "is missing: it is a tag around what a trace points at");
  }
  out.behind = object.text("behind", "");
  out.boxes = object.text("boxes", "");
  out.frames = object.text("frames", "");
  out.scale = object.number("scale", out.scale, 0, kLargest);
  out.min_side = static_cast<int>(object.integer("min_side", out.min_side, 1, kMostSide));
  out.max_aspect = object.number("max_aspect", out.max_aspect, 0, kLargest);
  out.most = static_cast<int>(object.integer("most", out.most, 1, kMostEvidence));
  if (const Json* frame = object.find("frame"))
    out.frame_pixels =
        pixel_limits(known_object(*frame, where, "trace.evidence.frame", {"min_pixels", "max_pixels"}));
}

void parse_trace(const Json& json, const std::string& where, TraceFormat& out) {
  const JsonObject object =
      known_object(json, where, "trace",
                   {"open", "close", "keep", "suffix", "suffix_when_cut", "stop_tokens", "evidence"});
  out.open = object.text("open", out.open);
  out.close = object.text("close", out.close);
  out.suffix = object.text("suffix", out.suffix);
  out.suffix_when_cut = object.flag("suffix_when_cut", out.suffix_when_cut);
  out.stop_tokens = object.texts("stop_tokens");
  if (const auto keep = object.choice("keep", {"all", "conclusion"})) out.conclusion_only = *keep == 1;
  check_placeholders(object, "suffix", {out.suffix}, {"eos"});
  if (const Json* evidence = object.find("evidence")) parse_evidence(*evidence, where, out.evidence);
  if (out.evidence.points() && out.conclusion_only)
    object.fail("evidence", "needs the whole trace, but \"keep\" is \"conclusion\"");
}

// Images of evidence follow the item's own.
void check_evidence(const JsonObject& recipe, const Recipe& out) {
  if (!out.trace.evidence.points()) return;
  bool trace = false;
  for (const std::string& piece : out.prompt.body()) {
    for (const std::string& name : placeholders(piece)) {
      const bool media = name == "content" || name == "media" || name == "images" || name == "videos";
      if (trace && media)
        recipe.fail("trace", fmt::format("has \"evidence\", but {{{}}} stands behind {{trace}}", name));
      trace = trace || name == "trace";
    }
  }
  if (!trace)
    recipe.fail("trace", "has \"evidence\", but the prompt has no {trace} that its images could stand in");
}

PoolingRule parse_pooling(const JsonObject& object) {
  constexpr std::array kPoolings = {Pooling::kLast, Pooling::kToken, Pooling::kMean, Pooling::kNone};
  PoolingRule out;
  if (const auto pooling = object.choice("pooling", {"last", "token", "mean", "none"}))
    out.pooling = kPoolings[*pooling];
  out.token = object.text("pooling_token", "");
  out.else_last = object.choice("pooling_fallback", {"last"}).has_value();
  out.offset = object.integer("pooling_offset", 0, 0, kMostTokens);
  if (out.offset > 0 && out.pooling != Pooling::kLast)
    object.fail("pooling_offset", "is given, but only pooling \"last\" uses it");
  if (out.pooling == Pooling::kToken && out.token.empty()) {
    object.fail("pooling_token",
                "is missing: pooling \"token\" needs the token that is pooled, such as \"<emb>\"");
  }
  for (const char* key : {"pooling_token", "pooling_fallback"}) {
    if (out.pooling != Pooling::kToken && object.has(key))
      object.fail(key, "is given, but only pooling \"token\" uses it");
  }
  return out;
}

void parse_poolings(const JsonObject& recipe, Recipe& out) {
  const auto row = [](const PoolingRule& rule) {
    return rule.pooling == Pooling::kLast || rule.pooling == Pooling::kToken;
  };
  out.pooling = parse_pooling(recipe);
  const Json* json = recipe.find("without_trace");
  if (json == nullptr) return;
  out.without_trace =
      parse_pooling(known_object(*json, recipe.where(), "without_trace",
                                 {"pooling", "pooling_token", "pooling_fallback", "pooling_offset"}));
  if (!row(out.pooling) || !row(*out.without_trace))
    recipe.fail("without_trace", "goes with the poolings \"last\" and \"token\" only");
}

void parse_projections(const JsonObject& recipe, Recipe& out) {
  const Json* list = recipe.find("projection");
  if (list == nullptr) return;
  if (!list->is_array()) recipe.reject("projection", "it must be a list of objects");
  for (const Json& entry : *list) {
    const JsonObject object =
        known_object(entry, recipe.where(), "projection", {"file", "tensors", "activation", "residual"});
    models::ProjectionOptions& projection = out.projections.emplace_back();
    projection.file = object.text("file", "");
    projection.tensors = object.text("tensors", "");
    if (projection.file.empty() && projection.tensors.empty())
      object.fail("tensors", "is missing: it is what the names of the projection's tensors begin with");
    const Json* residual = object.find("residual");
    if (residual != nullptr && residual->is_string()) {
      projection.residual = true;
      projection.residual_tensors = residual->get<std::string>();
    } else {
      projection.residual = object.flag("residual", false);
    }
    if (const auto activation =
            object.choice("activation", {"identity", "tanh", "relu", "gelu", "sigmoid", "silu"}))
      projection.activation = static_cast<models::ProjectionActivation>(*activation);
  }
}

void parse_sparse(const JsonObject& recipe, Recipe& out) {
  const Json* json = recipe.find("sparse");
  if (json == nullptr) return;
  const JsonObject object = known_object(*json, recipe.where(), "sparse", {"file", "weights", "biases"});
  out.sparse.file = object.text("file", "");
  out.sparse.weights = object.text("weights", "");
  out.sparse.biases = object.text("biases", "");
  for (const char* key : {"file", "weights"}) {
    if (object.text(key, "").empty())
      object.fail(key, "is missing: it says where the heads of the sparse vector are");
  }
  if (out.pooling.offset == 0 || out.without_trace)
    recipe.fail("sparse",
                "needs a pooling_offset, and the same with and without a trace: its heads read the tokens "
                "behind the pooled one");
}

void parse_bidirectional(const JsonObject& recipe, models::Bidirectional& out) {
  const Json* value = recipe.find("bidirectional");
  if (value == nullptr) return;
  if (const auto flag = base::strict_cast<bool>(*value)) {
    out.all = *flag;
  } else if (const auto layers = base::strict_cast<std::vector<std::int64_t>>(*value)) {
    out.layers = *layers;
  } else {
    recipe.reject("bidirectional", "it must be true, false or a list of layers, counted from 0");
  }
}

void parse_latent(const JsonObject& recipe, Recipe& out) {
  using Context = LatentThinking::Context;
  constexpr std::int64_t kMostSteps = 4096, kMostExperts = 4096;
  const Json* json = recipe.find("latent");
  if (json == nullptr) return;
  const JsonObject object = known_object(*json, recipe.where(), "latent",
                                         {"steps", "open", "token", "context", "context_token", "tensors",
                                          "experts_per_step", "excluded_experts"});
  LatentThinking latent;
  for (const char* key : {"steps", "token", "tensors"}) {
    if (!object.has(key))
      object.fail(key, "is missing: latent steps need \"steps\", \"token\" and \"tensors\"");
  }
  latent.steps = static_cast<int>(object.integer("steps", 0, 0, kMostSteps));
  latent.open = object.text("open", "");
  latent.token = object.text("token", "");
  if (const auto context = object.choice("context", {"none", "last", "token"}))
    latent.context = static_cast<Context>(*context);
  latent.context_token = object.text("context_token", "");
  if ((latent.context == Context::kToken) == latent.context_token.empty()) {
    object.fail("context_token",
                "and \"context\": \"token\" go together: the token whose state every step sees");
  }
  latent.transition.tensors = object.text("tensors", "");
  if (latent.transition.tensors.empty())
    object.fail("tensors", "is empty: it is what the names of the transition's tensors begin with");
  latent.transition.experts_per_step = object.integer("experts_per_step", 1, 1, kMostExperts);
  const std::vector<std::int64_t> excluded = object.integers("excluded_experts", {}, 0, kMostExperts);
  const std::set<std::int64_t> each(excluded.begin(), excluded.end());
  latent.transition.excluded_experts.assign(each.begin(), each.end());
  if (out.without_trace || out.bidirectional.any() || out.prompt.trace_in_body()) {
    recipe.fail(
        "latent",
        "goes with no \"without_trace\", no \"bidirectional\" and no {trace}: such a model reads no traces, "
        "and one step after the other");
  }
  out.latent = std::move(latent);
}

// A list of sizes, or the least of all.
void parse_dims(const JsonObject& recipe, Recipe& out) {
  constexpr std::int64_t kMostDims = 1 << 20;
  const Json* json = recipe.find("dims");
  if (json == nullptr) return;
  if (json->is_object()) {
    const JsonObject object = known_object(*json, recipe.where(), "dims", {"from"});
    out.least_dim = static_cast<int>(object.integer("from", 1, 1, kMostDims));
    return;
  }
  out.dims.emplace();
  for (const std::int64_t dim : recipe.integers("dims", {}, 1, kMostDims))
    out.dims->push_back(static_cast<int>(dim));
}

void parse_applies_to(const JsonObject& recipe, Recipe& out) {
  const Json* json = recipe.find("applies_to");
  if (json == nullptr) return;
  const JsonObject object =
      known_object(*json, recipe.where(), "applies_to", {"model_types", "names", "tokens", "without_tokens"});
  AppliesTo rule;
  rule.model_types = object.texts("model_types");
  rule.names = object.texts("names");
  rule.tokens = object.texts("tokens");
  rule.without_tokens = object.texts("without_tokens");
  if (rule.names.empty() && rule.tokens.empty()) {
    recipe.fail("applies_to", "fits every model of a family: it needs \"names\" or \"tokens\"");
  }
  out.applies_to = std::move(rule);
}

void parse_frames(const JsonObject& object, Recipe& out) {
  auto& frames = out.visuals.frames;
  const auto count = [&](const char* key) -> std::optional<int> {
    const auto value = object.integer(key, 1, kMaxFrames);
    return value ? std::optional(static_cast<int>(*value)) : std::nullopt;
  };
  frames.fps = object.number("fps");
  if (frames.fps && !(*frames.fps > 0 && *frames.fps <= 1000))
    object.fail("fps", fmt::format("is {}: it must be more than 0 and at most 1000", *frames.fps));
  frames.num_frames = count("num_frames");
  if (frames.fps && frames.num_frames) object.fail("num_frames", "and \"fps\" exclude each other");
  frames.min_frames = count("min_frames");
  frames.max_frames = count("max_frames");
  if (frames.min_frames && frames.max_frames && *frames.min_frames > *frames.max_frames)
    object.fail("min_frames", fmt::format("is {}, more than max_frames", *frames.min_frames));
}

void parse_media(const JsonObject& recipe, Recipe& out) {
  const auto limits = [](const JsonObject& object, std::optional<std::int64_t>& least,
                         std::optional<std::int64_t>& most) {
    const auto found = pixel_limits(object);
    least = found.min_pixels;
    most = found.max_pixels;
  };
  if (const Json* image = recipe.find("image")) {
    const JsonObject object = known_object(*image, recipe.where(), "image",
                                           {"min_pixels", "max_pixels", "first", "min_side", "small_side"});
    limits(object, out.visuals.image_min_pixels, out.visuals.image_max_pixels);
    if (const Json* first = object.find("first")) {
      auto& size = out.visuals.image_first.emplace();
      limits(known_object(*first, recipe.where(), "image.first", {"min_pixels", "max_pixels"}),
             size.min_pixels, size.max_pixels);
    }
    out.visuals.image_min_side = static_cast<int>(object.integer("min_side", 0, 0, kMostSide));
    out.visuals.image_small_side = static_cast<int>(object.integer("small_side", 0, 0, kMostSide));
    if ((out.visuals.image_min_side > 0) != (out.visuals.image_small_side > 0))
      object.fail("small_side",
                  "and \"min_side\" go together: the side of images with a smaller one than that");
  }
  if (const Json* video = recipe.find("video")) {
    const JsonObject object = known_object(*video, recipe.where(), "video",
                                           {"min_pixels", "max_pixels", "total_pixels", "resize",
                                            "outer_tokens", "fps", "num_frames", "min_frames", "max_frames"});
    limits(object, out.visuals.video_min_pixels, out.visuals.video_max_pixels);
    if (const auto resize = object.choice("resize", {"processor", "qwen_vl_utils"}))
      out.visuals.video_resize = static_cast<models::VideoResize>(*resize);
    out.visuals.video_total_pixels = object.integer("total_pixels", 1, kMaxPixels);
    if (out.visuals.video_total_pixels && out.visuals.video_resize != models::VideoResize::kQwenVlUtils)
      object.fail("total_pixels", "belongs to \"resize\": \"qwen_vl_utils\"");
    out.visuals.video_outer_tokens = object.flag("outer_tokens", out.visuals.video_outer_tokens);
    parse_frames(object, out);
  }
}

void parse_decoding(const Json& json, const std::string& where, GenerateOptions& out) {
  const JsonObject object(json, where, "decoding");
  std::vector<std::string_view> known;
  GenerateOptions::numbers([&](const auto& number) {
    if (number.setter < GenerateOptions::Setter::kRecipe) return;
    known.emplace_back(number.name);
    read_number(object, number, out);
  });
  GenerateOptions::others([&](const char* name, auto member) {
    known.emplace_back(name);
    out.*member = base::get_or(object, name, out.*member);
  });
  object.allow_only(known);
  try {
    out.validate();
  } catch (const InputError& error) {
    throw ModelError(fmt::format("{}: \"decoding\" does not work: {}", where, error.what()));
  }
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
    names.reserve(presets.size());
    for (const auto& [key, value] : presets) names.push_back(key);
    throw InputError(fmt::format("The task \"{}\" is not one of the recipe \"{}\", which has {}.",
                                 printable(task.family, 40), name,
                                 names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "))));
  }
  const char* side = task.side == Side::kQuery ? "query" : "target";
  const auto found = family->second.find(side);
  return found == family->second.end() ? instruction : found->second;
}

void Recipe::check_reads_traces() const {
  if (!latent) return;
  throw InputError(fmt::format(
      "The recipe \"{}\" has the model think in latent steps while it embeds, and read no traces: "
      "give it none, and turn thinking off where a reasoner is given.",
      name));
}

void Recipe::check_writes_traces() const {
  if (!latent) return;
  throw InputError(fmt::format(
      "The recipe \"{}\" has the model think in latent steps while it embeds, and write no trace: "
      "embed with it and turn thinking off, or load another reasoner.",
      name));
}

Recipe parse_recipe(const Json& json, const std::string& where) {
  const JsonObject object = known_object(
      json, where, "",
      {"name",       "description", "applies_to",    "prompt",           "instruction",      "tasks",
       "trace",      "pooling",     "pooling_token", "pooling_fallback", "pooling_offset",   "without_trace",
       "projection", "sparse",      "bidirectional", "latent",           "normalize",        "dims",
       "max_length", "image",       "video",         "decoding",         "benchmark_prompts"});
  Recipe out;
  out.source = json;
  out.name = where;
  out.name = object.text("name", out.name);
  out.visuals.recipe = out.name;
  out.description = object.text("description", out.description);
  if (const Json* prompt = object.find("prompt")) parse_prompt(*prompt, where, out.prompt);
  if (const Json* value = object.find("instruction"))
    out.instruction = parse_instruction(*value, where, "instruction");
  if (const Json* tasks = object.find("tasks")) parse_presets(*tasks, where, out);
  if (const Json* trace = object.find("trace")) parse_trace(*trace, where, out.trace);
  parse_applies_to(object, out);
  parse_poolings(object, out);
  parse_projections(object, out);
  parse_sparse(object, out);
  parse_bidirectional(object, out.bidirectional);
  parse_latent(object, out);
  out.normalize = object.flag("normalize", out.normalize);
  parse_dims(object, out);
  out.max_length = static_cast<int>(object.integer("max_length", 0, 1, kMostTokens));
  parse_media(object, out);
  check_evidence(object, out);
  if (const Json* decoding = object.find("decoding")) parse_decoding(*decoding, where, out.decoding);
  // Read by the evaluation from `source`; checked here, so that a misspelt one is found when the model loads.
  [[maybe_unused]] const auto wording =
      object.choice("benchmark_prompts", {"plain", "vlm2vec", "qwen3_vl_embedding"});
  return out;
}

models::ModelOptions model_options(const Recipe& recipe) {
  models::ModelOptions out;
  out.bidirectional = recipe.bidirectional;
  if (recipe.latent) out.latent = recipe.latent->transition;
  for (const models::ProjectionOptions& projection : recipe.projections) {
    if (projection.file.empty()) out.read_elsewhere.push_back(projection.tensors);
  }
  return out;
}

Recipe bundled_recipe(const std::string& name) {
  const std::string where = "the bundled recipe " + name;
  return parse_recipe(base::parse_json(bundled_recipes().at(name), where), where);
}

}  // namespace tte::prompt
