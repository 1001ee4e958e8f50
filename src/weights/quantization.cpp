#include "weights/quantization.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Float8_e4m3fn.h>
#include <c10/util/Half.h>
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "base/file.h"
#include "base/printable.h"
#include "tte/error.h"

namespace tte::weights {
namespace {

using base::JsonObject;
using base::printable;

constexpr const char* kPacked = "weight_packed";
constexpr int kWordBits = 32;
constexpr std::int64_t kBlocksOfGroup = base::kInt4Group / base::kInt4Block;
constexpr std::int64_t kMostBlock = std::int64_t{1} << 40;

// Tensors of a quantised module that say how its inputs were quantised, which are left as they are here.
constexpr std::array kOfInputs = {"input_scale", "input_zero_point", "input_global_scale",
                                  "activation_scale"};

// In how many words that many codes lie densely.
std::int64_t words_of(std::int64_t codes, int bits) {
  return (codes * bits + kWordBits - 1) / kWordBits;
}

// The numbers of all codes.
std::vector<float> numbers(QuantizedWeight::Code code, int bits) {
  std::vector<float> all(std::size_t{1} << bits);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i] = code == QuantizedWeight::Code::kFloat8
                 ? static_cast<float>(
                       c10::Float8_e4m3fn(static_cast<std::uint8_t>(i), c10::Float8_e4m3fn::from_bits()))
                 : static_cast<float>(i) - static_cast<float>(all.size()) / 2;
  }
  return all;
}

// Codes that lie densely in words, every `stride`-th of which is theirs: low bits first, across words.
struct PackedCodes {
  const std::uint32_t* words;
  std::int64_t stride;
  int bits;
  std::uint32_t operator()(std::int64_t i) const {
    const std::int64_t word = i * bits / kWordBits;
    const auto shift = static_cast<int>(i * bits % kWordBits);
    std::uint32_t code = words[word * stride] >> shift;
    if (shift + bits > kWordBits) code |= words[(word + 1) * stride] << (kWordBits - shift);
    return code & ((1U << bits) - 1);
  }
};

// A code in each byte. Two's complement is turned into the code of kInteger by `flip`.
struct ByteCodes {
  const std::uint8_t* bytes;
  std::uint8_t flip;
  std::uint32_t operator()(std::int64_t i) const { return bytes[i] ^ flip; }
};

constexpr std::uint8_t flip_of(QuantizedWeight::Code code) {
  return code == QuantizedWeight::Code::kInteger ? 0x80 : 0;
}

// The words or bytes of a mapped tensor, aligned.
at::Tensor raw(const StoredPlace& place) {
  return place.map(place.stored().dtype == "I32" ? at::kInt : at::kByte);
}

// One row of the matrix: `scale` and `zero` are the row of the grid, and `column` is the grid's column of each of its
// columns.
template <typename Out, typename Codes>
void write_row(const Codes& codes, std::span<const float> table, const float* scale, const float* zero,
               std::span<const std::int64_t> column, Out* out) {
  for (std::size_t j = 0; j < column.size(); ++j) {
    const std::int64_t at = column[j];
    out[j] = static_cast<Out>((table[codes(static_cast<std::int64_t>(j))] - zero[at]) * scale[at]);
  }
}

}  // namespace

QuantizedWeight::QuantizedWeight(Parts parts)
    : parts_(std::move(parts)), dtype_(parts_.in_float ? "F32" : parts_.scale.stored().dtype) {
  check_codes();
  check_grid();
  if (parts_.zero_point) check_zero_point();
  if (parts_.factors) check_factors();
}

void QuantizedWeight::fail(const StoredPlace& place, const std::string& what) {
  throw ModelError(
      fmt::format("{} has tensor \"{}\" of {} and shape {}, {}: the weight of few bits cannot be read.",
                  place.file->file()->name(), printable(place.stored().name), place.stored().dtype,
                  shape_text(place.stored().shape), what));
}

void QuantizedWeight::check_codes() const {
  const StoredTensor& codes = parts_.codes.stored();
  const auto& shape = parts_.shape;
  if (codes.shape.size() != 2 || shape.size() != 2 ||
      std::ranges::any_of(shape, [](auto n) { return n < 1; }))
    fail(parts_.codes, "but a matrix is read");
  if (!parts_.packed) return;
  const std::int64_t words = codes.shape[1];
  if (codes.dtype != "I32" || shape[0] != codes.shape[0] || shape[1] > words * kWordBits ||
      words_of(shape[1], parts_.bits) != words) {
    fail(parts_.codes, fmt::format("but its weight of shape {} with {} bits takes I32 of [{}, in * {} / 32]",
                                   shape_text(shape), parts_.bits, shape[0], parts_.bits));
  }
}

