// Weights of few bits, as they are published (blocks of FP8; compressed-tensors): which stored tensors make one weight,
// and which numbers it has.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "base/json.h"
#include "base/linear_format.h"
#include "base/rounded_matrix.h"
#include "weights/tensor_file.h"

namespace tte::weights {

// A tensor where it is stored.
struct StoredPlace {
  std::shared_ptr<const TensorFile> file;
  std::size_t index = 0;

  [[nodiscard]] const StoredTensor& stored() const { return file->tensors()[index]; }
  [[nodiscard]] at::Tensor map(at::ScalarType dtype) const {
    return map_tensor(file->file(), stored().begin, stored().shape, dtype);
  }
};

// A matrix of codes and a coarser grid of scales: value[i, j] = (number of the code - zero point) * scale, where scale
// and zero point are those of the block that (i, j) lies in.
class QuantizedWeight {
 public:
  // What the codes of a byte or less stand for.
  enum class Code : std::uint8_t {
    kInteger,  // The code less half of their number: -8 to 7 of 4 bits.
    kFloat8,   // E4M3, without infinities.
  };
  struct Parts {
    StoredPlace codes;
    StoredPlace scale;
    std::optional<StoredPlace> zero_point;
    std::optional<StoredPlace> factors;  // I8, for each kInt4Block columns: scales are multiplied with them.
    // [in]: the column of the grid of each column (of weights sorted by activation).
    std::optional<StoredPlace> groups;
    Code code = Code::kInteger;
    int bits = 8;
    bool packed = false;              // Codes lie densely in 32-bit words, rows apart; else one is a byte.
    std::vector<std::int64_t> shape;  // [out, in]
    std::vector<std::int64_t> block;  // Rows and columns of the matrix to a scale; empty: as the shapes tell.
    bool in_float = false;            // The product is a float; else rounded to the scale's type.
  };
  // Throws ModelError naming file and tensor for parts that do not fit together.
  explicit QuantizedWeight(Parts parts);

  [[nodiscard]] const std::vector<std::int64_t>& shape() const { return parts_.shape; }
  // What a file would call the type of the numbers.
  [[nodiscard]] const std::string& dtype() const { return dtype_; }
  // A new tensor [out, in] on the CPU.
  [[nodiscard]] at::Tensor dequantize() const;
  // The codes as they are stored and their scales, where a format keeps such: nothing to be rounded again.
  [[nodiscard]] std::optional<base::RoundedMatrix> as_rounded(base::LinearFormat format) const;

  // Adds the bytes of files that it is made of.
  void add_origin(base::Digester& digester) const;
  // Adds the rule by which they are read, which the bytes do not say.
  void add_format(base::Digester& digester) const;

 private:
  [[nodiscard]] std::vector<float> zero_points() const;
  // For each `inputs` columns the column of the grid that they share; empty where some do not share one.
  [[nodiscard]] std::vector<std::int64_t> shared_columns(std::int64_t inputs) const;
  void check_codes() const;
  void check_grid();
  void check_zero_point() const;
  void check_factors() const;
  // The scales of the grid, float32 [grid_rows_, grid_columns_].
  [[nodiscard]] at::Tensor scales() const;
  [[noreturn]] static void fail(const StoredPlace& place, const std::string& what);

  Parts parts_;
  std::int64_t grid_rows_ = 1, grid_columns_ = 1;
  std::vector<std::int64_t> column_groups_;  // [in]
  std::string dtype_;
};

// "quant_method" of weights with factors: of compressed-tensors otherwise.
inline constexpr const char* kOwnMethod = "tte";

// How the weights of a checkpoint are stored: config.json's "quantization_config".
class Quantization {
 public:
  // Nothing for a folder whose config.json has none, or for one without config.json. Throws ModelError naming file and
  // key for what tte does not read.
  static std::optional<Quantization> read(const std::filesystem::path& folder);

  // The module whose weight a tensor of this name holds in few bits: "model.layers.0.mlp.up_proj".
  [[nodiscard]] std::optional<std::string> module_of(std::string_view tensor, std::string_view dtype) const;

  using Find = std::function<std::optional<StoredPlace>(const std::string& name)>;
  // The weight of a module, and the names of its tensors below the module's. `find` gives the tensor of a full name.
  [[nodiscard]] std::pair<std::shared_ptr<const QuantizedWeight>, std::vector<std::string>> weight_of(
      const std::string& module, const Find& find) const;

 private:
  // What config.json says of some modules' weights.
  struct Group {
    int bits = 8;
    std::vector<std::int64_t> block;  // Empty: the scale's shape tells.
  };
  static Group read_group(const base::JsonObject& group);
  void read_fp8(const base::JsonObject& config);
  void read_compressed_tensors(const base::JsonObject& config);
  // The group whose packed words are just as many as a row of `columns` codes needs.
  [[nodiscard]] const Group& packed_group(const StoredPlace& packed, std::int64_t columns) const;

  std::string where_;           // config.json, for messages.
  bool blocks_of_fp8_ = false;  // quant_method is "fp8"; else "compressed-tensors".
  std::vector<Group> groups_;
};

}  // namespace tte::weights
