// Which recipe is in force for a checkpoint.
#pragma once

#include <string>

#include "base/checkpoint.h"
#include "prompt/checkpoint_files.h"
#include "prompt/recipe.h"

namespace tte::prompt {

// The recipe `wanted`, a file or a bundled recipe's name, with `options` over its "template_options". A file may say
// "extends": "<a bundled recipe>" and what it changes, and "request_file": "<a file beside it>" for "request". Throws
// ModelError for what cannot be read, and for options that no template of the recipe reads.
Recipe named_recipe(const std::string& wanted, const TemplateOptions& options = {});

// The recipe of a checkpoint: the one that is named; else its recipe.json; else the bundled one whose "applies_to"
// fits; else what its sentence-transformers files say; else the raw recipe, which is said once on the log. Throws
// ModelError as named_recipe() does, where several bundled ones fit, and for sentence-transformers files that ask for
// what tte does not have.
Recipe find_recipe(const base::Checkpoint& checkpoint, const CheckpointFiles& files,
                   const std::string& wanted = {}, const TemplateOptions& options = {});

}  // namespace tte::prompt
