#include "tte/adapter.h"

#include <utility>

#include "weights/adapter.h"

namespace tte {

std::optional<AdapterBase> adapter_base(const std::filesystem::path& folder) {
  if (!weights::is_adapter(folder)) return std::nullopt;
  weights::AdapterBase base = weights::base_of_adapter(folder);
  return AdapterBase{std::move(base.name), std::move(base.revision), std::move(base.folder)};
}

}  // namespace tte
