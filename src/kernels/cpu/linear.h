// Which products oneDNN computes, and with how many rows.
#pragma once

#include <cstdint>

namespace tte::kernels::cpu {

// oneDNN computes large products of two-byte types where the processor has instructions that our kernels
// do not use. Tests have it computed by one of them on any processor; for the whole process.
enum class Products : std::uint8_t { kByProcessor, kOwn, kOneDnn };
void choose_products(Products products);

// Is a product of x [rows, k] and a weight [columns, k] worth more to oneDNN than rows that do not depend on
// their number?
bool is_large_product(std::int64_t rows, std::int64_t k, std::int64_t columns);

// oneDNN prepares code and memory for each number of rows that it meets, and keeps them by the thousand: a
// product is computed in parts of at most kMostRows rows, each filled up to one of a dozen numbers.
inline constexpr std::int64_t kMostRows = 1024;
std::int64_t filled_rows(std::int64_t rows);  // For 1 to kMostRows.

}  // namespace tte::kernels::cpu
