#include "engine/sampler.h"

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <string>

#include "base/json.h"
#include "tte/error.h"

namespace tte::engine {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

GenerateOptions sampling(double temperature, std::uint64_t seed) {
  GenerateOptions options;
  options.temperature = temperature;
  options.seed = seed;
  return options;
}

TEST(Sampler, ProcessesAsTransformersDoes) {
  const auto golden = base::read_json(TTE_SOURCE_DIR "/tests/engine/data/sampler_goldens.json");
  const auto end_ids = golden.at("end_ids").get<std::vector<std::int64_t>>();
  int number = 0;
  for (const auto& item : golden.at("cases")) {
    SCOPED_TRACE("case " + std::to_string(number++));
    GenerateOptions options;
    options.temperature = item.at("temperature").get<double>();
    options.top_k = item.at("top_k").get<int>();
    options.top_p = item.at("top_p").get<double>();
    options.min_p = item.at("min_p").get<double>();
    options.repetition_penalty = item.at("repetition_penalty").get<double>();
    options.min_new_tokens = item.at("min_new_tokens").get<int>();
    const auto prompt = item.at("prompt").get<std::vector<std::int64_t>>();
    Sampler sampler(options, end_ids, prompt);
    for (const auto id : item.at("generated").get<std::vector<std::int64_t>>()) sampler.accept(id);
    auto logits = item.at("logits").get<std::vector<float>>();
    sampler.process(logits);
    const auto& expected = item.at("processed");
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (expected[i].is_null()) {
        EXPECT_EQ(logits[i], -kInf) << "token " << i << " should be dropped";
      } else {
        EXPECT_FLOAT_EQ(logits[i], expected[i].get<float>()) << "token " << i;
      }
    }
  }
  EXPECT_GT(number, 10);
}

TEST(Sampler, GreedyRowsAreProcessedWhereTheyLieToTheBit) {
  constexpr std::int64_t kVocabulary = 200;
  std::vector<Sampler> samplers;
  for (int row = 0; row < 4; ++row) {
    GenerateOptions options;
    options.temperature = 0.0;
    if (row != 1) options.repetition_penalty = 1.0 + 0.1 * row;  // Off in rows 0 and 1.
    if (row != 3) options.min_new_tokens = row;
    const std::vector<std::int64_t> prompt{3, 5, 5, 150, kVocabulary, -1, 7 + row};
    samplers.emplace_back(options, std::vector<std::int64_t>{8, 9, kVocabulary + 1, 8}, prompt);
    samplers.back().accept(20 + row);
  }
  const at::Tensor logits = 5 * at::randn({4, kVocabulary});
  logits[0][3] = -0.0F;
  logits[2][150] = kInf;
  logits[2][9] = -kInf;
  logits[3][3] = NAN;
  at::Tensor expected = logits.clone(), actual = logits.clone();
  std::vector<Sampler*> pointers;
  for (std::size_t row = 0; row < samplers.size(); ++row) {
    pointers.push_back(&samplers[row]);
    samplers[row].process({expected.data_ptr<float>() + row * kVocabulary, kVocabulary});
  }
  Sampler::process_greedy(actual, pointers);
  EXPECT_TRUE(at::equal(actual.view(at::kInt), expected.view(at::kInt)));
  EXPECT_FALSE(at::equal(actual.view(at::kInt), logits.view(at::kInt)));
  // sample() throws for what is not a number before it is dropped: it is still there to be found.
  actual = logits.clone();
  actual[2][8] = NAN;
  Sampler::process_greedy(actual, pointers);
  EXPECT_TRUE(actual[2][8].isnan().item<bool>());
}

TEST(Sampler, TemperaturesNearZeroAreNearlyGreedy) {
  for (const double temperature : {1e-30, 1e-38, 1e-39, 1e-45, 1e-46, 1e-300, 5e-324}) {
    SCOPED_TRACE(temperature);
    for (const double sign : {1.0, -1.0}) {
      Sampler sampler(sampling(temperature, 1), {}, {});
      std::vector<float> logits;
      for (const double logit : {7.0, 9.5, 9.0, 8.0}) logits.push_back(static_cast<float>(sign * logit));
      EXPECT_EQ(sampler.sample(logits), sign > 0 ? 1 : 0);
    }
  }
}

