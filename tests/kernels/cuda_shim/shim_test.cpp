// What the shim itself has to see: wrong launches, threads that do not wait for each other, and how torch
// splits pages.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda_shim/launch.h"
#include "kernels/cuda_shim/reference_ops.h"
#include "kernels/cuda_shim/tape.h"
#include "kernels/pages.h"

namespace tte::kernels::cuda_shim {
namespace {

using reference::difference;
using reference::make_pages;
using reference::Pages;
using reference::random;

// The fault of a launch of such threads; empty if there was none.
std::string fault_of(dim3 grid, dim3 block, const std::function<void()>& thread, std::size_t shared = 0) {
  launch(grid, block, shared, nullptr, thread);
  return cudaGetLastError() == cudaSuccess ? "" : last_fault();
}

TEST(LaunchTest, EveryThreadRunsOnce) {
  std::vector<int> runs(3 * 2 * 5 * 4 * 2);
  const auto thread = [&] {
    const unsigned block = blockIdx.y * gridDim.x + blockIdx.x;
    const unsigned i = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    ++runs[block * 5 * 4 * 2 + i];
  };
  EXPECT_EQ(fault_of(dim3(3, 2), dim3(5, 4, 2), thread), "");
  EXPECT_THAT(runs, testing::Each(1));
}

TEST(LaunchTest, WhatNoGpuLaunchesIsAFault) {
  const auto nothing = [] {};
  for (const auto& [grid, block] : {std::pair{dim3(0), dim3(32)},
                                    {dim3(1, 65536), dim3(32)},
                                    {dim3(1), dim3(0)},
                                    {dim3(1), dim3(1025)},
                                    {dim3(1), dim3(512, 4)},
                                    {dim3(1), dim3(1, 1, 65)}}) {
    EXPECT_THAT(fault_of(grid, block, nothing), testing::HasSubstr("no GPU launches"));
  }
  EXPECT_THAT(fault_of(dim3(1), dim3(32), nothing, 48 * 1024), testing::HasSubstr("shared bytes"));
  EXPECT_EQ(fault_of(dim3(1), dim3(1024), nothing), "");
}

TEST(LaunchTest, ThreadsThatWaitForNobodyAreAFault) {
  const auto shuffle = [] { __shfl_xor_sync(0xFFFFFFFFu, 1.0f, 1); };
  EXPECT_THAT(fault_of(dim3(1), dim3(16), shuffle), testing::HasSubstr("__shfl_xor_sync"));
  EXPECT_NE(fault_of(dim3(1), dim3(64), [&] { threadIdx.x < 8 ? void() : shuffle(); }), "");
  EXPECT_NE(fault_of(dim3(1), dim3(64), [] { threadIdx.x < 32 ? void() : __syncthreads(); }), "");
  EXPECT_THAT(fault_of(dim3(1), dim3(64), [&] { threadIdx.x < 32 ? shuffle() : __syncthreads(); }),
              testing::HasSubstr("__syncthreads"));
}

// The threads after the first read what it writes: right in every order only where they wait for it.
TEST(LaunchTest, AMissingBarrierIsSeen) {
  const auto wrong_values = [](bool wait) {
    int wrong = 0;
    launch(dim3(8), dim3(64), 0, nullptr, [&] {
      __shared__ float value;
      const unsigned block = blockIdx.x, thread = threadIdx.x;
      if (thread == 0) value = static_cast<float>(block);
      if (wait) __syncthreads();
      if (value != static_cast<float>(block)) ++wrong;
    });
    return wrong;
  };
  EXPECT_EQ(wrong_values(true), 0);
  EXPECT_GT(wrong_values(false), 0);
}

TEST(LaunchTest, TheOrderOfThreadsDoesNotMatter) {
  for (const std::int64_t width : {77, 1536, 8960}) {
    const at::Tensor x = random({9, width}, at::kBFloat16, 1), weight = random({width}, at::kBFloat16, 2);
    const at::Tensor first = layer_norm(x, weight, weight, 1e-6);
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
      set_seed(seed);
      EXPECT_TRUE(layer_norm(x, weight, weight, 1e-6).equal(first)) << width << " values, seed " << seed;
    }
  }
}

TEST(TapeTest, DoesAgainWhatWasDone) {
  const at::Tensor x = at::ones({3}), weight = random({4, 3}, at::kFloat, 1);
  at::Tensor sum = at::zeros({4}), out;
  Tape tape;
  const at::Tensor product = at::linear(x, weight);
  sum += product.view({2, 2}).t().reshape({4});
  out = activate(product, Activation::kSilu);
  tape.end();
  EXPECT_TRUE(out.isnan().all().item<bool>()) << "before it is replayed";
  for (const float value : {2.0F, -1.0F}) {
    x.fill_(value);
    sum.zero_();
    tape.replay();
    const at::Tensor right = at::linear(x, weight);
    EXPECT_TRUE(at::equal(out, activate(right, Activation::kSilu)));
    EXPECT_TRUE(at::equal(sum, right.view({2, 2}).t().reshape({4})));
  }
}

TEST(TapeTest, WhatTheHostWritesIsLost) {
  Tape tape;
  const at::Tensor written = at::tensor({1, 2, 3}, at::kInt), out = written + 1;
  tape.end();
  tape.replay();
  EXPECT_FALSE(at::equal(out, at::tensor({2, 3, 4}, at::kInt)));
}

TEST(TapeTest, WhatAGpuDoesNotRecordIsRefused) {
  const at::Tensor x = at::ones({3});
  const std::vector<std::pair<const char*, std::function<void()>>> wrong = {
      {"read", [&] { (void)x[1].item<float>(); }},
      {"compared", [&] { (void)at::equal(x, x); }},
      {"counted", [&] { (void)at::nonzero(x); }},
      {"copied", [&] { (void)x.cpu(); }},
      {"uploaded",
       [&] {
         (void)at::tensor({1, 2}).to(at::Device(at::kCPU), at::kInt);
       }},
      {"uploaded by a kernel", [&] {
         (void)cuda::on_device({1, 2, 3, 5, 8, 13}, at::kCPU);
       }}};
  for (const auto& [what, work] : wrong) {
    const Tape tape;
    EXPECT_THROW(work(), c10::Error) << what;
  }
  const Tape tape;
  EXPECT_NO_THROW((void)x.to(at::kBFloat16));
}

class SplittingTest : public testing::Test {
 protected:
  ~SplittingTest() override { set_splitting(Splitting::kFromTorch); }

