#include "models/tensor_names.h"

#include <array>

namespace tte::models {
namespace {

// What that class puts before the names of the model's tensors.
constexpr std::string_view kInner = "vlm.";

}  // namespace

std::optional<std::string> replace_prefix(std::string_view name, std::span<const PrefixRule> rules) {
  for (const auto& [from, to] : rules) {
    if (name.starts_with(from)) return std::string(to).append(name.substr(from.size()));
  }
  return std::nullopt;
}

std::optional<std::string> first_generation(std::string_view name) {
  static constexpr std::array<PrefixRule, 6> rules = {{
      {"model.visual.", "visual."},
      {"model.language_model.", "model."},
      {"language_model.", "model."},
      {"embed_tokens.", "model.embed_tokens."},
      {"layers.", "model.layers."},
      {"norm.", "model.norm."},
  }};
  return replace_prefix(name, rules);
}

std::optional<std::string> renamed(const Rename& rename, std::string_view name) {
  const bool wrapped = name.starts_with(kInner);
  if (wrapped) name.remove_prefix(kInner.size());
  auto out = rename(name);
  return out || !wrapped ? out : std::string(name);
}

}  // namespace tte::models
