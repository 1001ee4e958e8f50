// States that are made ahead, before anybody waits for them (EncodeRequest::wanted).
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "engine/fake_model.h"

namespace tte::engine::testing {
namespace {

using Lengths = std::vector<std::int64_t>;

EncodeRequest background_request(std::shared_ptr<const models::Prompt> prompt,
                                 std::shared_ptr<std::atomic<bool>> wanted) {
  auto request = encode_request(std::move(prompt));
  request.output = Output::kNothing;
  request.pin_state = true;
  request.wanted = std::move(wanted);
  return request;
}

TEST(Background, StatesThatNobodyWaitsForComeLastAndInPieces) {
  Bench bench({}, limits(80, 8));
  auto hold = Hold::on(*bench.executor);
  auto state = bench.engine->submit(
      background_request(text_prompt(25, 1), std::make_shared<std::atomic<bool>>(false)));
  auto vector = bench.encode(text_prompt(100, 2));
  auto trace = bench.engine->submit(trace_request(5, 4, 3));
  hold->let_go();
  EXPECT_EQ(state.get().reused_tokens, 0);
  vector.get();
  trace.get();
  bench.engine.reset();
  std::vector<Lengths> tokens;
  for (const auto& step : bench.model->steps()) tokens.push_back(step.tokens);
  EXPECT_EQ(tokens, (std::vector<Lengths>{{80}, {20, 5}, {1, 10}, {1, 10}, {1, 5}}));
}

TEST(Background, StatesThatAreWaitedForComeLikeVectors) {
  Bench bench({}, limits(80, 8));
  auto hold = Hold::on(*bench.executor);
  auto wanted = std::make_shared<std::atomic<bool>>(false);
  auto state = bench.engine->submit(background_request(text_prompt(70, 1), wanted));
  bench.model->on_forward = [&, step = 0](const models::RaggedBatch&) mutable {
    if (++step == 2) wanted->store(true);
  };
  hold->let_go();
  state.get();
  bench.engine.reset();
  std::vector<Lengths> tokens;
  for (const auto& step : bench.model->steps()) tokens.push_back(step.tokens);
  EXPECT_EQ(tokens, (std::vector<Lengths>{{10}, {10}, {50}}));
}

TEST(Background, StatesThatNobodyWaitsForGiveWay) {
  for (const int places : {1, 2, 8}) {
    FakeModel::Options model;
    model.capacity = 100;
    Bench bench(model, limits(80, places));
    auto hold = Hold::on(*bench.executor);
    std::vector<std::future<EncodeResult>> states;
    for (std::uint64_t i = 0; i < 3; ++i) {
      states.push_back(bench.engine->submit(
          background_request(text_prompt(60, i), std::make_shared<std::atomic<bool>>(false))));
    }
    std::vector<std::future<EncodeResult>> vectors;
    bench.model->on_forward = [&](const models::RaggedBatch&) {
      if (vectors.size() < 20)
        vectors.push_back(bench.engine->submit(encode_request(text_prompt(90, 10 + vectors.size()))));
    };
    hold->let_go();
    for (auto& future : states) future.get();  // They do come, in the end.
    bench.engine.reset();
    for (std::size_t i = 0; i < vectors.size(); ++i) {
      const auto prompt = text_prompt(90, 10 + i);
      EXPECT_TRUE(at::equal(vectors[i].get().hidden, bench.model->reference(*prompt)[89])) << i;
    }
    EXPECT_LE(bench.model->peak_used(), 100);
  }
}

}  // namespace
}  // namespace tte::engine::testing