  // The operator as paged_attention calls it, with this many parts.
  static at::Tensor call(const at::Tensor& q, const Pages& pages, std::optional<std::int64_t> parts) {
    std::vector<std::int32_t> cu_keys{0};
    for (const std::int32_t length : pages.batch.lengths) cu_keys.push_back(cu_keys.back() + length);
    const auto rows = at::tensor(pages.batch.cu_seqlens, at::kInt),
               lengths = at::tensor(pages.batch.lengths, at::kInt);
    return std::get<0>(at::_flash_attention_forward(
                           q, pages.cache.keys, pages.cache.values, rows, at::tensor(cu_keys, at::kInt),
                           rows.diff().max().item<std::int64_t>(), lengths.max().item<std::int64_t>(), 0.0,
                           true, false, 0.125, std::nullopt, std::nullopt, lengths, std::nullopt,
                           pages.batch.block_table, parts))
        .flatten(1);
  }
};

TEST_F(SplittingTest, RaggedStepsNeedOnePart) {
  for (const auto& [name, rows, lengths, lost] :
       {std::tuple{"one prompt", std::vector<std::int32_t>{300}, std::vector<std::int32_t>{300}, false},
        {"two prompts", {300, 300}, {300, 300}, true},
        {"a decode beside a prompt", {1, 300}, {1000, 300}, true},
        {"decodes", {1, 1, 1}, {600, 1, 65}, false},
        {"many short prompts",
         {64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64},
         {64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64},
         false}}) {
    const Pages pages = make_pages(rows, lengths, 2, 64, at::kBFloat16);
    const at::Tensor q = random({pages.batch.cu_seqlens.back(), 6, 64}, at::kBFloat16, 7);
    const at::Tensor right = reference::paged_attention(q, pages, 0.125);
    const double tolerance = 4.0 * reference::rounding(at::kBFloat16);
    EXPECT_EQ(difference(call(q, pages, std::nullopt), right, tolerance) != "", lost)
        << name << ", left to choose";
    EXPECT_EQ(difference(call(q, pages, 1), right, tolerance), "") << name << ", in one part";
    EXPECT_EQ(difference(paged_attention(q, pages.cache, pages.batch, 0.125), right, tolerance), "") << name;
    set_splitting(Splitting::kNone);
    EXPECT_EQ(difference(call(q, pages, std::nullopt), right, tolerance), "")
        << name << ", before torch 2.13";
    set_splitting(Splitting::kFromTorch);
  }
}

}  // namespace
}  // namespace tte::kernels::cuda_shim
