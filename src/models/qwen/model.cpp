#include "models/qwen/model.h"

#include <array>
#include <optional>
#include <string_view>

namespace tte::models::qwen {
namespace {

std::optional<std::string> first_generation(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 6> rules = {{
      {"model.visual.", "visual."},
      {"model.language_model.", "model."},
      {"language_model.", "model."},
      {"embed_tokens.", "model.embed_tokens."},
      {"layers.", "model.layers."},
      {"norm.", "model.norm."},
  }};
  for (const auto& [from, to] : rules) {
    if (name.starts_with(from)) return std::string(to).append(name.substr(from.size()));
  }
  return std::nullopt;
}

}  // namespace

std::shared_ptr<const Model> load_model(const base::Checkpoint& checkpoint, const ModelOptions& options,
                                        Parts parts) {
  parts.rename = first_generation;
  return assemble(checkpoint, options, parts);
}

}  // namespace tte::models::qwen
