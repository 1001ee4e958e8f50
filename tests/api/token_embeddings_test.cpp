// Which tokens get a vector, what is merged, and the scores of token sets.
#include "tte/token_embeddings.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "api/fixture.h"
#include "api/token_pooling.h"
#include "expect_error.h"
#include "temp_dir.h"

namespace tte {
namespace {

using ::testing::HasSubstr;
using tte::testing::distance;
using tte::testing::embedder;
using tte::testing::float32;
using tte::testing::kEmbedder;
using tte::testing::kSame;
using tte::testing::message_of;
using tte::testing::norm;
using tte::testing::questions;
using tte::testing::reasoner;

TokenOptions everything() {
  TokenOptions options;
  options.special = options.float32 = true;
  return options;
}

EmbedCallOptions as_they_are() {
  EmbedCallOptions options;
  options.normalize = false;
  return options;
}

std::span<const float> row(const TokenEmbeddings& tokens, std::size_t i) {
  const auto dim = static_cast<std::size_t>(tokens.pooled.dim);
  return std::span(tokens.data).subspan(i * dim, dim);
}

std::vector<std::optional<Trace>> traces_for(std::size_t items, std::size_t item) {
  std::vector<std::optional<Trace>> traces(items);
  traces[item] = Trace::from_text("<think>red circle at A1</think> red circle");
  return traces;
}

TEST(EmbedTokens, KeepsWordsVisualsAndTraces) {
  const auto inputs = questions();
  const auto traces = traces_for(inputs.size(), 0);
  const TokenEmbeddings all = embedder().embed_tokens(inputs, traces, as_they_are(), everything());
  TokenOptions options;
  options.float32 = true;
  const TokenEmbeddings kept = embedder().embed_tokens(inputs, traces, {}, options);
  ASSERT_EQ(kept.offsets.size(), inputs.size() + 1);
  const Tokenizer tokenizer = embedder().tokenizer();
  std::size_t next = 0;
  for (std::size_t i = 0; i < all.ids.size(); ++i) {
    if (all.origins[i] == TokenOrigin::kSpecial) continue;
    ASSERT_LT(next, kept.ids.size());
    EXPECT_EQ(kept.ids[next], all.ids[i]);
    EXPECT_EQ(kept.positions[next], all.positions[i]);
    EXPECT_EQ(kept.origins[next], all.origins[i]);
    std::vector<float> unit(row(all, i).begin(), row(all, i).end());
    const double length = norm(unit);
    for (float& value : unit) value = static_cast<float>(value / length);
    EXPECT_LT(distance(row(kept, next), unit), kSame);
    ++next;
  }
  EXPECT_EQ(next, kept.ids.size());
  const auto count = [&](TokenOrigin origin) {
    return std::count(all.origins.begin(), all.origins.end(), origin);
  };
  EXPECT_GT(count(TokenOrigin::kVisual), 16);
  EXPECT_GT(count(TokenOrigin::kTrace), 3);
  EXPECT_GT(count(TokenOrigin::kText), 10);
  EXPECT_GT(count(TokenOrigin::kSpecial), static_cast<std::int64_t>(3 * inputs.size()));
  const std::int64_t end = *tokenizer.id_of("<|im_end|>");
  EXPECT_EQ(std::count(kept.ids.begin(), kept.ids.end(), end), 0);
}

TEST(EmbedTokens, TheTraceCanBeLeftOutButIsRead) {
  const std::vector<Input> inputs = {questions()[0]};
  TokenOptions options;
  options.float32 = true;
  const TokenEmbeddings with = embedder().embed_tokens(inputs, traces_for(1, 0), {}, options);
  options.trace = false;
  const TokenEmbeddings without = embedder().embed_tokens(inputs, traces_for(1, 0), {}, options);
  const auto words = std::count(with.origins.begin(), with.origins.end(), TokenOrigin::kTrace);
  EXPECT_GT(words, 0);
  EXPECT_EQ(static_cast<std::int64_t>(with.ids.size()) - words,
            static_cast<std::int64_t>(without.ids.size()));
  EXPECT_LT(distance(with.pooled.row(0), without.pooled.row(0)), kSame);
  EXPECT_LT(distance(with.pooled.row(0), embedder().embed(inputs, traces_for(1, 0)).row(0)), kSame);
}

TEST(EmbedTokens, NothingKeptIsThePooledVector) {
  TokenOptions options;
  options.text = options.visual = options.trace = false;
  options.float32 = true;
  const TokenEmbeddings tokens = embedder().embed_tokens(questions(), {}, {}, options);
  ASSERT_EQ(tokens.ids.size(), questions().size());
  for (std::size_t i = 0; i < tokens.ids.size(); ++i) {
    EXPECT_EQ(distance(row(tokens, i), tokens.pooled.row(i)), 0);
    EXPECT_EQ(tokens.positions[i], tokens.pooled.tokens[i] - 1);
  }
}

TEST(EmbedTokens, HalfIsTheRoundedVector) {
  const std::vector<Input> inputs = {questions()[2]};
  TokenOptions options;
  const TokenEmbeddings half = embedder().embed_tokens(inputs, {}, {}, options);
  options.float32 = true;
  const TokenEmbeddings full = embedder().embed_tokens(inputs, {}, {}, options);
  ASSERT_EQ(half.half.size(), full.data.size());
  EXPECT_TRUE(half.data.empty());
  for (std::size_t i = 0; i < full.data.size(); ++i) EXPECT_EQ(half.half[i], c10::Half(full.data[i]).x);
}

TEST(EmbedTokens, SkippedItemsHaveNoRows) {
  auto inputs = questions();
  inputs[1] = Input();
  EmbedCallOptions options;
  options.on_error = OnError::kSkip;
  const TokenEmbeddings tokens = embedder().embed_tokens(inputs, {}, options);
  EXPECT_EQ(tokens.offsets[1], tokens.offsets[2]);
  ASSERT_EQ(tokens.pooled.errors.size(), 1U);
  EXPECT_THAT(tokens.pooled.errors[0].message, HasSubstr("item 1"));
  EXPECT_TRUE(std::isnan(tokens.pooled.row(1)[0]));
}

TEST(EmbedTokens, NeighboursOfOneOriginAreMerged) {
  const std::vector<Input> inputs = {questions()[0]};
  TokenOptions options;
  options.float32 = true;
  const TokenEmbeddings single = embedder().embed_tokens(inputs, {}, as_they_are(), options);
  options.factor = 3;
  const TokenEmbeddings merged = embedder().embed_tokens(inputs, {}, as_they_are(), options);
  for (const TokenOrigin origin : {TokenOrigin::kText, TokenOrigin::kVisual}) {
    std::vector<std::size_t> before, after;
    for (std::size_t i = 0; i < single.ids.size(); ++i)
      if (single.origins[i] == origin) before.push_back(i);
    for (std::size_t i = 0; i < merged.ids.size(); ++i)
      if (merged.origins[i] == origin) after.push_back(i);
    ASSERT_EQ(after.size(), (before.size() + 2) / 3);
    for (std::size_t group = 0; group < after.size(); ++group) {
      const std::size_t begin = 3 * group, end = std::min(begin + 3, before.size());
      std::vector<float> mean(static_cast<std::size_t>(single.pooled.dim));
      for (std::size_t i = begin; i < end; ++i)
        for (std::size_t k = 0; k < mean.size(); ++k)
          mean[k] += row(single, before[i])[k] / static_cast<float>(end - begin);
      EXPECT_LT(distance(row(merged, after[group]), mean), kSame * 10);
      EXPECT_EQ(merged.positions[after[group]], single.positions[before[begin]]);
    }
  }
  options.factor = 0;
  EXPECT_THAT(message_of<InputError>([&] { (void)embedder().embed_tokens(inputs, {}, {}, options); }),
              HasSubstr("factor of token pooling is 0"));
}

TEST(TokenPooling, WardsClustersAreThoseOfTheGroupsThatWereMade) {
  constexpr std::int64_t kGroups = 5, kEach = 7, kDim = 16;
  std::mt19937 random(3);
  std::normal_distribution<float> noise(0, 0.01F);
  const at::Tensor rows = at::empty({kGroups * kEach, kDim});
  for (std::int64_t i = 0; i < rows.size(0); ++i)
    for (std::int64_t k = 0; k < kDim; ++k)
      rows.mutable_data_ptr<float>()[i * kDim + k] = (k == i % kGroups ? 1.0F : 0.0F) + noise(random);
  const api::RowGroups groups = api::group_rows(rows, TokenPooling::kHierarchical, kEach);
  ASSERT_EQ(groups.size(), static_cast<std::size_t>(kGroups));
  for (std::size_t group = 0; group < groups.size(); ++group) {
    ASSERT_EQ(groups[group].size(), static_cast<std::size_t>(kEach));
    for (const std::int64_t i : groups[group]) EXPECT_EQ(i % kGroups, static_cast<std::int64_t>(group));
  }
  // More rows than are clustered at a time.
  const api::RowGroups many = api::group_rows(at::randn({5000, 4}), TokenPooling::kHierarchical, 100);
  EXPECT_EQ(many.size(), 50U);
}

TEST(ThinkThenEmbed, GivesTokensOfTraceAndPrompt) {
  const auto inputs = questions();
  ThinkThenEmbedOptions options;
  options.generate = tte::testing::tokens(8);
  options.tokens.emplace().float32 = true;
  const ThinkThenEmbedResult result = ThinkThenEmbed(reasoner(), embedder()).run(inputs, options);
  ASSERT_TRUE(result.tokens);
  TokenOptions tokens;
  tokens.float32 = true;
  const TokenEmbeddings expected = embedder().embed_tokens(inputs, result.traces, {}, tokens);
  EXPECT_EQ(result.tokens->offsets, expected.offsets);
  EXPECT_EQ(result.tokens->ids, expected.ids);
  EXPECT_EQ(result.tokens->origins, expected.origins);
  EXPECT_LT(distance(result.tokens->data, expected.data), kSame);
  EXPECT_LT(distance(result.embeddings.data, expected.pooled.data), kSame);
}

TEST(ThinkThenEmbed, ARecipeThatPoolsNothingGivesTokens) {
  const tte::testing::TempDir folder;
  const auto recipe = folder.write("r.json", R"({"name": "many", "pooling": "none"})");
  const Embedder none = Embedder::load(kEmbedder, float32(recipe.string()), tte::testing::backend());
  const ThinkThenEmbed both(reasoner(), none);
  ThinkThenEmbedOptions options;
  options.think = ThinkMode::kNever;
  EXPECT_THAT(message_of<InputError>([&] { (void)both.run({Input("a")}, options); }),
              HasSubstr("ask for tokens"));
  options.tokens = everything();
  const ThinkThenEmbedResult result = both.run({Input("a")}, options);
  EXPECT_LT(distance(result.embeddings.row(0),
                     std::span(result.tokens->data).last(static_cast<std::size_t>(none.dim()))),
            kSame)
      << "the last token's vector stands for all";
}

// Random sets of `counts` tokens.
struct Sets {
  Sets(const std::vector<std::int64_t>& counts, std::int64_t dim_in, unsigned seed) : dim(dim_in) {
    for (const std::int64_t count : counts) offsets.push_back(offsets.back() + count);
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < offsets.back() * dim; ++i) data.push_back(normal(random));
  }
  [[nodiscard]] TokenSets view() const { return {data.data(), false, dim, offsets}; }

