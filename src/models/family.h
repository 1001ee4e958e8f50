// What the registry knows of a family of models.
#pragma once

#include <functional>
#include <memory>

#include "base/checkpoint.h"
#include "models/model.h"
#include "models/preprocessor.h"
#include "models/tensor_names.h"

namespace tte::models {

// Both loaders throw ModelError for a checkpoint that does not fit.
struct Family {
  std::function<std::shared_ptr<const Preprocessor>(const base::Checkpoint&)> load_preprocessor;
  std::function<std::shared_ptr<const Model>(const base::Checkpoint&, const ModelOptions&)> load_model;
  Rename rename = first_generation;
};

}  // namespace tte::models