TEST(Sampler, NothingOverflowsAtTheEndsOfTheRanges) {
  GenerateOptions::numbers([](const auto& number) {
    if (std::string(number.name) == "seed") return;
    for (const auto value : {number.least, number.most}) {
      SCOPED_TRACE(fmt::format("{} {}", number.name, value));
      for (const double temperature : {0.0, 1e-30, 1.0}) {
        auto options = sampling(temperature, 1);
        options.min_new_tokens = 1;
        options.*number.member = value;
        options.validate();
        std::vector<float> logits{-3e7F, -50.0F, 0.0F, 50.0F, 3e7F, 1.0F};
        const std::vector<std::int64_t> end{5}, prompt{0, 1, 2, 3, 4};
        Sampler(options, end, prompt).process(logits);
        EXPECT_TRUE(std::isfinite(*std::max_element(logits.begin(), logits.end())));
        for (const float logit : logits) EXPECT_TRUE(std::isfinite(logit) || logit == -kInf) << logit;
      }
    }
  });
}

TEST(Sampler, AnInfiniteLogitIsTakenAtEveryTemperature) {
  for (const double temperature : {1e-300, 1e-30, 1.0, 1e30}) {
    Sampler sampler(sampling(temperature, 1), {}, {});
    std::vector<float> logits{7.0F, 0.0F, kInf, -kInf};
    EXPECT_EQ(sampler.sample(logits), 2) << temperature;
  }
}

TEST(Sampler, GreedyTakesTheLowestOfEqualIds) {
  Sampler sampler({}, {}, {});
  std::vector<float> logits{1, 5, 5, 2};
  EXPECT_EQ(sampler.sample(logits), 1);
  EXPECT_EQ(
      sample_rows(at::tensor({1.0F, 5.0F, 5.0F, 2.0F}).view({1, 4}), std::vector<Sampler*>{&sampler})[0].id,
      1);
}

// Draws many tokens and compares their frequencies with softmax over the tokens that are kept.
void expect_distribution(GenerateOptions options, const std::vector<float>& logits,
                         const std::vector<std::int64_t>& kept) {
  constexpr int kDraws = 10'000;
  Sampler sampler(options, {}, {});
  std::map<std::int64_t, int> counts;
  for (int i = 0; i < kDraws; ++i) {
    auto copy = logits;
    ++counts[sampler.sample(copy)];
  }
  double total = 0;
  for (const auto id : kept) total += std::exp(logits[static_cast<std::size_t>(id)] / *options.temperature);
  double chi_square = 0;
  int seen = 0;
  for (const auto id : kept) {
    const double expected =
        kDraws * std::exp(logits[static_cast<std::size_t>(id)] / *options.temperature) / total;
    ASSERT_GT(expected, 5.0);
    chi_square += std::pow(counts[id] - expected, 2) / expected;
    seen += counts[id];
  }
  EXPECT_EQ(seen, kDraws) << "a dropped token was drawn";
  // The 99.9 % quantile of chi-square (Wilson and Hilferty's approximation).
  const double freedom = static_cast<double>(kept.size()) - 1;
  const double quantile = freedom * std::pow(1 - 2 / (9 * freedom) + 3.09 * std::sqrt(2 / (9 * freedom)), 3);
  EXPECT_LT(chi_square, quantile);
}

TEST(Sampler, DrawsFollowTheProbabilities) {
  const std::vector<float> logits{0.1F, 2.0F, -1.0F, 1.2F, 0.7F, -0.3F, 1.9F, 0.0F};
  expect_distribution(sampling(1.0, 1), logits, {0, 1, 2, 3, 4, 5, 6, 7});
  expect_distribution(sampling(0.6, 2), logits, {0, 1, 2, 3, 4, 5, 6, 7});
  auto top_k = sampling(1.5, 3);
  top_k.top_k = 3;
  expect_distribution(top_k, logits, {1, 3, 6});
  auto top_p = sampling(1.0, 4);
  top_p.top_p = 0.7;  // Probabilities 0.31, 0.28, 0.14: the third crosses 0.7.
  expect_distribution(top_p, logits, {1, 3, 6});
  auto min_p = sampling(1.0, 5);
  min_p.min_p = 0.2;  // exp(logit - 2) of at least 0.2.
  expect_distribution(min_p, logits, {1, 3, 4, 6});
}