  std::int64_t dim;
  std::vector<std::int64_t> offsets = {0};
  std::vector<float> data;
};

double expected_score(const Sets& a, std::size_t i, const Sets& b, std::size_t j) {
  double sum = 0;
  for (std::int64_t q = a.offsets[i]; q < a.offsets[i + 1]; ++q) {
    double best = -INFINITY;
    for (std::int64_t d = b.offsets[j]; d < b.offsets[j + 1]; ++d) {
      double dot = 0;
      for (std::int64_t k = 0; k < a.dim; ++k)
        dot += static_cast<double>(a.data[static_cast<std::size_t>(q * a.dim + k)]) *
               b.data[static_cast<std::size_t>(d * a.dim + k)];
      best = std::max(best, dot);
    }
    sum += best;
  }
  return sum;
}

TEST(MaxSim, IsTheSumOfTheBestProducts) {
  // Documents that begin and end within blocks, longer than a block, and empty ones first, last and in between.
  const Sets queries({3, 1100, 0, 7}, 24, 1);
  const Sets documents({0, 5, 2040, 3, 0, 0, 4500, 1, 0}, 24, 2);
  const std::vector<float> scores = maxsim(queries.view(), documents.view());
  MaxSimOptions options;
  options.mean = true;
  options.threads = 1;
  const std::vector<float> means = maxsim(queries.view(), documents.view(), options);
  const std::size_t n = documents.view().size();
  ASSERT_EQ(scores.size(), 4 * n);
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      const auto tokens = static_cast<double>(queries.offsets[i + 1] - queries.offsets[i]);
      if (tokens == 0 || documents.offsets[j] == documents.offsets[j + 1]) {
        EXPECT_TRUE(std::isnan(scores[i * n + j])) << i << ", " << j;
        continue;
      }
      const double expected = expected_score(queries, i, documents, j);
      EXPECT_NEAR(scores[i * n + j], expected, 1e-5 * std::abs(expected) + 1e-5) << i << ", " << j;
      EXPECT_NEAR(means[i * n + j], expected / tokens, 1e-5 * std::abs(expected / tokens) + 1e-5);
    }
  }
  // To the bit the same by themselves.
  const Sets alone({7}, 24, 1);
  const std::int64_t begin = queries.offsets[3] * 24;
  const TokenSets query{queries.data.data() + begin, false, 24, alone.offsets};
  EXPECT_THAT(maxsim(query, documents.view())[6], scores[3 * n + 6]);
}