void QuantizedWeight::check_grid() {
  const StoredTensor& scale = parts_.scale.stored();
  if (!scalar_type(scale.dtype)) fail(parts_.scale, "but scales are F32, F16 or BF16");
  const std::int64_t rows = parts_.shape[0];
  const std::int64_t columns = parts_.shape[1];
  auto grid = scale.shape;
  if (grid.size() < 2) grid.resize(2, 1);  // A scale for all, or one for each row.
  if (grid.size() == 2) {
    grid_rows_ = grid[0];
    grid_columns_ = grid[1];
  }
  const auto parts_of = [](std::int64_t size, std::int64_t block) { return (size + block - 1) / block; };
  auto& block = parts_.block;
  const bool as_said = !block.empty() && parts_of(rows, block[0]) == grid_rows_ &&
                       parts_of(columns, block[1]) == grid_columns_;
  if (grid.size() != 2 || grid_rows_ < 1 || grid_columns_ < 1 ||
      (!as_said && (rows % grid_rows_ != 0 || columns % grid_columns_ != 0)))
    fail(parts_.scale, fmt::format("which does not divide a weight of shape {}", shape_text(parts_.shape)));
  if (!as_said) block = {rows / grid_rows_, columns / grid_columns_};

  const std::int64_t parts = parts_.factors ? kBlocksOfGroup : 1;
  grid_columns_ *= parts;
  column_groups_.resize(static_cast<std::size_t>(columns));
  for (std::int64_t j = 0; j < columns; ++j)
    column_groups_[static_cast<std::size_t>(j)] = j / std::max<std::int64_t>(block[1] / parts, 1);
  if (!parts_.groups) return;
  const StoredTensor& groups = parts_.groups->stored();
  if (groups.dtype != "I32" || groups.shape != std::vector{columns})
    fail(*parts_.groups, fmt::format("but it is I32 of shape [{}]", columns));
  const at::Tensor map = parts_.groups->map(at::kInt);
  const std::span indices(map.const_data_ptr<std::int32_t>(), column_groups_.size());
  if (std::ranges::find(indices, -1) != indices.end())
    return;  // Never filled in: columns are in their order.
  if (std::ranges::any_of(indices, [&](std::int32_t i) { return i < 0 || i >= grid_columns_; }))
    fail(*parts_.groups, fmt::format("with a group outside of 0 to {}", grid_columns_ - 1));
  std::ranges::copy(indices, column_groups_.begin());
}

void QuantizedWeight::check_zero_point() const {
  const StoredTensor& zero = parts_.zero_point->stored();
  const bool is_packed = zero.dtype == "I32";
  const std::int64_t rows = is_packed ? words_of(grid_rows_, parts_.bits) : grid_rows_;
  auto shape = zero.shape;
  if (shape.size() < 2) shape.resize(2, 1);
  const char* dtype = parts_.code == Code::kFloat8 ? "F8_E4M3" : "I8";
  if (shape != std::vector{rows, grid_columns_} || (!is_packed && zero.dtype != dtype)) {
    fail(*parts_.zero_point,
         fmt::format("but its weight has {} x {} scales, each with a zero point of {} bits", grid_rows_,
                     grid_columns_, parts_.bits));
  }
}

void QuantizedWeight::check_factors() const {
  const StoredTensor& factors = parts_.factors->stored();
  const bool fits = parts_.scale.stored().dtype == "F32" && grid_rows_ == parts_.shape[0] && !parts_.groups &&
                    !parts_.zero_point && parts_.block == std::vector<std::int64_t>{1, base::kInt4Group};
  if (!fits || factors.dtype != "I8" || factors.shape != std::vector{grid_rows_, grid_columns_}) {
    fail(*parts_.factors,
         fmt::format("but there is one of I8 for each {} columns, and a scale of F32 for each {}",
                     base::kInt4Block, base::kInt4Group));
  }
}

