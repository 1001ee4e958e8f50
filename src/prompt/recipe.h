// What differs between systems on one family, as data: models/recipes/README.md is the schema.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "media/video.h"
#include "tte/options.h"

namespace tte::prompt {

enum class Pooling { kLast, kToken, kMean, kNone };

// Prompt of one task family and side. Text is data: {text} stands for the item's own text parts, in place.
struct Preset {
  std::string reason;  // Instruction of the reasoner; empty: none.
  std::string embed;   // Instruction of the embedder; empty: none.
};

struct Recipe {
  std::string name = "raw";
  // How an item becomes text: "chat" (the checkpoint's template) or "raw" (a string with placeholders).
  bool chat = true;
  std::string raw_template;                  // kRaw: e.g. "{media}{instruction} {text}\n".
  std::optional<std::string> system;         // Chat: the system turn; "{instruction}" puts the instruction there.
  std::string instruction_position = "user"; // "user": before the text of the user turn; "system".
  std::string default_instruction;
  bool media_first = false;                  // Images and videos before text, whatever the item's order.
  std::string trace_suffix;                  // After the trace (or directly after the prompt), e.g. "<|im_end|>".
  Pooling pooling = Pooling::kLast;
  std::string pooling_token;                 // kToken: the last occurrence is pooled.
  bool normalize = true;
  std::vector<int> dims;                     // Matryoshka sizes that were trained; empty: any.
  std::string think_open = "<think>";
  std::string think_close = "</think>";
  base::Json generation = base::Json::object();  // Defaults under GenerateOptions' names.
  std::optional<std::int64_t> image_min_pixels, image_max_pixels, video_min_pixels, video_max_pixels;
  media::FrameSampling frames;
  std::map<std::string, std::map<std::string, Preset>> presets;  // family -> "query" | "target" -> Preset
};

// Throws ModelError naming file and key for anything unknown or of the wrong type.
Recipe parse_recipe(const base::Json& json, const std::string& where);

// `wanted` (a file, or a bundled recipe's name), else recipe.json in `checkpoint`, else the raw recipe: the
// checkpoint's chat template with the generation prompt, last token, L2.
Recipe load_recipe(const std::filesystem::path& checkpoint, const std::string& wanted);

}  // namespace tte::prompt
