// Token pooling: which rows of a sequence become one.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "tte/token_embeddings.h"

namespace tte::api {

// Groups of rows, each ascending, in the order of their first rows.
using RowGroups = std::vector<std::vector<std::int64_t>>;

// ceil(n / factor) groups of the n rows of `rows` (float32 [n, dim], CPU).
RowGroups group_rows(const at::Tensor& rows, TokenPooling pooling, int factor);

}  // namespace tte::api
