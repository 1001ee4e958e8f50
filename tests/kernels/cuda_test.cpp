// The CUDA kernels against the same float64 formulas. Built twice: into tte_cuda_check for a GPU, and as
// test_kernels_cuda_shim for every machine, which runs them on the processor.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/packed_weight.h"
#include "kernels/pages.h"

namespace tte::kernels {
namespace {

using base::LinearFormat;
using reference::difference;
using reference::make_pages;
using reference::Pages;
using reference::random;
using reference::rounding;
using reference::Step;

#ifdef TTE_CUDA_SHIM
const at::Device kDevice = at::kCPU;
constexpr std::int64_t kManyRows = 18;  // More would only take longer.
#else
const at::Device kDevice(at::kCUDA, 0);
constexpr std::int64_t kManyRows = 300;
#endif

constexpr std::int64_t kRows[] = {0, 1, 3, 17, kManyRows};
constexpr std::int64_t kWidths[] = {1, 5, 64, 77, 128, 1280, 1536, 8960};

class CudaTest : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  static void SetUpTestSuite() { load_cuda(); }
  static at::Tensor gpu(const at::Tensor& x) {
    return x.to(kDevice, x.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  }
};

double norm_tolerance(at::ScalarType type) {
  return 3.02 * rounding(type) + 16.0 * rounding(at::kFloat);
}
double attention_tolerance(at::ScalarType type) {
  return type == at::kFloat ? 64.0 * rounding(at::kFloat) : 4.0 * rounding(type);
}

TEST_P(CudaTest, Linear) {
  const auto type = GetParam();
  for (const std::int64_t rows : {0, 1, 2, 17, 300}) {
    for (const auto& [in, out] : {std::pair{64, 48}, {65, 33}, {1536, 256}}) {
      const at::Tensor x = random({rows, in}, type, 1),
                       weight = random({out, in}, type, 2, 1.0 / std::sqrt(in));
      const at::Tensor bias = random({out}, type, 3);
      const double tolerance = 2.02 * rounding(type) + 8.0 * rounding(at::kFloat) * std::sqrt(in);
      EXPECT_EQ(
          difference(kernels::linear(gpu(x), gpu(weight), {}), reference::linear(x, weight, {}), tolerance),
          "");
      EXPECT_EQ(difference(kernels::linear(gpu(x), gpu(weight), gpu(bias)),
                           reference::linear(x, weight, bias), tolerance),
                "");
      const at::Tensor logits = kernels::linear_float(gpu(x), gpu(weight));
      EXPECT_EQ(logits.scalar_type(), at::kFloat);
      EXPECT_EQ(
          difference(logits, reference::linear(x, weight, {}), 8.0 * rounding(at::kFloat) * std::sqrt(in)),
          "")
          << rows << " rows, " << in << " -> " << out;
    }
  }
}

TEST_P(CudaTest, Norms) {
  const auto type = GetParam();
  for (const std::int64_t rows : kRows) {
    for (const std::int64_t width : kWidths) {
      const at::Tensor x = random({rows, width}, type, 1, 3.0), delta = random({rows, width}, type, 4);
      const at::Tensor weight = random({width}, type, 2), bias = random({width}, type, 3);
      EXPECT_EQ(difference(kernels::rms_norm(gpu(x), gpu(weight), 1e-6), reference::rms_norm(x, weight, 1e-6),
                           norm_tolerance(type)),
                "")
          << "rms_norm, " << rows << " x " << width;
      EXPECT_EQ(
          difference(kernels::rms_norm(gpu(x), gpu(weight), 1e-6, NormScale::kOnePlusWeight),
                     reference::rms_norm(x, weight, 1e-6, NormScale::kOnePlusWeight), norm_tolerance(type)),
          "")
          << "rms_norm with one plus the weight, " << rows << " x " << width;
      EXPECT_EQ(difference(kernels::layer_norm(gpu(x), gpu(weight), gpu(bias), 1e-6),
                           reference::layer_norm(x, weight, bias, 1e-6), norm_tolerance(type)),
                "")
          << "layer_norm, " << rows << " x " << width;
      at::Tensor residual = gpu(x);
      const at::Tensor normalised = kernels::add_rms_norm(residual, gpu(delta), gpu(weight), 1e-5);
      EXPECT_TRUE(residual.cpu().equal(x + delta)) << rows << " x " << width;
      EXPECT_EQ(difference(normalised, reference::rms_norm(x + delta, weight, 1e-5), norm_tolerance(type)),
                "")
          << "add_rms_norm, " << rows << " x " << width;
    }
  }
}

TEST_P(CudaTest, NormsTakeStridedViews) {
  const auto type = GetParam();
  const at::Tensor heads = random({5, 12, 64}, type, 1), weight = random({64}, type, 2);
  const at::Tensor view = heads.narrow(1, 2, 4);
  EXPECT_EQ(difference(kernels::rms_norm(gpu(heads).narrow(1, 2, 4), gpu(weight), 1e-6),
                       reference::rms_norm(view, weight, 1e-6), norm_tolerance(type)),
            "");
  const at::Tensor rows = random({5, 3, 64}, type, 3);
  EXPECT_EQ(difference(kernels::rms_norm(gpu(rows).select(1, 1), gpu(weight), 1e-6),
                       reference::rms_norm(rows.select(1, 1), weight, 1e-6), norm_tolerance(type)),
            "");
}

TEST_P(CudaTest, ActivationsAndSiluMul) {
  const auto type = GetParam();
  for (const std::int64_t rows : kRows) {
    for (const std::int64_t width : {1, 77, 1280}) {
      const at::Tensor x = random({rows, 2 * width}, type, 1, 4.0);
      EXPECT_EQ(difference(silu_mul(gpu(x)), reference::silu_mul(x), norm_tolerance(type)), "")
          << rows << " x " << width;
      for (const auto activation :
           {Activation::kQuickGelu, Activation::kGelu, Activation::kGeluTanh, Activation::kSilu}) {
        EXPECT_EQ(difference(activate(gpu(x), activation), reference::activate(x, activation),
                             1.01 * rounding(type) + 8.0 * rounding(at::kFloat)),
                  "")
            << "activation " << static_cast<int>(activation) << ", " << rows << " x " << width;
      }
    }
  }
}

TEST_P(CudaTest, RopeRotatesViewsInPlace) {
  const auto type = GetParam();
  for (const std::int64_t rows : kRows) {
    for (const std::int64_t head_dim : {2, 72, 80, 128}) {
      const at::Tensor qkv = random({rows, 7, head_dim}, type, 1),
                       angles = random({rows, head_dim}, at::kFloat, 2);
      at::Tensor device_qkv = gpu(qkv).clone();
      at::Tensor q = device_qkv.narrow(1, 1, 4);
      rope_(q, gpu(angles.cos()), gpu(angles.sin()));
      EXPECT_EQ(difference(q, reference::rope(qkv.narrow(1, 1, 4), angles.cos(), angles.sin()),
                           1.01 * rounding(type) + 4.0 * rounding(at::kFloat)),
                "")
          << rows << " rows, head_dim " << head_dim;
      EXPECT_TRUE(device_qkv.cpu().narrow(1, 0, 1).equal(qkv.narrow(1, 0, 1)));
      EXPECT_TRUE(device_qkv.cpu().narrow(1, 5, 2).equal(qkv.narrow(1, 5, 2)));
    }
  }
}

TEST_P(CudaTest, RaggedAttention) {
  const auto type = GetParam();
  for (const std::int64_t head_dim : {64, 72, 80, 128, 20}) {
    for (const std::vector<std::int32_t>& cu_seqlens :
         {std::vector<std::int32_t>{0, 0}, {0, 1}, {0, 0, 1, 1, 2}, {0, 2, 2, 5}, {0, 17, 18, 300}}) {
      const at::Tensor qkv = random({cu_seqlens.back(), 8, head_dim}, type, 1), device_qkv = gpu(qkv);
      const double scale = 1.0 / std::sqrt(head_dim);
      const auto part = [](const at::Tensor& x, int i) {
        return x.narrow(1, i == 0 ? 0 : 2 + 2 * i, i == 0 ? 4 : 2);
      };
      for (const bool causal : {false, true}) {
        EXPECT_EQ(difference(attention(part(device_qkv, 0), part(device_qkv, 1), part(device_qkv, 2),
                                       cu_seqlens, causal, scale),
                             reference::ragged_attention(part(qkv, 0), part(qkv, 1), part(qkv, 2), cu_seqlens,
                                                         causal, scale),
                             attention_tolerance(type)),
                  "")
            << cu_seqlens.back() << " rows, head_dim " << head_dim << (causal ? ", causal" : "");
      }
    }
  }
}

TEST_P(CudaTest, PagedAttention) {
  const auto type = GetParam();
  for (const std::int64_t head_dim : {64, 80, 128, 20}) {
    for (const Step& step : reference::steps()) {
      for (const auto& [heads, kv_heads] : {std::pair{4, 4}, {12, 2}}) {
        const Pages pages = make_pages(step.rows, step.lengths, kv_heads, head_dim, type, kDevice);
        const at::Tensor fused = random({pages.batch.cu_seqlens.back(), heads + 1, head_dim}, type, 7);
        const double scale = 1.0 / std::sqrt(head_dim);
        EXPECT_EQ(difference(paged_attention(gpu(fused).narrow(1, 0, heads), pages.cache, pages.batch, scale),
                             reference::paged_attention(fused.narrow(1, 0, heads), pages, scale),
                             attention_tolerance(type)),
                  "")
            << step.name << ", head_dim " << head_dim << ", " << heads << "/" << kv_heads << " heads";
      }
    }
  }
}

TEST_P(CudaTest, PagedAttentionReadsLengthsOnTheDevice) {
  const auto type = GetParam();
  const double scale = 0.125;
  for (const std::int64_t head_dim : {80, 20}) {
    Pages pages = make_pages({1, 1, 1}, {600, 1, 65}, 2, head_dim, type, kDevice);
    const at::Tensor q = random({3, 12, head_dim}, type, 7);
    PagedBatch& batch = pages.batch;
    batch.device_cu_seqlens = gpu(at::tensor(batch.cu_seqlens, at::kInt));
    batch.device_lengths = gpu(at::tensor(batch.lengths, at::kInt));
    batch.lengths.assign(3, static_cast<std::int32_t>(batch.block_table.size(1) * pages.cache.keys.size(1)));
    if (!reads_device_lengths(kDevice, type, head_dim)) {
      EXPECT_TRUE(type == at::kFloat || head_dim == 20);
      EXPECT_THROW(paged_attention(gpu(q), pages.cache, batch, scale), c10::Error);
      continue;
    }
    EXPECT_EQ(difference(paged_attention(gpu(q), pages.cache, batch, scale),
                         reference::paged_attention(q, pages, scale), attention_tolerance(type)),
              "");
  }
}

TEST_P(CudaTest, RecurrencesGoOnWhereTheyStand) {
  const auto type = GetParam();
  const std::int64_t rows = kManyRows, channels = 70;
  const DeltaInputs in = reference::random_delta_inputs(rows, 2, 4, 16, 24, type);
  const at::Tensor x = random({rows, channels}, type, 8), weight = random({4, channels}, type, 9);
  const auto there = [](const DeltaInputs& inputs) {
    return DeltaInputs{gpu(inputs.q), gpu(inputs.k),    gpu(inputs.v),      gpu(inputs.a),
                       gpu(inputs.b), gpu(inputs.rate), gpu(inputs.dt_bias)};
  };
  at::Tensor columns = gpu(at::zeros({2, 3, channels}, type)), memory = gpu(at::zeros({2, 4, 16, 24}));
  std::vector<at::Tensor> convolved, read;
  std::int64_t begin = 0;
  for (const std::int32_t count : {1, 2, 7, static_cast<std::int32_t>(rows) - 10}) {
    convolved.push_back(
        kernels::causal_conv_silu(gpu(x.narrow(0, begin, count)), gpu(weight), columns, {0, count}, {1}));
    read.push_back(
        kernels::gated_delta_rule(there(reference::rows_of(in, begin, count)), memory, {0, count}, {1}));
    begin += count;
  }
  EXPECT_EQ(difference(at::cat(convolved), reference::causal_conv_silu(x, weight),
                       4.0 * rounding(type) + 16.0 * rounding(at::kFloat)),
            "");
  EXPECT_EQ(difference(at::cat(read), reference::gated_delta_rule(in),
                       1.01 * rounding(type) + 64.0 * rounding(at::kFloat)),
            "");
  EXPECT_EQ(memory[0].abs().sum().item<float>(), 0.0F);
}

TEST_P(CudaTest, Gates) {
  const auto type = GetParam();
  const at::Tensor both = random({kManyRows, 3, 2 * 77}, type, 1, 4.0);
  for (const Gate kind : {Gate::kSigmoid, Gate::kSilu}) {
    const at::Tensor on_gpu = gpu(both);
    EXPECT_EQ(difference(kernels::gated(on_gpu.narrow(2, 0, 77), on_gpu.narrow(2, 77, 77), kind),
                         reference::gated(both.narrow(2, 0, 77), both.narrow(2, 77, 77), kind),
                         2.02 * rounding(type) + 16.0 * rounding(at::kFloat)),
              "");
  }
}

constexpr LinearFormat kRounded[] = {LinearFormat::kInt8, LinearFormat::kInt4};

// A weight of few bits as files have it, drawn at random, and its numbers.
struct RandomRounded {
  RandomRounded(LinearFormat format, std::int64_t out, std::int64_t in, std::uint64_t seed = 1) {
    at::manual_seed(seed);
    const bool four = format == LinearFormat::kInt4;
    const std::int64_t groups = four ? (in + base::kInt4Group - 1) / base::kInt4Group : 1;
    matrix.scales = (at::rand({out, groups}) + 0.1) / (74.0 * std::sqrt(in));
    // Words are filled up with whatever there is.
    matrix.codes = four ? at::randint(0, 256, {out, (in + 7) / 8 * 4}, at::kByte)
                        : at::randint(-128, 128, {out, in}, at::kChar);
    if (four)
      matrix.factors = at::randint(-15, 16, {out, groups * base::kInt4Group / base::kInt4Block}, at::kChar);
    numbers = reference::numbers(matrix, format, in);
  }
  base::RoundedMatrix matrix;
  at::Tensor numbers;  // float64 [out, in]
};

Weight weight_of(const RandomRounded& rounded, LinearFormat format, at::ScalarType type) {
  const std::int64_t out = rounded.numbers.size(0), in = rounded.numbers.size(1);
  return packed_weight(pack({rounded.matrix}, in, format, kDevice), format, out, in, type);
}

// What x times a weight differs in from its numbers, which are rounded to x's type where there are many rows.
std::string product_difference(const at::Tensor& x, const RandomRounded& rounded, const Weight& weight,
                               const at::Tensor& bias) {
  const auto type = x.scalar_type();
  const bool many = x.size(0) > 8;
  const at::Tensor numbers = many ? rounded.numbers.to(type) : rounded.numbers;
  double sums = 8.0 * rounding(at::kFloat) * std::sqrt(static_cast<double>(x.size(1)));
  // One that lies between two of the type's may become the other of them.
  if (many && numbers.numel() > 0)
    sums += 2.0 * rounding(type) * (numbers.abs().max() * x.abs().max()).item<double>();
  const at::Tensor on_gpu = x.is_contiguous() ? x.to(kDevice) : x;
  const std::optional<at::Tensor> wide = bias.to(at::kDouble);
  const at::Tensor logits = kernels::linear_float(on_gpu, weight),
                   plain = kernels::linear(on_gpu, weight, {}),
                   biased = kernels::linear(on_gpu, weight, bias.to(kDevice));
  if (logits.scalar_type() != at::kFloat || plain.scalar_type() != type) return "the types are wrong";
  const at::Tensor host = x.cpu(), right = reference::linear(host, numbers, {});
  std::string out = difference(logits, right, sums);
  if (out.empty()) out = difference(plain, right, 2.02 * rounding(type) + sums);
  if (out.empty())
    out = difference(biased, reference::linear(host, numbers, wide), 2.02 * rounding(type) + sums);
  return out;
}

TEST_P(CudaTest, ProductsWithWeightsOfFewBits) {
  const auto type = GetParam();
  for (const LinearFormat format : kRounded) {
    for (const auto& [in, out] :
         {std::pair{64, 64}, {65, 33}, {1, 1}, {8, 5}, {136, 70}, {1000, 13}, {2600, 7}, {1536, 66}}) {
      const RandomRounded rounded(format, out, in);
      const Weight weight = weight_of(rounded, format, type);
      const at::Tensor bias = random({out}, type, 3);
      for (const std::int64_t rows : {0, 1, 2, 3, 4, 5, 8, 9, 40})
        EXPECT_EQ(product_difference(random({rows, in}, type, 1), rounded, weight, bias), "")
            << base::quantization_name(format) << ", " << rows << " rows, " << in << " -> " << out;
    }
  }
}

TEST_P(CudaTest, RowsOfProductsMayLieAnywhere) {
  const auto type = GetParam();
  for (const LinearFormat format : kRounded) {
    const RandomRounded rounded(format, 9, 128);
    const Weight weight = weight_of(rounded, format, type);
    const at::Tensor bias = random({9}, type, 3), all = random({12, 300}, type, 1).to(kDevice);
    for (const std::int64_t rows : {1, 3, 11}) {
      for (const auto& x :
           {all.narrow(0, 0, rows).narrow(1, 0, 128), all.narrow(0, 1, rows).narrow(1, 3, 128),
            all.narrow(1, 0, rows).narrow(0, 0, 12).t().repeat({1, 11}).narrow(1, 1, 128)})
        EXPECT_EQ(product_difference(x, rounded, weight, bias), "") << rows << " rows, " << x.strides();
    }
  }
}

TEST_P(CudaTest, PartsOfWeightsOfFewBits) {
  const auto type = GetParam();
  for (const LinearFormat format : kRounded) {
    const RandomRounded rounded(format, 70, 96);
    const Weight whole = weight_of(rounded, format, type);
    for (const auto& [begin, count] : {std::pair{0, 70}, {0, 7}, {3, 40}, {30, 1}, {69, 1}, {5, 0}}) {
      RandomRounded part = rounded;
      part.numbers = rounded.numbers.narrow(0, begin, count);
      const at::Tensor bias = random({count}, type, 3);
      for (const std::int64_t rows : {1, 7, 20}) {
        const at::Tensor x = random({rows, 96}, type, 1);
        EXPECT_EQ(product_difference(x, part, whole.part(begin, count), bias), "") << begin << ", " << count;
        const Weight twice = whole.part(begin, count).part(count / 2, count - count / 2);
        part.numbers = rounded.numbers.narrow(0, begin + count / 2, count - count / 2);
        EXPECT_EQ(product_difference(x, part, twice, bias.narrow(0, count / 2, count - count / 2)), "");
        part.numbers = rounded.numbers.narrow(0, begin, count);
      }
    }
    // One below the other.
    const RandomRounded other(format, 5, 96, 2);
    EXPECT_TRUE(pack({rounded.matrix, other.matrix}, 96, format, kDevice)
                    .equal(at::cat({pack({rounded.matrix}, 96, format, kDevice),
                                    pack({other.matrix}, 96, format, kDevice)})));
  }
}

TEST_P(CudaTest, AnOutputThatIsNotANumberStaysAlone) {
  const auto type = GetParam();
  for (const LinearFormat format : kRounded) {
    RandomRounded rounded(format, 6, 64);
    rounded.matrix.scales[3][0] = NAN;
    for (const std::int64_t rows : {2, 10}) {
      const at::Tensor y =
          kernels::linear(gpu(random({rows, 64}, type, 1)), weight_of(rounded, format, type), {}).cpu();
      EXPECT_TRUE(y.isnan().equal(at::arange(6).eq(3).expand({rows, 6})));
    }
  }
}

// Of so many numbers that they are not made all at once.
TEST(LargeWeightsTest, BecomeNumbersPieceByPiece) {
  load_cuda();
  const RandomRounded rounded(LinearFormat::kInt4, 4170, 4096);
  const Weight weight = weight_of(rounded, LinearFormat::kInt4, at::kBFloat16);
  EXPECT_EQ(product_difference(random({9, 4096}, at::kBFloat16, 1), rounded, weight,
                               random({4170}, at::kBFloat16, 3)),
            "");
}

TEST(LargeWeightsTest, OtherFormatsAndSizesAreRefused) {
  load_cuda();
  const RandomRounded rounded(LinearFormat::kInt8, 64, 72);
  const at::Tensor bytes = pack({rounded.matrix}, 72, LinearFormat::kInt8, kDevice);
  EXPECT_THROW(packed_weight(bytes, LinearFormat::kInt8, 65, 72, at::kFloat), c10::Error);
  EXPECT_THROW(packed_weight(bytes, LinearFormat::kInt4, 64, 72, at::kFloat), c10::Error);
  EXPECT_THROW(packed_weight(bytes, LinearFormat::kPanels, 64, 72, at::kFloat), c10::Error);
  EXPECT_THROW(pack({rounded.matrix}, 73, LinearFormat::kInt8, kDevice), c10::Error);
  EXPECT_THROW(pack({rounded.matrix}, 72, LinearFormat::kInt4, kDevice), c10::Error);
}

INSTANTIATE_TEST_SUITE_P(Types, CudaTest, ::testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

}  // namespace
}  // namespace tte::kernels