// For each scale of the grid.
std::vector<float> QuantizedWeight::zero_points() const {
  std::vector<float> zeros(static_cast<std::size_t>(grid_rows_ * grid_columns_), 0);
  if (!parts_.zero_point) return zeros;
  const bool is_packed = parts_.zero_point->stored().dtype == "I32";
  const std::vector<float> table = numbers(parts_.code, is_packed ? parts_.bits : 8);
  const at::Tensor stored = raw(*parts_.zero_point);
  for (std::int64_t i = 0; i < grid_rows_; ++i) {
    for (std::int64_t j = 0; j < grid_columns_; ++j) {
      std::uint32_t code = 0;
      if (is_packed) {
        const auto* words = static_cast<const std::uint32_t*>(stored.const_data_ptr()) + j;
        code = PackedCodes{words, grid_columns_, parts_.bits}(i);
      } else {
        const auto* bytes = static_cast<const std::uint8_t*>(stored.const_data_ptr());
        code = ByteCodes{bytes, flip_of(parts_.code)}(i * grid_columns_ + j);
      }
      zeros[static_cast<std::size_t>(i * grid_columns_ + j)] = table[code];
    }
  }
  return zeros;
}

at::Tensor QuantizedWeight::dequantize() const {
  const at::Tensor scale = this->scales();
  const auto* scales = scale.const_data_ptr<float>();
  const std::vector<float> zeros = zero_points();
  const std::vector<float> table = numbers(parts_.code, parts_.bits);
  const at::Tensor codes = raw(parts_.codes);
  const std::int64_t stride = parts_.codes.stored().shape[1];
  at::Tensor weight = at::empty(parts_.shape, at::TensorOptions(*scalar_type(dtype_)));

  const auto fill = [&]<typename Out>(Out* out) {
    at::parallel_for(0, parts_.shape[0], 16, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t at = i / parts_.block[0] * grid_columns_;
        const auto write = [&](const auto& row) {
          write_row(row, table, scales + at, zeros.data() + at, column_groups_, out + i * parts_.shape[1]);
        };
        if (parts_.packed) {
          const auto* words = static_cast<const std::uint32_t*>(codes.const_data_ptr());
          write(PackedCodes{words + i * stride, 1, parts_.bits});
        } else {
          const auto* bytes = static_cast<const std::uint8_t*>(codes.const_data_ptr());
          write(ByteCodes{bytes + i * stride, flip_of(parts_.code)});
        }
      }
    });
  };
  switch (weight.scalar_type()) {
    case at::kHalf:
      fill(weight.mutable_data_ptr<at::Half>());
      break;
    case at::kBFloat16:
      fill(weight.mutable_data_ptr<at::BFloat16>());
      break;
    default:
      fill(weight.mutable_data_ptr<float>());
  }
  return weight;
}

std::vector<std::int64_t> QuantizedWeight::shared_columns(std::int64_t inputs) const {
  std::vector<std::int64_t> columns;
  for (auto at = column_groups_.begin(); at != column_groups_.end();) {
    const auto end = at + std::min<std::ptrdiff_t>(inputs, column_groups_.end() - at);
    if (std::any_of(at, end, [&](std::int64_t column) { return column != *at; })) return {};
    columns.push_back(*at);
    at = end;
  }
  return columns;
}

at::Tensor QuantizedWeight::scales() const {
  const at::Tensor stored = parts_.scale.map(*scalar_type(parts_.scale.stored().dtype)).to(at::kFloat);
  if (!parts_.factors) return stored.reshape({grid_rows_, grid_columns_}).contiguous();
  const at::Tensor factors = parts_.factors->map(at::kChar).to(at::kFloat);
  return stored.repeat_interleave(kBlocksOfGroup, 1).mul_(factors).contiguous();
}

std::optional<base::RoundedMatrix> QuantizedWeight::as_rounded(base::LinearFormat format) const {
  const bool eight = format == base::LinearFormat::kInt8;
  if (!base::is_rounded(format) || parts_.code != Code::kInteger || parts_.zero_point ||
      grid_rows_ != parts_.shape[0] || parts_.packed == eight || parts_.bits != (eight ? 8 : base::kInt4Bits))
    return std::nullopt;
  const StoredTensor& codes = parts_.codes.stored();
  base::RoundedMatrix out;
  out.codes = eight ? parts_.codes.map(at::kChar)
                    : map_tensor(parts_.codes.file->file(), codes.begin,
                                 {codes.shape[0], codes.shape[1] * kWordBits / 8}, at::kByte);
  if (parts_.factors) {
    out.scales = parts_.scale.map(at::kFloat);
    out.factors = parts_.factors->map(at::kChar);
    return out;
  }
  const std::vector<std::int64_t> columns = shared_columns(eight ? parts_.shape[1] : base::kInt4Group);
  if (columns.empty()) return std::nullopt;
  out.scales = scales().index_select(1, at::tensor(columns, at::kLong));
  if (!eight) out.factors = at::ones({grid_rows_, std::ssize(columns) * kBlocksOfGroup}, at::kChar);
  return out;
}

