#include "tte/adapter.h"

#include "prompt/checkpoint_files.h"

namespace tte {

std::optional<AdapterBase> adapter_base(const std::filesystem::path& folder) {
  return prompt::base_of(folder);
}

}  // namespace tte
