// Images: encoded once, in bounded portions, let go when they were read.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/fake_model.h"
#include "engine/vision_cache.h"
#include "tte/error.h"

namespace tte::engine::testing {
namespace {

using ::testing::HasSubstr;
using Calls = std::vector<std::vector<std::int64_t>>;

std::shared_ptr<const models::Prompt> with_image(std::uint64_t seed, const std::string& text,
                                                 std::int64_t h = 4, std::int64_t w = 4) {
  return make_prompt({text, make_visual(seed, h, w), std::string("?")});
}

void expect_correct(Bench& bench, const std::shared_ptr<const models::Prompt>& prompt,
                    std::future<EncodeResult>& future) {
  EXPECT_TRUE(at::equal(future.get().hidden, bench.model->reference(*prompt)[-1]));
}

TEST(Vision, EqualImagesOfABatchAreEncodedOnceTogetherWithOthers) {
  Bench bench;
  const std::vector prompts{with_image(1, "a"), with_image(2, "b"), with_image(1, "c")};
  auto hold = Hold::on(*bench.executor);
  std::vector<std::future<EncodeResult>> futures;
  for (const auto& prompt : prompts) futures.push_back(bench.encode(prompt));
  hold->let_go();
  for (std::size_t i = 0; i < 3; ++i) expect_correct(bench, prompts[i], futures[i]);
  EXPECT_EQ(bench.model->vision_calls(), (Calls{{16, 16}}));
  auto later = bench.encode(with_image(2, "d"));
  expect_correct(bench, with_image(2, "d"), later);
  EXPECT_EQ(bench.model->vision_calls().size(), 1U) << "the cache has it";
  EXPECT_EQ(bench.engine->stats().vision_encoded, 2);
  EXPECT_EQ(bench.engine->stats().vision_reused, 2);
}

TEST(Vision, EnginesOfOneExecutorShareFeatures) {
  Bench bench;
  auto other = std::make_shared<FakeModel>();
  Engine engine(other, bench.tokenizer, bench.executor, {});
  bench.encode(with_image(1, "reason")).get();
  engine.submit(encode_request(with_image(1, "embed"))).get();
  EXPECT_EQ(bench.model->vision_calls().size(), 1U);
  EXPECT_TRUE(other->vision_calls().empty());
  EXPECT_EQ(engine.stats().vision_reused, 1);
}

TEST(Vision, PatchesOfAStepAreBoundedAndDecodingGoesOn) {
  EngineOptions options;
  options.max_step_patches = 40;
  Bench bench({}, options);
  auto hold = Hold::on(*bench.executor);
  auto request = generate_request(text_prompt(3, 1), 8);
  request.options.ignore_eos = true;
  auto running = bench.engine->submit(std::move(request));
  std::vector<std::shared_ptr<const models::Prompt>> prompts;
  std::vector<std::future<EncodeResult>> futures;
  for (std::uint64_t i = 0; i < 4; ++i) prompts.push_back(with_image(i, "x"));  // 16 patches each.
  prompts.push_back(with_image(9, "large", 10, 10));                            // 100 patches.
  for (const auto& prompt : prompts) futures.push_back(bench.encode(prompt));
  hold->let_go();
  for (std::size_t i = 0; i < prompts.size(); ++i) expect_correct(bench, prompts[i], futures[i]);
  running.get();
  EXPECT_EQ(bench.model->vision_calls(), (Calls{{16, 16}, {16, 16}, {100}}));
  const auto steps = bench.model->steps();
  EXPECT_EQ(steps[1].tokens[0], 1) << "the running sequence has its token in every step";
  EXPECT_EQ(steps[2].tokens[0], 1);
}

TEST(Vision, OnlyWhatAChunkNeedsIsEncodedAndLetGoAfterwards) {
  EngineOptions options;
  options.max_step_tokens = 8;
  Bench bench({}, options);
  bench.executor =
      std::make_shared<Executor>(1, 0);  // Nothing is cached: features live in the sequence only.
  bench.engine = std::make_unique<Engine>(bench.model, bench.tokenizer, bench.executor, options);
  const auto prompt = make_prompt({std::string("12"), make_visual(1, 4, 4), std::string("3456"),
                                   make_visual(2, 4, 8), std::string("789")});
  std::vector<std::size_t> calls_before_step;
  bench.model->on_forward = [&](const models::RaggedBatch&) {
    calls_before_step.push_back(bench.model->vision_calls().size());
  };
  auto future = bench.encode(prompt);
  expect_correct(bench, prompt, future);
  EXPECT_EQ(calls_before_step, (std::vector<std::size_t>{1, 2, 2}));
  EXPECT_EQ(bench.model->vision_calls(), (Calls{{16}, {32}}))
      << "each once, though a chunk ends inside the second";
}

TEST(Vision, AFailingImageFailsItsOwnRequestsOnly) {
  Bench bench;
  bench.model->on_vision = [](std::span<const std::shared_ptr<const models::Visual>> visuals) {
    for (const auto& visual : visuals) {
      if (visual->patches.h == 8) throw DeviceError("out of memory.");
    }
  };
  auto hold = Hold::on(*bench.executor);
  auto good = bench.encode(with_image(1, "a"));
  auto bad = bench.encode(with_image(2, "b", 8, 8), Output::kRow);
  auto text = bench.encode(text_prompt(5, 1));
  hold->let_go();
  expect_correct(bench, with_image(1, "a"), good);
  EXPECT_THAT(error_of<DeviceError>([&] { bad.get(); }), HasSubstr("out of memory"));
  EXPECT_NO_THROW(text.get());
}

TEST(Vision, FeaturesThatDoNotFitTheLayoutAreAnError) {
  Bench bench;
  auto prompt = *with_image(1, "a");
  prompt.visuals[0] = make_visual(1, 4, 8);
  EXPECT_THAT(error_of<ModelError>([&] { bench.encode(std::make_shared<models::Prompt>(prompt)).get(); }),
              HasSubstr("8 feature rows for visual 0, whose placeholder has 4 tokens"));
}

TEST(VisionCache, DropsTheLeastRecentlyUsedByBytes) {
  VisionCache cache(100);
  const auto features = [](float value) { return at::full({10}, value, at::kFloat); };
  const auto find = [&](std::uint64_t visual) { return cache.find({1, 1}, {visual, 0}); };
  cache.insert({1, 1}, {1, 0}, features(1));
  cache.insert({1, 1}, {2, 0}, features(2));
  EXPECT_TRUE(find(1).has_value());
  cache.insert({1, 1}, {3, 0}, features(3));
  EXPECT_FALSE(find(2).has_value());
  EXPECT_TRUE(find(1).has_value());
  EXPECT_EQ((*find(3))[0].item<float>(), 3);
  EXPECT_FALSE(cache.find({2, 2}, {1, 0}).has_value()) << "another tower";
  cache.insert({1, 1}, {4, 0}, at::zeros({26}));
  EXPECT_FALSE(find(4).has_value()) << "larger than the cache";
  EXPECT_TRUE(find(1).has_value());
}

TEST(VisionCache, DoesNotKeepABatchAliveForASlice) {
  VisionCache cache(1000);
  const at::Tensor batch = at::arange(1000, at::kFloat);
  cache.insert({1, 1}, {1, 0}, batch.narrow(0, 10, 5));
  const at::Tensor kept = *cache.find({1, 1}, {1, 0});
  EXPECT_EQ(kept.storage().nbytes(), 5 * sizeof(float));
  EXPECT_TRUE(at::equal(kept, batch.narrow(0, 10, 5)));
}

}  // namespace
}  // namespace tte::engine::testing