void QuantizedWeight::add_origin(base::Digester& digester) const {
  const auto add = [&](const StoredPlace& place) {
    const base::Digest& file = place.file->file()->identity();
    digester.bytes(&file, sizeof(file)).number(static_cast<std::int64_t>(place.stored().begin));
  };
  add(parts_.codes);
  add(parts_.scale);
  for (const auto* part : {&parts_.zero_point, &parts_.groups, &parts_.factors}) {
    digester.number(part->has_value() ? 1 : 0);
    if (*part) add(**part);
  }
  add_format(digester);
}

void QuantizedWeight::add_format(base::Digester& digester) const {
  digester.number(static_cast<std::int64_t>(parts_.code)).number(parts_.bits).number(parts_.packed ? 1 : 0);
  for (const std::int64_t size : parts_.shape) digester.number(size);
  for (const std::int64_t size : parts_.block) digester.number(size);
  digester.text(dtype_);
}

std::optional<Quantization> Quantization::read(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "config.json";
  if (!base::is_present(file)) return std::nullopt;
  const JsonObject root = base::read_json_object(file);
  const JsonObject owner = root.has("quantization_config") ? root : root.object("text_config");
  if (!owner.has("quantization_config")) return std::nullopt;
  const JsonObject config = owner.object("quantization_config");
  const std::string method = config.text("quant_method", "unknown");
  Quantization quantization;
  quantization.where_ = root.where();
  if (method == "fp8") {
    quantization.read_fp8(config);
  } else if (method == "compressed-tensors" || method == kOwnMethod) {
    quantization.read_compressed_tensors(config);
  } else {
    owner.fail(
        "quantization_config",
        fmt::format("says that the weights are quantised ({}), which tte does not read (it reads fp8 and "
                    "compressed-tensors): use the original checkpoint, or save it as bfloat16 with "
                    "transformers' model.dequantize()",
                    printable(method, 40)));
  }
  return quantization;
}

void Quantization::read_fp8(const JsonObject& config) {
  blocks_of_fp8_ = true;
  if (const std::string format = config.text("fmt", "e4m3"); format != "e4m3")
    config.reject("fmt", "tte reads weights of 8 bits as \"e4m3\" only");
  Group group;
  group.block = config.integers("weight_block_size", {}, 1, kMostBlock);
  if (!group.block.empty() && group.block.size() != 2)
    config.reject("weight_block_size", "it must be the rows and the columns of a block");
  groups_.push_back(std::move(group));
}

Quantization::Group Quantization::read_group(const JsonObject& group) {
  Group read;
  const JsonObject weights = group.object("weights");
  read.bits = static_cast<int>(weights.integer("num_bits", 8, 1, 8));
  const std::string type = weights.text("type", "int");
  if (type != "int" && (type != "float" || read.bits != 8))
    weights.reject("type", "tte reads weights that are \"int\", or \"float\" of 8 bits");
  if (weights.text("strategy", "") == "tensor_group")
    weights.reject("strategy", "tte reads weights with one scale for each tensor, row, group or block");
  if (weights.text("strategy", "") == "group" && weights.has("group_size"))
    read.block = {1, weights.integer("group_size", 1, 1, kMostBlock)};
  if (weights.has("block_structure") && weights.find("block_structure")->is_array())
    read.block = weights.integers("block_structure", {}, 1, kMostBlock);
  if (!read.block.empty() && read.block.size() != 2)
    weights.reject("block_structure", "it must be the rows and the columns of a block");
  return read;
}

void Quantization::read_compressed_tensors(const JsonObject& config) {
  const auto check_format = [](const JsonObject& owner) {
    const std::string format = owner.text("format", "pack-quantized");
    static constexpr std::array kKnown = {"pack-quantized",  "int-quantized",   "float-quantized",
                                          "naive-quantized", "mixed-precision", "dense"};
    if (std::ranges::find(kKnown, format) == kKnown.end()) {
      owner.reject("format", fmt::format("the formats that tte reads are {}", fmt::join(kKnown, ", ")));
    }
  };
  check_format(config);
  if (config.text("quantization_status", "compressed") != "compressed")
    config.reject("quantization_status", "tte reads weights that are \"compressed\"");
  if (config.has("kv_cache_scheme"))
    config.fail("kv_cache_scheme",
                "asks for a KV cache of few bits, which tte does not have: set it to null");
  const JsonObject sparsity = config.object("sparsity_config");
  if (const std::string format = sparsity.text("format", "dense"); format != "dense")
    sparsity.reject("format", "tte reads dense weights only");
  if (!config.object("transform_config").object("config_groups").json().empty())
    config.fail("transform_config",
                "transforms what layers read, which tte does not: use the original checkpoint");
  const JsonObject groups = config.object("config_groups");
  for (const auto& [name, json] : groups.json().items()) {
    const JsonObject group = groups.object(name);
    check_format(group);
    if (group.has("weights")) groups_.push_back(read_group(group));
  }
}

