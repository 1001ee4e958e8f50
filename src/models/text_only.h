// Families of models that read text only, which differ in their config alone.
#pragma once

#include <string>
#include <vector>

#include "models/config_file.h"
#include "models/family.h"

namespace tte::models {

// `read` reads config.json; `unread` is Parts::unread. Images and videos are refused, naming the checkpoint; tokens
// count up from position 0.
Family text_only_family(TextConfig (*read)(const ConfigFile& file), std::vector<std::string> unread = {});

}  // namespace tte::models
