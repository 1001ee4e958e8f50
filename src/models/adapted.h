// An adapter beside the base that it is given with: whether it was made for that one.
#pragma once

#include <string>
#include <vector>

#include "base/checkpoint.h"

namespace tte::models {

// Throws ModelError for an adapter that was made for a model of another family: of a class (adapter_config.json's
// auto_mapping) that is called like one of `model_types`, and not like the base's. Where it names another model than
// the base, which may have been renamed, a warning says so, once.
void check_adapted(const base::Checkpoint& checkpoint, const std::vector<std::string>& model_types);

}  // namespace tte::models