std::optional<std::string> Quantization::module_of(std::string_view tensor, std::string_view dtype) const {
  const auto dot = tensor.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view last = tensor.substr(dot + 1);
  const bool is_byte = dtype == "F8_E4M3" || (dtype == "I8" && !blocks_of_fp8_);
  if ((last == "weight" && is_byte) || (last == kPacked && !blocks_of_fp8_))
    return std::string(tensor.substr(0, dot));
  return std::nullopt;
}

const Quantization::Group& Quantization::packed_group(const StoredPlace& packed, std::int64_t columns) const {
  const auto& shape = packed.stored().shape;
  const std::int64_t words = shape.size() == 2 ? shape[1] : 0;
  const auto fits = [&](const Group& group) {
    return columns <= words * kWordBits && words_of(columns, group.bits) == words;
  };
  const Group* found = nullptr;
  for (const Group& group : groups_) {
    if (!fits(group)) continue;
    if (found != nullptr && found->bits != group.bits) {
      throw ModelError(
          fmt::format("{}: \"config_groups\" has groups of {} and of {} bits, and \"{}\" could be of "
                      "both.",
                      where_, found->bits, group.bits, printable(packed.stored().name)));
    }
    found = &group;
  }
  if (found != nullptr) return *found;
  throw ModelError(fmt::format(
      "{} has tensor \"{}\" of shape {}, which holds rows of {} numbers in none of the "
      "bits that {} has in \"config_groups\".",
      packed.file->file()->name(), printable(packed.stored().name), shape_text(shape), columns, where_));
}

std::pair<std::shared_ptr<const QuantizedWeight>, std::vector<std::string>> Quantization::weight_of(
    const std::string& module, const Find& find) const {
  std::vector<std::string> names;
  const auto part = [&](const std::string& name) {
    auto place = find(fmt::format("{}.{}", module, name));
    if (place) names.push_back(name);
    return place;
  };
  const auto needed = [&](const std::string& name) {
    if (auto place = part(name)) return *std::move(place);
    throw ModelError(
        fmt::format("{}: the weight of \"{}\" is quantised, but the checkpoint has no tensor "
                    "\"{}.{}\".",
                    where_, printable(module), printable(module), name));
  };
  QuantizedWeight::Parts parts;
  if (auto packed = blocks_of_fp8_ ? std::nullopt : part(kPacked)) {
    parts.codes = *std::move(packed);
    parts.packed = true;
    const StoredPlace shape = needed("weight_shape");
    const bool is_long = shape.stored().dtype == "I64";
    if (shape.stored().shape != std::vector<std::int64_t>{2} || (!is_long && shape.stored().dtype != "I32")) {
      throw ModelError(
          fmt::format("{} has tensor \"{}\" of {} and shape {}: it must be the two sizes of a weight.",
                      shape.file->file()->name(), printable(shape.stored().name), shape.stored().dtype,
                      shape_text(shape.stored().shape)));
    }
    const at::Tensor sizes = shape.map(is_long ? at::kLong : at::kInt).to(at::kLong);
    const auto* size = sizes.const_data_ptr<std::int64_t>();
    parts.shape = {size[0], size[1]};
    const Group& group = packed_group(parts.codes, parts.shape[1]);
    parts.bits = group.bits;
    parts.block = group.block;
    parts.groups = part("weight_g_idx");
    parts.factors = part("weight_factor");
  } else {
    parts.codes = needed("weight");
    parts.code =
        parts.codes.stored().dtype == "I8" ? QuantizedWeight::Code::kInteger : QuantizedWeight::Code::kFloat8;
    parts.shape = parts.codes.stored().shape;
    for (const Group& group : groups_) {
      if (parts.block.empty()) parts.block = group.block;
    }
  }
  parts.scale = needed(blocks_of_fp8_ ? "weight_scale_inv" : "weight_scale");
  if (blocks_of_fp8_) {
    parts.in_float = true;  // As in transformers: rounded once, to the type that the model computes in.
  } else {
    parts.zero_point = part("weight_zero_point");
  }
  for (const char* name : kOfInputs) part(name);
  return {std::make_shared<const QuantizedWeight>(std::move(parts)), std::move(names)};
}

}  // namespace tte::weights
