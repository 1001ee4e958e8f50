/// @file
/// The base model of a PEFT adapter or of an embedding head.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "tte/export.h"

namespace tte {

/// The model that an adapter changes, as its adapter_config.json names it, or a head goes on from (tte_head.json).
struct AdapterBase {
  std::string name;      ///< A folder, or a repository of a hub; empty: none is named.
  std::string revision;  ///< The revision of the repository; empty: any.
  /// Where it is here; empty: fetch it, and give it to LoadOptions with the adapter.
  std::filesystem::path folder;
};

/// The base of the folder of an adapter or of an embedding head; nothing for a folder of something else. The name is
/// looked for as a path: absolute; of an adapter seen from the current folder, then in the adapter's folder and beside
/// it; of a head seen from its folder, then from the current one. Throws ModelError for an adapter_config.json or a
/// tte_head.json that cannot be read.
TTE_API std::optional<AdapterBase> adapter_base(const std::filesystem::path& folder);

}  // namespace tte
