#include "kernels/cuda_shim/reference_ops.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/reference.h"

namespace tte::kernels::cuda_shim {
namespace {

Splitting splitting = Splitting::kFromTorch;

// An operator's arguments by name, whatever this torch's schema has beside them.
class Arguments {
 public:
  Arguments(const c10::OperatorHandle& op, const torch::jit::Stack& stack)
      : names_(op.schema().arguments()), values_(stack.end() - static_cast<std::ptrdiff_t>(names_.size())) {}

  // None if there is no such argument.
  [[nodiscard]] c10::IValue operator[](const std::string& name) const {
    for (std::size_t i = 0; i < names_.size(); ++i) {
      if (names_[i].name() == name) return values_[static_cast<std::ptrdiff_t>(i)];
    }
    return {};
  }
  [[nodiscard]] std::size_t size() const { return names_.size(); }

 private:
  const std::vector<c10::Argument>& names_;
  torch::jit::Stack::const_iterator values_;
};

void check_rows(const char* name, const at::Tensor& x, at::ScalarType type) {
  TORCH_CHECK(x.scalar_type() == type && (type == at::kHalf || type == at::kBFloat16), "flash: ", name,
              " is ", x.scalar_type());
  TORCH_CHECK(x.stride(-1) == 1, "flash: ", name, " has strides ", x.strides());
  bool aligned = reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % 16 == 0;
  for (std::int64_t i = 0; i + 1 < x.dim(); ++i)
    aligned = aligned && (x.size(i) <= 1 || x.stride(i) % 8 == 0);
  TORCH_CHECK(aligned, "flash: rows of ", name, " are not aligned to 16 bytes: strides ", x.strides());
}

std::vector<std::int32_t> int32_values(const char* name, const at::Tensor& x, std::int64_t size) {
  TORCH_CHECK(x.scalar_type() == at::kInt && x.dim() == 1 && x.is_contiguous() && x.size(0) == size,
              "flash: ", name, " must be dense int32 [", size, "], not ", x.scalar_type(), " ", x.sizes());
  return {x.const_data_ptr<std::int32_t>(), x.const_data_ptr<std::int32_t>() + size};
}

// Whether flash attention 2 on a GPU of 132 processors, left to choose, may read the keys in several parts:
// where blocks of 64 rows leave a fifth of what two a processor would be.
bool may_split(std::int64_t sequences, std::int64_t heads, std::int64_t rows, std::int64_t keys,
               std::int64_t head_dim) {
  const std::int64_t keys_at_once = head_dim <= 64 ? 256 : head_dim <= 128 ? 128 : 64;
  const std::int64_t blocks = sequences * heads * ((rows + 63) / 64);
  return keys > keys_at_once && static_cast<double>(blocks) < 0.8 * 2 * 132;
}

void flash_attention_forward(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const Arguments arguments(op, *stack);
  const at::Tensor q = arguments["query"].toTensor(), k = arguments["key"].toTensor(),
                   v = arguments["value"].toTensor();
  const auto cu_queries = arguments["cum_seq_q"].toOptional<at::Tensor>(),
             cu_keys = arguments["cum_seq_k"].toOptional<at::Tensor>();
  const auto block_table = arguments["block_table"].toOptional<at::Tensor>(),
             used = arguments["seqused_k"].toOptional<at::Tensor>();
  const std::int64_t max_q = arguments["max_q"].toInt(), max_k = arguments["max_k"].toInt();
  const bool causal = arguments["is_causal"].toBool();
  const double scale = arguments["scale"].toDouble();
  TORCH_CHECK(arguments["dropout_p"].toDouble() == 0.0 && arguments["window_size_left"].isNone() &&
                  arguments["window_size_right"].isNone() && arguments["alibi_slopes"].isNone() &&
                  !arguments["return_debug_mask"].toBool(),
              "flash: no reference for dropout, windows, slopes and debug masks");

  // What flash_api.cpp checks or takes for granted.
  check_rows("q", q, q.scalar_type());
  check_rows("k", k, q.scalar_type());
  check_rows("v", v, q.scalar_type());
  TORCH_CHECK(q.dim() == 3 && k.dim() == (block_table ? 4 : 3) && k.sizes() == v.sizes(), "flash: q ",
              q.sizes(), ", k ", k.sizes(), ", v ", v.sizes());
  const std::int64_t heads = q.size(1), kv_heads = k.size(-2), head_dim = q.size(2);
  TORCH_CHECK(head_dim == k.size(-1) && head_dim % 8 == 0 && head_dim <= 256 && heads % kv_heads == 0,
              "flash: q ", q.sizes(), ", k ", k.sizes());
  TORCH_CHECK(cu_queries && cu_keys, "flash: the lengths of sequences are missing");
  const std::int64_t sequences = cu_queries->numel() - 1;
  TORCH_CHECK(sequences > 0, "flash: no sequences");
  const std::vector<std::int32_t> rows_of = int32_values("cum_seq_q", *cu_queries, sequences + 1);
  std::vector<std::int32_t> keys_of = int32_values("cum_seq_k", *cu_keys, sequences + 1);
  TORCH_CHECK(rows_of.front() == 0 && rows_of.back() == q.size(0), "flash: cum_seq_q does not end with ",
              q.size(0));
  if (block_table) {
    TORCH_CHECK(k.size(1) % 256 == 0, "flash: pages of ", k.size(1), " tokens");
    TORCH_CHECK(block_table->scalar_type() == at::kInt && block_table->dim() == 2 &&
                    block_table->size(0) == sequences && block_table->stride(1) == 1,
                "flash: block_table is ", block_table->scalar_type(), " ", block_table->sizes());
  } else {
    TORCH_CHECK(keys_of.back() == k.size(0), "flash: cum_seq_k does not end with ", k.size(0));
  }
  std::vector<std::int32_t> lengths(static_cast<std::size_t>(sequences));
  for (std::size_t i = 0; i < lengths.size(); ++i) lengths[i] = keys_of[i + 1] - keys_of[i];
  if (used) lengths = int32_values("seqused_k", *used, sequences);
  // A step of single rows takes another way, the query heads of a key head as rows of it.
  const bool swapped = max_q == 1 && heads > kv_heads;
  TORCH_CHECK(!swapped || q.size(0) == sequences, "flash: ", q.size(0), " rows of ", sequences,
              " sequences, and none may have more than one");

  const std::optional<std::int64_t> parts = arguments["num_splits"].toOptional<std::int64_t>();
  const bool split = splitting == Splitting::kFromTorch && (block_table || swapped) &&
                     (parts.value_or(0) > 0 ? *parts > 1
                                            : may_split(sequences, swapped ? kv_heads : heads,
                                                        swapped ? heads / kv_heads : max_q, max_k, head_dim));
  at::Tensor out = at::full(q.sizes(), NAN, q.options());
  for (std::int64_t i = 0; i < sequences; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const std::int64_t begin = rows_of[at], rows = rows_of[at + 1] - begin, length = lengths[at];
    TORCH_CHECK(rows >= 0 && rows <= max_q && length <= max_k, "flash: sequence ", i, " has ", rows,
                " rows and ", length, " keys, more than ", max_q, " and ", max_k);
    if (rows == 0) continue;
    const auto read = [&](const at::Tensor& from) {
      if (!block_table) return from.narrow(0, keys_of[at], length);
      const std::int64_t pages = (length + from.size(1) - 1) / from.size(1);
      return from.index_select(0, block_table->select(0, i).narrow(0, 0, pages))
          .flatten(0, 1)
          .narrow(0, 0, length);
    };
    const at::Tensor result = reference::attention(q.narrow(0, begin, rows), read(k), read(v), causal, scale)
                                  .view({rows, heads, head_dim});
    out.narrow(0, split && !swapped ? 0 : begin, rows).copy_(result);
  }
  torch::jit::drop(*stack, arguments.size());
  const at::Tensor nothing = at::empty({0});
  torch::jit::push(*stack, out, nothing, nothing, nothing, nothing);
}

void mm_dtype(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const Arguments arguments(op, *stack);
  const at::Tensor a = arguments["self"].toTensor(), b = arguments["mat2"].toTensor();
  const auto type = static_cast<at::ScalarType>(arguments["out_dtype"].toInt());
  TORCH_CHECK(a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(0), "mm: ", a.sizes(), " and ", b.sizes());
  TORCH_CHECK(a.scalar_type() == b.scalar_type() &&
                  (a.scalar_type() == at::kHalf || a.scalar_type() == at::kBFloat16) && type == at::kFloat,
              "mm: ", a.scalar_type(), " and ", b.scalar_type(), " give no ", type);
  torch::jit::drop(*stack, arguments.size());
  torch::jit::push(*stack, a.to(at::kDouble).mm(b.to(at::kDouble)).to(type));
}

}  // namespace

void set_splitting(Splitting value) {
  splitting = value;
}

TORCH_LIBRARY_IMPL(aten, CPU, library) {
  library.impl("_flash_attention_forward",
               torch::CppFunction::makeFromBoxedFunction<&flash_attention_forward>());
  library.impl("mm.dtype", torch::CppFunction::makeFromBoxedFunction<&mm_dtype>());
}

}  // namespace tte::kernels::cuda_shim
