#include "base/dtype.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <span>

namespace tte::base {
namespace {

struct Name {
  const char* name;
  at::ScalarType dtype;
};

// The first name of each is the one that is written.
constexpr Name kNames[] = {
    {"float32", at::kFloat}, {"bfloat16", at::kBFloat16}, {"float16", at::kHalf}, {"float", at::kFloat},
    {"fp32", at::kFloat},    {"bf16", at::kBFloat16},     {"half", at::kHalf},    {"fp16", at::kHalf},
};
constexpr std::size_t kDtypes = 3;

}  // namespace

const std::vector<std::string>& dtype_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const Name& each : std::span(kNames).first(kDtypes)) out.emplace_back(each.name);
    return out;
  }();
  return names;
}

std::string dtype_list() {
  const std::span names(dtype_names());
  return fmt::format("{} or {}", fmt::join(names.first(names.size() - 1), ", "), names.back());
}

std::optional<at::ScalarType> parse_dtype(std::string_view name) {
  constexpr std::string_view kPrefix = "torch.";
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  const auto* found =
      std::ranges::find(kNames, name, [](const Name& each) -> std::string_view { return each.name; });
  return found == std::end(kNames) ? std::nullopt : std::optional(found->dtype);
}

std::string dtype_name(at::ScalarType dtype) {
  const auto* found = std::ranges::find(kNames, dtype, &Name::dtype);
  return found == std::end(kNames) ? c10::toString(dtype) : found->name;
}

}  // namespace tte::base
