// Where the files of a checkpoint are.
#pragma once

#include <concepts>
#include <filesystem>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"

namespace tte::base {

// A checkpoint's folder; or an adapter's folder before that of its base, the model that the adapter changes. What the
// adapter's folder has counts, be it a tokenizer or a config.json; the rest is the base's.
class Checkpoint {
 public:
  // Most checkpoints are one folder, given as anything that a path is made of.
  template <std::convertible_to<std::filesystem::path> Path>
  // NOLINTNEXTLINE(bugprone-forwarding-reference-overload, google-explicit-constructor)
  Checkpoint(Path&& folder) : folders_{std::filesystem::path(std::forward<Path>(folder))} {}
  // The two may be one folder, which then has tensors of its own beside the adapter's.
  Checkpoint(std::filesystem::path adapter, std::filesystem::path base)
      : folders_{std::move(adapter), std::move(base)} {}

  // What tells it from other checkpoints: the adapter's where there is one.
  [[nodiscard]] const std::filesystem::path& folder() const { return folders_.front(); }
  // In the order in which files are looked for.
  [[nodiscard]] const std::vector<std::filesystem::path>& folders() const { return folders_; }
  // Has the tensors that an adapter changes.
  [[nodiscard]] const std::filesystem::path& base() const { return folders_.back(); }
  [[nodiscard]] bool is_adapted() const { return folders_.size() > 1; }

  // The file of this name in the first folder that has it, else where it is missing: in the last.
  [[nodiscard]] std::filesystem::path operator/(std::string_view name) const {
    for (const auto& folder : folders_) {
      if (is_present(folder / name)) return folder / name;
    }
    return folders_.back() / name;
  }

 private:
  std::vector<std::filesystem::path> folders_;
};

}  // namespace tte::base
