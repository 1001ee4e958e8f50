#include "tte/adapter.h"

#include <utility>

#include "prompt/checkpoint_files.h"

namespace tte {

std::optional<AdapterBase> adapter_base(const std::filesystem::path& folder) {
  std::optional<weights::AdapterBase> base = prompt::base_of(folder);
  if (!base) return std::nullopt;
  return AdapterBase{std::move(base->name), std::move(base->revision), std::move(base->folder)};
}

}  // namespace tte
