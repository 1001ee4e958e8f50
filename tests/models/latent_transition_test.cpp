// PLUME's mixture of experts against its formula written out, in float64.
#include "models/latent_transition.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "base/checkpoint.h"
#include "expect_error.h"
#include "temp_dir.h"
#include "tte/error.h"
#include "weights/safetensors_file.h"

namespace tte::models {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

constexpr std::int64_t kHidden = 40, kExperts = 5, kSteps = 6;

class LatentTransitionTest : public ::testing::Test {
 protected:
  LatentTransitionTest() : generator_(at::detail::createCPUGenerator(11)) {
    add("ln.weight", {kHidden});
    add("ln.bias", {kHidden});
    add("step_embed.weight", {kSteps, kHidden});
    add("router.weight", {kExperts, 2 * kHidden});
    add("router.bias", {kExperts});
    for (std::int64_t i = 0; i < kExperts; ++i) add_expert(fmt::format("experts.{}", i));
    add_expert("shared_expert");
  }

  void add(const std::string& name, at::IntArrayRef shape) { tensors_[name] = random(shape) * 0.3; }
  void add_expert(const std::string& name) {
    add(name + ".fc1.weight", {2 * kHidden, kHidden});
    add(name + ".fc1.bias", {2 * kHidden});
    add(name + ".fc2.weight", {kHidden, 2 * kHidden});
    add(name + ".fc2.bias", {kHidden});
  }
  at::Tensor random(at::IntArrayRef shape) { return at::randn(shape, generator_, at::kFloat); }

  // Written to a checkpoint, below a prefix, and read.
  [[nodiscard]] LatentTransition read(const LatentOptions& options, at::ScalarType dtype = at::kFloat) const {
    testing::NamedTensors list;
    for (const auto& [name, tensor] : tensors_) list.emplace_back("moe." + name, tensor);
    const auto file = folder_.write("model.safetensors", testing::safetensors(list));
    weights::Placement placement;
    placement.dtype = dtype;
    const auto weights = weights::StateDict::open(base::Checkpoint(file), placement).select("moe.");
    LatentTransition made(weights, options, kHidden);
    weights.check_all_used();
    return made;
  }
  [[nodiscard]] std::string refused(const LatentOptions& options) const {
    return message_of<ModelError>([&] { (void)read(options); });
  }

  // [hidden], float64.
  [[nodiscard]] at::Tensor expected(const at::Tensor& z, const at::Tensor& context, std::int64_t step,
                                    const LatentOptions& options) const {
    const auto w = [&](const std::string& name) { return tensors_.at(name).to(at::kDouble); };
    const at::Tensor row = w("step_embed.weight")[std::min(step, kSteps - 1)];
    at::Tensor logits = w("router.weight").mv(at::cat({z + context, row})) + w("router.bias");
    for (const std::int64_t expert : options.excluded_experts) logits[expert] = -1e300;
    const auto [shares, chosen] = at::topk(at::softmax(logits, 0), options.experts_per_step);
    const at::Tensor u = (z - z.mean()) / (z.var(0, false) + 1e-5).sqrt() * w("ln.weight") + w("ln.bias");
    const auto expert = [&](const std::string& name) {
      const at::Tensor x = w(name + ".fc1.weight").mv(u) + w(name + ".fc1.bias");
      const at::Tensor gelu = x * (1 + at::erf(x / std::sqrt(2.0))) / 2;
      return w(name + ".fc2.weight").mv(gelu) + w(name + ".fc2.bias");
    };
    at::Tensor out = z.clone();
    if (tensors_.contains("shared_expert.fc1.weight")) out += expert("shared_expert");
    for (std::int64_t k = 0; k < options.experts_per_step; ++k)
      out += shares[k] * expert(fmt::format("experts.{}", chosen[k].item<std::int64_t>()));
    return out;
  }

  at::Generator generator_;
  std::map<std::string, at::Tensor> tensors_;
  testing::TempDir folder_;
};

TEST_F(LatentTransitionTest, IsItsFormula) {
  for (const LatentOptions& options :
       {LatentOptions{"moe.", 2, {}}, {"moe.", 1, {}}, {"moe.", 5, {}}, {"moe.", 3, {0, 4}}}) {
    const LatentTransition transition = read(options);
    const at::Tensor z = random({20, kHidden}), contexts = random({20, kHidden});
    std::vector<std::int64_t> steps;
    for (std::int64_t i = 0; i < 20; ++i) steps.push_back(i % 10);  // Some behind the last row of the table.
    const at::Tensor out = transition(z, contexts, steps);
    for (std::int64_t i = 0; i < 20; ++i) {
      const at::Tensor row = expected(z[i].to(at::kDouble), contexts[i].to(at::kDouble),
                                      steps[static_cast<std::size_t>(i)], options);
      EXPECT_TRUE(at::allclose(out[i].to(at::kDouble), row, 0, 1e-5)) << i;
    }
  }
}

TEST_F(LatentTransitionTest, ARowHasTheSameBitsWhateverStandsBesideIt) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const LatentTransition transition = read({"moe.", 2, {}}, dtype);
    const at::Tensor z = random({33, kHidden}).to(dtype), contexts = random({33, kHidden}).to(dtype);
    std::vector<std::int64_t> steps;
    for (std::int64_t i = 0; i < 33; ++i) steps.push_back(i % 7);
    const at::Tensor together = transition(z, contexts, steps);
    for (std::int64_t i = 0; i < 33; ++i) {
      const at::Tensor alone =
          transition(z.narrow(0, i, 1), contexts.narrow(0, i, 1), {steps[static_cast<std::size_t>(i)]});
      EXPECT_TRUE(at::equal(alone[0], together[i])) << i;
    }
  }
}

TEST_F(LatentTransitionTest, WithoutASharedExpertThereIsNone) {
  std::erase_if(tensors_, [](const auto& entry) { return entry.first.starts_with("shared_expert."); });
  const LatentOptions options{"moe.", 2, {}};
  const at::Tensor z = random({1, kHidden}), context = random({1, kHidden});
  const at::Tensor out = read(options)(z, context, {3});
  EXPECT_TRUE(at::allclose(out[0].to(at::kDouble),
                           expected(z[0].to(at::kDouble), context[0].to(at::kDouble), 3, options), 0, 1e-5));
}

TEST_F(LatentTransitionTest, WhatDoesNotFitIsRefused) {
  EXPECT_THAT(refused({"moe.", 6, {}}), HasSubstr("through 6 experts of \"moe.\", where 5 of 5"));
  EXPECT_THAT(refused({"moe.", 2, {0, 1, 2, 3}}), HasSubstr("1 of 5"));
  EXPECT_THAT(refused({"moe.", 2, {5}}), HasSubstr("excludes expert 5"));
  const LatentOptions good{"moe.", 2, {}};
  const auto all = tensors_;
  for (const auto& [name, tensor] : all) {
    tensors_.erase(name);
    if (!name.ends_with(".bias")) {
      EXPECT_THAT(refused(good), HasSubstr(name));
    }
    tensors_ = all;
    tensors_[name] = at::zeros({3});
    EXPECT_THAT(refused(good), HasSubstr("moe.")) << name;
    tensors_ = all;
  }
  tensors_["experts.5.fc1.weight"] = at::zeros({2 * kHidden, kHidden});
  EXPECT_THAT(refused(good), HasSubstr("experts.5"));
}

}  // namespace
}  // namespace tte::models
