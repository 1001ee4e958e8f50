// The CUDA kernels against the same float64 formulas. Built twice: test_kernels_cuda for a GPU, registered
// with ctest where there is one, and test_kernels_cuda_shim for every machine, which runs them on the
// processor.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/pages.h"

namespace tte::kernels {
namespace {

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

class CudaTest : public testing::TestWithParam<at::ScalarType> {
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

INSTANTIATE_TEST_SUITE_P(Types, CudaTest, testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

}  // namespace
}  // namespace tte::kernels
