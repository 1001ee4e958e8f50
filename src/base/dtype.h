// The dtypes that models compute in, and their names: one place for options, config.json and messages.
#pragma once

#include <c10/core/ScalarType.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tte::base {

// "float32", "bfloat16", "float16".
const std::vector<std::string>& dtype_names();

// "float32, bfloat16 or float16".
std::string dtype_list();

// The dtype of a name, with or without "torch." before it, or of one of its aliases ("float", "half", "bf16",
// ...); none for others.
std::optional<at::ScalarType> parse_dtype(std::string_view name);

// The name of a dtype; torch's own word for one that no model computes in.
std::string dtype_name(at::ScalarType dtype);

}  // namespace tte::base