TEST(MaxSim, ReadsHalves) {
  Sets queries({2}, 8, 5), documents({4, 3}, 8, 6);
  const auto halves = [](Sets& sets) {
    std::vector<std::uint16_t> out;
    for (float& value : sets.data) {
      const c10::Half half(value);
      out.push_back(half.x);
      value = half;  // What is expected is of the rounded values, which products of float32 take as they are.
    }
    return out;
  };
  const auto a = halves(queries), b = halves(documents);
  const TokenSets left{a.data(), true, 8, queries.offsets}, right{b.data(), true, 8, documents.offsets};
  const auto scores = maxsim(left, right);
  for (std::size_t j = 0; j < 2; ++j) {
    const double expected = expected_score(queries, 0, documents, j);
    EXPECT_NEAR(scores[j], expected, 1e-5 * std::abs(expected) + 1e-5);
  }
}

TEST(MaxSim, NaNStays) {
  Sets queries({1}, 4, 1), documents({3, 2}, 4, 2);
  documents.data[0] = NAN;
  const auto scores = maxsim(queries.view(), documents.view());
  EXPECT_TRUE(std::isnan(scores[0]));
  EXPECT_FALSE(std::isnan(scores[1]));
}

TEST(MaxSim, RefusesSetsThatDoNotFitAndCanBeStopped) {
  const Sets queries({2}, 8, 5), documents({4}, 4, 6);
  EXPECT_THAT(message_of<InputError>([&] { (void)maxsim(queries.view(), documents.view()); }),
              HasSubstr("8 dimensions and the documents' 4"));
  Sets wrong({4}, 8, 6);
  wrong.offsets = {0, 4, 3};
  EXPECT_THAT(message_of<InputError>([&] { (void)maxsim(queries.view(), wrong.view()); }),
              HasSubstr("do not ascend"));
  const std::vector<std::int64_t> two{0, 2};
  EXPECT_THAT(message_of<InputError>([&] {
                (void)maxsim({nullptr, false, 2, two}, {nullptr, false, 2, two});
              }),
              HasSubstr("have 2 vectors and no data"));
  MaxSimOptions options;
  options.threads = -1;
  EXPECT_THAT(message_of<InputError>([&] { (void)maxsim(queries.view(), queries.view(), options); }),
              HasSubstr("threads is -1"));
}

}  // namespace
}  // namespace tte
