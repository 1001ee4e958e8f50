#include "api/token_pooling.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "kernels/kernels.h"

namespace tte::api {
namespace {

// Memory grows with the square of what is clustered together, and so does time.
constexpr std::int64_t kMostClustered = 2048;

struct Merge {
  float distance;
  std::int64_t a, b;
};

// All merges of Ward's method, from the squared distances [n, n] of n rows, by following nearest neighbours: in no
// particular order. A cluster goes by the number of one of its rows.
std::vector<Merge> ward_merges(std::vector<float>& distances, std::int64_t n) {
  const auto at = [&](std::int64_t i, std::int64_t j) -> float& {
    return distances[static_cast<std::size_t>(i * n + j)];
  };
  std::vector<float> size(static_cast<std::size_t>(n), 1);
  const auto rows_of = [&](std::int64_t i) -> float& { return size[static_cast<std::size_t>(i)]; };
  std::vector<std::int64_t> active(static_cast<std::size_t>(n)), chain;
  std::iota(active.begin(), active.end(), 0);
  std::vector<Merge> merges;
  while (active.size() > 1) {
    if (chain.empty()) chain.push_back(active.front());
    const std::int64_t last = chain.back(), before = chain.size() > 1 ? chain[chain.size() - 2] : -1;
    // Where several are equally near, the one before is taken, so that the chain ends.
    std::int64_t nearest = before;
    float least = before < 0 ? std::numeric_limits<float>::infinity() : at(last, before);
    for (const std::int64_t other : active) {
      if (other == last || (nearest >= 0 && at(last, other) >= least)) continue;
      least = at(last, other);
      nearest = other;
    }
    if (nearest != before) {
      chain.push_back(nearest);
      continue;
    }
    chain.resize(chain.size() - 2);
    merges.push_back({least, last, before});
    active.erase(std::find(active.begin(), active.end(), last));
    const float a = rows_of(last), b = rows_of(before);
    for (const std::int64_t other : active) {  // Lance and Williams' formula.
      if (other == before) continue;
      const float c = rows_of(other);
      at(other, before) = ((a + c) * at(other, last) + (b + c) * at(other, before) - c * least) / (a + b + c);
      at(before, other) = at(other, before);
    }
    rows_of(before) += a;
  }
  return merges;
}

std::vector<float> squared_distances(const at::Tensor& rows) {
  const at::Tensor products = kernels::linear(rows, rows, std::nullopt);
  const std::int64_t n = rows.size(0);
  const auto* product = products.const_data_ptr<float>();
  std::vector<float> out(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      const float squared = product[i * n + i] + product[j * n + j] - 2 * product[i * n + j];
      out[static_cast<std::size_t>(i * n + j)] = std::max(squared, 0.0F);
    }
  }
  return out;
}

void add_clusters(const at::Tensor& rows, std::int64_t begin, std::int64_t count, RowGroups& groups) {
  const std::int64_t n = rows.size(0);
  std::vector<float> distances = squared_distances(rows);
  std::vector<Merge> merges = ward_merges(distances, n);
  std::stable_sort(merges.begin(), merges.end(),
                   [](const Merge& a, const Merge& b) { return a.distance < b.distance; });
  std::vector<std::int64_t> root(static_cast<std::size_t>(n));
  std::iota(root.begin(), root.end(), 0);
  const auto find = [&](std::int64_t i) {
    while (root[static_cast<std::size_t>(i)] != i) i = root[static_cast<std::size_t>(i)];
    return i;
  };
  merges.resize(static_cast<std::size_t>(n - count));
  for (const Merge& merge : merges) {
    const std::int64_t a = find(merge.a), b = find(merge.b);
    root[static_cast<std::size_t>(std::max(a, b))] = std::min(a, b);
  }
  std::map<std::int64_t, std::vector<std::int64_t>> found;
  for (std::int64_t i = 0; i < n; ++i) found[find(i)].push_back(begin + i);
  for (auto& [first, members] : found) groups.push_back(std::move(members));
}

}  // namespace

RowGroups group_rows(const at::Tensor& rows, TokenPooling pooling, int factor) {
  const std::int64_t n = rows.size(0);
  RowGroups groups;
  if (factor == 1 || pooling == TokenPooling::kNeighbours) {
    for (std::int64_t i = 0; i < n; ++i) {
      if (i % factor == 0) groups.emplace_back();
      groups.back().push_back(i);
    }
    return groups;
  }
  // A whole number of groups in each run but the last.
  const std::int64_t run = std::max<std::int64_t>(kMostClustered / factor, 1) * factor;
  for (std::int64_t begin = 0; begin < n; begin += run) {
    const std::int64_t count = std::min(run, n - begin);
    add_clusters(rows.narrow(0, begin, count), begin, (count + factor - 1) / factor, groups);
  }
  return groups;
}

}  // namespace tte::api
