// Every kernel of the CPU against the ATen operations that it replaces, on the shapes of Qwen2-VL-2B, in one
// run.
//
// Compare within a run and by the minimum: run with --benchmark_repetitions=5 and read *_min, or use
// benchmarks/kernels/compare.py, which prints the table of ratios.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/packed_weight.h"

namespace tte::kernels {
namespace {

using Call = std::function<at::Tensor()>;

const char* name_of(at::ScalarType type) {
  return type == at::kFloat ? "float32" : type == at::kBFloat16 ? "bfloat16" : "float16";
}

// Registers <name>/<type>/aten and <name>/<type>/tte.
void add(const std::string& name, at::ScalarType type, const Call& aten, const Call& ours) {
  for (const auto& [who, call] : {std::pair{"aten", aten}, {"tte", ours}}) {
    benchmark::RegisterBenchmark(fmt::format("{}/{}/{}", name, name_of(type), who).c_str(),
                                 [call = call](benchmark::State& state) {
                                   const c10::InferenceMode guard;
                                   for (auto _ : state) benchmark::DoNotOptimize(call().const_data_ptr());
                                 })
        ->Unit(benchmark::kMicrosecond)
        ->UseRealTime()
        ->MeasureProcessCPUTime();
  }
}

at::Tensor random(at::IntArrayRef sizes, at::ScalarType type) {
  return at::randn(sizes).to(type);
}

void add_linear(at::ScalarType type) {
  struct Shape {
    std::int64_t rows, in, out;
  };
  for (const Shape s : {Shape{1, 1536, 8960},
                        {2, 1536, 8960},
                        {4, 1536, 8960},
                        {8, 1536, 8960},
                        {16, 1536, 8960},
                        {1, 8960, 1536},
                        {64, 1536, 8960},
                        {358, 1536, 1536},
                        {358, 8960, 1536},
                        {1024, 1280, 1280},
                        {1024, 1280, 5120}}) {
    const at::Tensor x = random({s.rows, s.in}, type), weight = random({s.out, s.in}, type);
    const at::Tensor bias = random({s.out}, type);
    add(
        "linear/" + std::to_string(s.rows) + "x" + std::to_string(s.in) + "x" + std::to_string(s.out), type,
        [=] { return at::linear(x, weight, bias); }, [=] { return kernels::linear(x, weight, bias); });
  }
}

// Products with packed weights, and those that activate their result beside the same kernels one after the other.
void add_packed() {
  using base::LinearFormat;
  constexpr auto type = at::kBFloat16;
  constexpr std::int64_t in = 1536, out = 2 * 8960;
  const at::Tensor matrix = random({out, in}, type);
  for (const auto& [format, name] : {std::pair{LinearFormat::kPanels, "panels"},
                                     {LinearFormat::kInt8, "int8"},
                                     {LinearFormat::kInt4, "int4"}}) {
    if (!is_packed(format, out, in, type)) continue;
    const Weight weight = packed_weight(pack(matrix, format), format, out, in, type);
    for (const std::int64_t rows : {1, 8, 358, 1024}) {
      const at::Tensor x = random({rows, in}, type);
      const std::string shape = fmt::format("{}/{}x{}x{}", name, rows, in, out);
      add(
          "linear " + shape, type, [=] { return at::linear(x, matrix); },
          [=] { return kernels::linear(x, weight, {}); });
      add(
          "linear, then silu_mul, " + shape, type, [=] { return silu_mul(kernels::linear(x, weight, {})); },
          [=] { return linear_silu_mul(x, weight, {}); });
      add(
          "linear, then quick_gelu, " + shape, type,
          [=] { return activate(kernels::linear(x, weight, {}), Activation::kQuickGelu); },
          [=] { return linear_activated(x, weight, {}, Activation::kQuickGelu); });
    }
  }
}

void add_elementwise(at::ScalarType type) {
  for (const std::int64_t rows : {1, 16, 358}) {
    const at::Tensor x = random({rows, 1536}, type), delta = random({rows, 1536}, type) * 1e-3;
    const at::Tensor weight = random({1536}, type), bias = random({1536}, type);
    const auto aten_rms_norm = [=](const at::Tensor& v) {
      const at::Tensor wide = v.to(at::kFloat);
      return weight * (wide * at::rsqrt(wide.square().mean(-1, true) + 1e-6)).to(type);
    };
    add(
        fmt::format("rms_norm/{}", rows), type, [=] { return aten_rms_norm(x); },
        [=] { return kernels::rms_norm(x, weight, 1e-6); });
    add(
        fmt::format("add_rms_norm/{}", rows), type,
        [=, r = x.clone()]() mutable { return aten_rms_norm(r.add_(delta)); },
        [=, r = x.clone()]() mutable { return kernels::add_rms_norm(r, delta, weight, 1e-6); });
    add(
        fmt::format("layer_norm/{}", rows), type,
        [=] { return at::layer_norm(x, {1536}, weight, bias, 1e-6); },
        [=] { return kernels::layer_norm(x, weight, bias, 1e-6); });
    const at::Tensor gate_up = random({rows, 2 * 8960}, type);
    add(
        fmt::format("silu_mul/{}", rows), type,
        [=] {
          const auto halves = gate_up.chunk(2, -1);
          return at::silu(halves[0]) * halves[1];
        },
        [=] { return silu_mul(gate_up); });
    const at::Tensor wide = random({rows, 5120}, type);
    add(
        fmt::format("quick_gelu/{}", rows), type, [=] { return wide * at::sigmoid(wide * 1.702); },
        [=] { return activate(wide, Activation::kQuickGelu); });
    const at::Tensor q = random({rows, 12, 128}, type), angles = at::randn({rows, 128});
    const at::Tensor cos = angles.cos(), sin = angles.sin();
    add(
        fmt::format("rope/{}", rows), type,
        [=] {
          const at::Tensor c = cos.to(type).unsqueeze(1), s = sin.to(type).unsqueeze(1);
          const auto halves = q.chunk(2, -1);
          return q * c + at::cat({-halves[1], halves[0]}, -1) * s;
        },
        [=]() mutable {
          rope_(const_cast<at::Tensor&>(q), cos, sin);
          return q;
        });
  }
}

at::Tensor sdpa(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, bool causal, double scale) {
  const auto heads = [](const at::Tensor& x) { return x.transpose(0, 1).unsqueeze(0); };
  return at::scaled_dot_product_attention(heads(q), heads(k), heads(v), {}, 0.0, causal, scale,
                                          q.size(1) != k.size(1));
}

void add_attention(at::ScalarType type) {
  const at::Tensor vision = random({1024, 3 * 16, 80}, type);
  const at::Tensor vq = vision.narrow(1, 0, 16), vk = vision.narrow(1, 16, 16), vv = vision.narrow(1, 32, 16);
  const double vision_scale = 1.0 / std::sqrt(80.0);
  add(
      "attention/vision 1024x16x80", type, [=] { return sdpa(vq, vk, vv, false, vision_scale); },
      [=] {
        return attention(vq, vk, vv, {0, 1024}, false, vision_scale);
      });

  const double scale = 1.0 / std::sqrt(128.0);
  struct Shape {
    std::int64_t sequences, rows, length;
  };
  for (const Shape s : {Shape{1, 1, 600}, {1, 1, 4096}, {16, 1, 600}, {1, 358, 358}, {1, 2048, 2048}}) {
    const std::int64_t block_size = cache_block_size(at::kCPU),
                       blocks = (s.length + block_size - 1) / block_size;
    PagedCache cache{random({s.sequences * blocks, block_size, 2, 128}, type),
                     random({s.sequences * blocks, block_size, 2, 128}, type)};
    PagedBatch batch;
    batch.cu_seqlens = {0};
    for (std::int64_t i = 1; i <= s.sequences; ++i) {
      batch.cu_seqlens.push_back(static_cast<std::int32_t>(i * s.rows));
      batch.lengths.push_back(static_cast<std::int32_t>(s.length));
    }
    batch.block_table = at::arange(s.sequences * blocks, at::kInt).view({s.sequences, blocks});
    batch.slots = at::zeros({s.sequences * s.rows}, at::kLong);
    const at::Tensor q = random({s.sequences * s.rows, 12, 128}, type);
    const at::Tensor k = random({s.length, 2, 128}, type), v = random({s.length, 2, 128}, type);
    add(
        fmt::format("paged_attention/{} of {} rows over {}", s.sequences, s.rows, s.length), type,
        [=] {
          at::Tensor out;
          for (std::int64_t i = 0; i < s.sequences; ++i) {
            out = sdpa(q.narrow(0, i * s.rows, s.rows), k, v, s.rows > 1, scale);
          }
          return out;
        },
        [=] { return paged_attention(q, cache, batch, scale); });
  }
}

void add_logits() {
  const at::Tensor weight = random({151936, 1536}, at::kBFloat16);
  for (const std::int64_t rows : {1, 8, 64}) {
    const at::Tensor x = random({rows, 1536}, at::kBFloat16);
    add(
        "logits/" + std::to_string(rows), at::kBFloat16, [=] { return at::linear(x, weight).to(at::kFloat); },
        [=] { return kernels::linear_float(x, weight); });
  }
}

}  // namespace
}  // namespace tte::kernels

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (const char* threads = std::getenv("TTE_THREADS")) at::set_num_threads(std::atoi(threads));
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    tte::kernels::add_linear(type);
    tte::kernels::add_elementwise(type);
    tte::kernels::add_attention(type);
  }
  tte::kernels::add_logits();
  tte::kernels::add_packed();
  benchmark::RunSpecifiedBenchmarks();
}
