#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <future>
#include <limits>
#include <thread>
#include <utility>

#include "base/threads.h"
#include "kernels/kernels.h"
#include "tte/error.h"
#include "tte/token_embeddings.h"

namespace tte {
namespace {

// Rows of documents and of queries whose products are in memory at a time: 8 MiB.
constexpr std::int64_t kDocumentRows = 2048, kQueryRows = 1024;
constexpr auto kPollEvery = std::chrono::milliseconds(50);
constexpr float kNone = -std::numeric_limits<float>::infinity();

void check(const TokenSets& sets, const char* name) {
  bool fine = !sets.offsets.empty() && sets.offsets.front() == 0 && sets.dim > 0;
  for (std::size_t i = 0; fine && i < sets.size(); ++i) fine = sets.offsets[i] <= sets.offsets[i + 1];
  if (!fine) {
    throw InputError(fmt::format(
        "The offsets of the {} are {} numbers, which do not ascend from 0, or their vectors have {} "
        "dimensions: give one more offset than there are sets.",
        name, sets.offsets.size(), sets.dim));
  }
  if (sets.data == nullptr && sets.offsets.back() > 0) {
    throw InputError(fmt::format("The {} have {} vectors and no data: give the address of the first.", name,
                                 sets.offsets.back()));
  }
}

// Rows begin .. end in float32; those that are float32 already are not copied.
at::Tensor rows_of(const TokenSets& sets, std::int64_t begin, std::int64_t end) {
  const std::int64_t size = sets.half ? 2 : 4;
  // from_blob() has no const: nothing writes there.
  auto* at_begin = static_cast<char*>(const_cast<void*>(sets.data)) + begin * sets.dim * size;
  return at::from_blob(at_begin, {end - begin, sets.dim}, sets.half ? at::kHalf : at::kFloat).to(at::kFloat);
}

// Whole queries whose tokens are multiplied together, and the best that each token has met in the current document.
struct QueryBlock {
  std::size_t first = 0, last = 0;  // Queries.
  std::int64_t begin = 0;           // Their first row.
  at::Tensor rows;
  std::vector<float> best;
};

class Scorer {
 public:
  Scorer(const TokenSets& queries, const TokenSets& documents, bool mean)
      : queries_(queries),
        documents_(documents),
        mean_(mean),
        scores_(queries.size() * documents.size(), std::numeric_limits<float>::quiet_NaN()) {
    for (std::size_t i = 0; i < queries.size();) {
      QueryBlock block;
      block.first = block.last = i;
      block.begin = queries.offsets[i];
      while (block.last < queries.size() &&
             (block.last == block.first || queries.offsets[block.last + 1] - block.begin <= kQueryRows)) {
        ++block.last;
      }
      i = block.last;
      block.rows = rows_of(queries, block.begin, queries.offsets[block.last]);
      block.best.assign(static_cast<std::size_t>(block.rows.size(0)), kNone);
      blocks_.push_back(std::move(block));
    }
  }

  std::vector<float> operator()(const std::atomic<bool>& stop) {
    const std::int64_t rows = documents_.offsets.back();
    for (std::int64_t begin = 0; begin < rows && !stop; begin += kDocumentRows) {
      const std::int64_t end = std::min(rows, begin + kDocumentRows);
      const at::Tensor some = rows_of(documents_, begin, end);
      while (documents_.offsets[document_ + 1] <= begin) ++document_;  // Those that are empty keep NaN.
      for (QueryBlock& block : blocks_) {
        if (stop) break;
        if (block.rows.size(0) == 0) continue;
        const at::Tensor products = kernels::linear(some, block.rows, std::nullopt);
        at::parallel_for(static_cast<std::int64_t>(block.first), static_cast<std::int64_t>(block.last), 1,
                         [&](std::int64_t from, std::int64_t to) {
                           for (std::int64_t query = from; query < to; ++query)
                             add_products(block, static_cast<std::size_t>(query), products, begin);
                         });
      }
    }
    return std::move(scores_);
  }

 private:
  // The products of document rows from `begin` on with a query's tokens.
  void add_products(QueryBlock& block, std::size_t query, const at::Tensor& products, std::int64_t begin) {
    const std::int64_t first = queries_.offsets[query] - block.begin;
    const std::int64_t count = queries_.offsets[query + 1] - queries_.offsets[query];
    if (count == 0) return;
    const std::int64_t end = begin + products.size(0);
    float* best = block.best.data() + first;
    std::size_t document = document_;
    for (std::int64_t row = begin; row < end; ++row) {
      const float* product = products.const_data_ptr<float>() + (row - begin) * products.size(1) + first;
      for (std::int64_t k = 0; k < count; ++k) {  // NaN stays.
        best[k] = product[k] > best[k] || std::isnan(product[k]) ? product[k] : best[k];
      }
      while (documents_.offsets[document + 1] <= row) ++document;
      if (documents_.offsets[document + 1] > row + 1) continue;
      float sum = 0;
      for (std::int64_t k = 0; k < count; ++k) sum += best[k];
      scores_[query * documents_.size() + document] = mean_ ? sum / static_cast<float>(count) : sum;
      std::fill_n(best, count, kNone);
    }
  }

  const TokenSets& queries_;
  const TokenSets& documents_;
  bool mean_;
  std::vector<float> scores_;
  std::vector<QueryBlock> blocks_;
  std::size_t document_ = 0;  // The one that the rows at hand begin in.
};

}  // namespace

std::vector<float> maxsim(const TokenSets& queries, const TokenSets& documents,
                          const MaxSimOptions& options) {
  check(queries, "queries");
  check(documents, "documents");
  if (queries.dim != documents.dim) {
    throw InputError(fmt::format(
        "The queries' vectors have {} dimensions and the documents' {}: embed both with the same model "
        "and truncate_dim.",
        queries.dim, documents.dim));
  }
  if (options.threads < 0 || options.threads > base::most_threads()) {
    throw InputError(fmt::format("threads is {}: it must be from 0 (one per core) to {}.", options.threads,
                                 base::most_threads()));
  }
  // On a thread of its own: the caller's keeps the number of threads that torch has there, and polls meanwhile.
  std::atomic<bool> stop = false;
  std::packaged_task<std::vector<float>()> task([&] {
    const c10::InferenceMode inference;
    base::touch_thread_locals();
    base::set_operation_threads(options.threads > 0 ? options.threads
                                                    : static_cast<int>(std::thread::hardware_concurrency()));
    const base::AvailableThreads threads;
    return Scorer(queries, documents, options.mean)(stop);
  });
  auto result = task.get_future();
  base::check_room_for(1);
  std::thread worker(std::move(task));
  const auto wait = [&] {
    const auto check_cancel = [&] {
      if (options.cancel.cancelled())
        throw CancelledError("The call was cancelled before all documents were scored.");
    };
    check_cancel();
    while (result.wait_for(kPollEvery) != std::future_status::ready) {
      check_cancel();
      if (options.poll) options.poll();
    }
  };
  try {
    wait();
  } catch (...) {
    stop = true;
    worker.join();
    throw;
  }
  worker.join();
  return result.get();
}

}  // namespace tte