TEST(Sampler, TopPReachesFarIntoAFlatVocabulary) {
  auto options = sampling(1.0, 6);
  options.top_p = 0.5;
  Sampler sampler(options, {}, {});
  std::vector<float> logits(1000, 0.0F);
  sampler.process(logits);
  EXPECT_EQ(std::count(logits.begin(), logits.end(), 0.0F), 500);
  EXPECT_EQ(logits.back(), -kInf) << "of equals the lower ids are kept";
}

TEST(Sampler, TheUniformMappingIsAsDocumented) {
  const std::vector<float> logits{0.0F, 0.0F, 0.0F, 0.0F};
  std::mt19937_64 random(99);
  Sampler sampler(sampling(1.0, 99), {}, {});
  for (int i = 0; i < 50; ++i) {
    auto copy = logits;
    const double u = static_cast<double>(random() >> 11) * 0x1.0p-53;
    EXPECT_EQ(sampler.sample(copy), static_cast<std::int64_t>(u * 4));
  }
}

TEST(Sampler, RowsDoNotDependOnTheirMates) {
  const at::Tensor logits = at::sin(at::arange(6 * 50, at::kFloat)).view({6, 50}) * 3;
  const auto make = [](int row) {
    auto options = row % 2 == 0 ? GenerateOptions() : sampling(0.9, static_cast<std::uint64_t>(row));
    if (row == 4) options.repetition_penalty = 1.5;
    return Sampler(options, {}, std::vector<std::int64_t>{3, 4});
  };
  std::vector<Sampler> together;
  for (int i = 0; i < 6; ++i) together.push_back(make(i));
  std::vector<Sampler*> pointers;
  for (auto& sampler : together) pointers.push_back(&sampler);
  const auto all = sample_rows(logits.clone(), pointers);
  for (int i = 0; i < 6; ++i) {
    Sampler alone = make(i);
    EXPECT_EQ(sample_rows(logits.narrow(0, i, 1).clone(), std::vector<Sampler*>{&alone})[0].id, all[i].id)
        << i;
  }
}

TEST(Sampler, LogitsThatSayNothingAreAnError) {
  const float nan = std::nanf("");
  Sampler greedy({}, {}, {});
  Sampler drawn(sampling(1.0, 1), {}, {});
  const at::Tensor logits = at::tensor({1.0F, nan, 0.0F, nan, -kInf, -kInf, 1.0F, 2.0F, 3.0F}).view({3, 3});
  for (Sampler* sampler : {&greedy, &drawn}) {
    const auto rows =
        sample_rows(at::tensor({1.0F, nan, 0.0F, -kInf, -kInf, -kInf, 1.0F, 2.0F, 300.0F}).view({3, 3}),
                    std::vector<Sampler*>{sampler, sampler, sampler});
    EXPECT_TRUE(rows[0].error);
    EXPECT_TRUE(rows[1].error);
    EXPECT_FALSE(rows[2].error);
    EXPECT_EQ(rows[2].id, 2);
    EXPECT_THROW(std::rethrow_exception(rows[0].error), ModelError);
  }
}

TEST(Sampler, EndIdsWaitForMinNewTokens) {
  GenerateOptions options;
  options.min_new_tokens = 2;
  Sampler sampler(options, {1, 500}, {});
  for (const std::int64_t expected : {2, 2, 1}) {
    std::vector<float> logits{0, 9, 5};
    EXPECT_EQ(sampler.plain_argmax(), expected == 1);
    EXPECT_EQ(sampler.sample(logits), expected);
    sampler.accept(expected);
  }
}

}  // namespace
}  // namespace tte::engine
