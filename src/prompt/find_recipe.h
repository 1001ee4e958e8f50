// Which recipe is in force for a checkpoint.
#pragma once

#include <optional>
#include <string>

#include "base/checkpoint.h"
#include "prompt/checkpoint_files.h"
#include "prompt/recipe.h"

namespace tte::prompt {

// The recipe that somebody named: `wanted` (a file, or a bundled recipe's name), else recipe.json in `checkpoint`, if
// there is one. A file may say "extends": "<a bundled recipe>" and what it changes, and "request_file": "<a file beside
// it>" for "request". Throws ModelError for what cannot be read.
std::optional<Recipe> given_recipe(const base::Checkpoint& checkpoint, const std::string& wanted);

// The recipe of a checkpoint for which nobody named one: the bundled one whose "applies_to" fits; else what its
// sentence-transformers files say; else the raw recipe, which is said once on the log. Throws ModelError where several
// fit, and for sentence-transformers files that ask for what tte does not have.
Recipe find_recipe(const base::Checkpoint& checkpoint, const CheckpointFiles& files);

// `recipe` with `options` over its "template_options". Throws ModelError for options that no template of `recipe`
// reads.
Recipe with_template_options(Recipe recipe, const TemplateOptions& options);

}  // namespace tte::prompt
