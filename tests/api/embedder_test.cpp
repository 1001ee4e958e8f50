#include "tte/embedder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "api/fixture.h"
#include "expect_error.h"
#include "temp_dir.h"

namespace tte {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using tte::testing::distance;
using tte::testing::embedder;
using tte::testing::float32;
using tte::testing::kEmbedder;
using tte::testing::kSame;
using tte::testing::message_of;
using tte::testing::norm;
using tte::testing::questions;
using tte::testing::reasoner;

TEST(Embedder, BatchesAreTheSameAsOneByOne) {
  const auto inputs = questions();
  const Embeddings batch = embedder().embed(inputs);
  ASSERT_EQ(batch.rows, static_cast<std::int64_t>(inputs.size()));
  ASSERT_EQ(batch.dim, embedder().dim());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_LT(distance(embedder().embed({inputs[i]}).row(0), batch.row(i)), kSame) << i;
    EXPECT_NEAR(norm(batch.row(i)), 1.0, 1e-6);
    EXPECT_GT(batch.tokens[i], 0);
  }
  EXPECT_GT(distance(batch.row(0), batch.row(1)), 1e-3F) << "different items, different vectors";
}

TEST(Embedder, TruncatesBeforeItNormalises) {
  const std::vector<Input> inputs = {questions()[0]};
  EmbedCallOptions options;
  options.normalize = false;
  const Embeddings whole = embedder().embed(inputs, {}, options);
  EXPECT_GT(std::abs(norm(whole.row(0)) - 1.0), 1e-3);
  options.truncate_dim = 16;
  const Embeddings cut = embedder().embed(inputs, {}, options);
  EXPECT_EQ(cut.dim, 16);
  EXPECT_LT(distance(cut.row(0), whole.row(0).subspan(0, 16)), kSame * 10);
  options.normalize = true;
  const Embeddings unit = embedder().embed(inputs, {}, options);
  EXPECT_NEAR(norm(unit.row(0)), 1.0, 1e-6);
  for (const int dim : {0, -1, 100'000}) {
    options.truncate_dim = dim;
    EXPECT_THAT(message_of<InputError>([&] { (void)embedder().embed(inputs, {}, options); }),
                HasSubstr("truncate_dim is " + std::to_string(dim)));
  }
}

TEST(Embedder, OnlyTrainedSizesWhereTheRecipeSaysSo) {
  const tte::testing::TempDir folder;
  const auto recipe = folder.write("r.json", R"({"name": "r", "dims": [32, 64]})");
  const Embedder trained = Embedder::load(kEmbedder, float32(recipe.string()), tte::testing::backend());
  EmbedCallOptions options;
  options.truncate_dim = 48;
  EXPECT_THAT(message_of<InputError>([&] { (void)trained.embed({Input("a")}, {}, options); }),
              AllOf(HasSubstr("48"), HasSubstr("32, 64")));
  options.truncate_dim = 32;
  EXPECT_EQ(trained.embed({Input("a")}, {}, options).dim, 32);
}

TEST(Embedder, ReadsTraces) {
  const auto inputs = questions();
  std::vector<std::optional<Trace>> traces(inputs.size());
  traces[1] = Trace::from_text("<think>red circle at A1</think> red circle");
  const Embeddings with = embedder().embed(inputs, traces);
  const Embeddings without = embedder().embed(inputs);
  EXPECT_LT(distance(with.row(0), without.row(0)), kSame);
  EXPECT_GT(distance(with.row(1), without.row(1)), 1e-3F);
  EXPECT_GT(with.tokens[1], without.tokens[1]);
  EXPECT_THAT(message_of<InputError>([&] { (void)embedder().embed(inputs, {traces[1]}); }),
              HasSubstr("traces has 1 entries for 5 inputs"));
}

TEST(Embedder, SkippedItemsAreNaNAndSayWhy) {
  auto inputs = questions();
  inputs[3] = Input();
  EmbedCallOptions options;
  options.on_error = OnError::kSkip;
  std::vector<std::size_t> seen;
  options.on_result = [&](std::size_t i, std::span<const float> vector) {
    seen.push_back(i);
    EXPECT_NEAR(norm(vector), 1.0, 1e-6);
  };
  const Embeddings out = embedder().embed(inputs, {}, options);
  ASSERT_EQ(out.errors.size(), 1U);
  EXPECT_EQ(out.errors[0].index, 3U);
  EXPECT_THAT(out.errors[0].message, HasSubstr("item 3"));
  for (const float value : out.row(3)) EXPECT_TRUE(std::isnan(value));
  EXPECT_EQ(seen.size(), inputs.size() - 1);
  const Embeddings good = embedder().embed({inputs[4]});
  EXPECT_LT(distance(out.row(4), good.row(0)), kSame);
}

// All states of an item's prompt as they are.
TokenEmbeddings states_of(const Embedder& model, const std::vector<Input>& inputs) {
  EmbedCallOptions options;
  options.normalize = false;
  TokenOptions tokens;
  tokens.special = tokens.float32 = true;
  return model.embed_tokens(inputs, {}, options, tokens);
}

TEST(Embedder, GivesTheStatesOfAllTokens) {
  const auto inputs = questions();
  const TokenEmbeddings states = states_of(embedder(), inputs);
  EmbedCallOptions options;
  options.normalize = false;
  const Embeddings pooled = embedder().embed(inputs, {}, options);
  ASSERT_EQ(states.ids.size(), static_cast<std::size_t>(states.offsets.back()));
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_EQ(states.offsets[i + 1] - states.offsets[i], pooled.tokens[i]);
    const std::span<const float> last(states.data.data() + (states.offsets[i + 1] - 1) * pooled.dim,
                                      static_cast<std::size_t>(pooled.dim));
    EXPECT_LT(distance(last, pooled.row(i)), kSame * 10) << "the last token is what the recipe pools";
    EXPECT_LT(distance(states.pooled.row(i), pooled.row(i)), kSame * 10);
  }
}

TEST(Embedder, PoolingIsTheRecipes) {
  const tte::testing::TempDir folder;
  const auto load = [&](const char* json) {
    return Embedder::load(kEmbedder, float32(folder.write("r.json", json).string()), tte::testing::backend());
  };
  const std::vector<Input> inputs = {questions()[0]};
  EmbedCallOptions options;
  options.normalize = false;
  const Embedder mean = load(R"({"pooling": "mean"})");
  const TokenEmbeddings states = states_of(mean, inputs);
  const std::int64_t dim = mean.dim(), count = states.offsets.back();
  std::vector<float> expected(static_cast<std::size_t>(dim));
  for (std::int64_t row = 0; row < count; ++row) {
    for (std::int64_t k = 0; k < dim; ++k) {
      expected[static_cast<std::size_t>(k)] +=
          states.data[static_cast<std::size_t>(row * dim + k)] / static_cast<float>(count);
    }
  }
  EXPECT_LT(distance(states.pooled.row(0), expected), 1e-4F);
  EXPECT_LT(distance(mean.embed(inputs, {}, options).row(0), expected), 1e-4F);

  const Embedder token = load(R"({"pooling": "token", "pooling_token": "<|vision_end|>"})");
  std::int64_t row = -1;
  const std::int64_t id = *token.tokenizer().id_of("<|vision_end|>");
  for (std::int64_t i = 0; i < count; ++i) {
    if (states.ids[static_cast<std::size_t>(i)] == id) row = i;
  }
  const std::span<const float> there(states.data.data() + row * dim, static_cast<std::size_t>(dim));
  EXPECT_LT(distance(token.embed(inputs, {}, options).row(0), there), 1e-4F);

  const Embedder none = load(R"({"pooling": "none"})");
  EXPECT_THAT(message_of<InputError>([&] { (void)none.embed(inputs); }), HasSubstr("embed_tokens"));
}

TEST(Cosine, ComparesEveryRowWithEveryRow) {
  Embeddings a, b;
  a.rows = 1;
  a.dim = b.dim = 2;
  a.data = {2, 0};
  b.rows = 3;
  b.data = {5, 0, 0, 1, -1, 1};
  const auto scores = cosine(a, b);
  ASSERT_EQ(scores.size(), 3U);
  EXPECT_FLOAT_EQ(scores[0], 1);
  EXPECT_FLOAT_EQ(scores[1], 0);
  EXPECT_FLOAT_EQ(scores[2], -std::sqrt(0.5F));
  b.dim = 3;
  EXPECT_THAT(message_of<InputError>([&] { (void)cosine(a, b); }), AllOf(HasSubstr("2"), HasSubstr("3")));
}

TEST(Cosine, RowsThatAreNotThereAreRefused) {
  Embeddings fine, lies;
  fine.rows = 1;
  fine.dim = lies.dim = 3;
  fine.data = lies.data = {1, 2, 3};
  for (const std::int64_t rows :
       {std::int64_t{2}, std::int64_t{-1}, std::numeric_limits<std::int64_t>::max()}) {
    lies.rows = rows;
    EXPECT_THAT(message_of<InputError>([&] { (void)cosine(lies, fine); }),
                HasSubstr("first Embeddings have 3"));
    EXPECT_THAT(message_of<InputError>([&] { (void)cosine(fine, lies); }), HasSubstr("second Embeddings"));
  }
  lies.rows = 1;
  for (const std::int64_t dim : {std::int64_t{0}, std::int64_t{-3}}) {
    lies.dim = dim;
    EXPECT_THAT(message_of<InputError>([&] { (void)cosine(lies, lies); }), HasSubstr("dimensions"));
  }
  TokenEmbeddings tokens;
  tokens.data = {1, 2, 3};
  tokens.dim = 3;
  tokens.offsets = {0, 1};
  EXPECT_EQ(tokens.sets().size(), 1U);
  tokens.offsets = {0, 2};
  EXPECT_THAT(message_of<InputError>([&] { (void)tokens.sets(); }), HasSubstr("2 rows of 3 dimensions"));
}

TEST(Embedder, WhatIsHandedInAsAnErrorIsASentence) {
  Input input("x");
  input.error = std::string(10'000'000, 'n');
  EXPECT_LT(message_of<InputError>([&] { (void)embedder().embed({input}); }).size(), 500U);
  input.error = "two\nlines";
  EXPECT_EQ(message_of<InputError>([&] { (void)embedder().embed({input}); }), "two\\x0alines");
  const char* null = nullptr;
  EXPECT_THAT(message_of<InputError>([&] { (void)embedder().embed({Input(null)}); }),
              HasSubstr("is a null pointer: give a string"));
}

// Uses of an object that has nothing, each refused in a sentence that names its class.
void expect_empty(const std::string& name, const std::vector<std::function<void()>>& calls) {
  for (const std::function<void()>& call : calls) {
    EXPECT_THAT(message_of<InputError>(call),
                AllOf(HasSubstr("This " + name + " is empty"), SizeIs(::testing::Lt(500U))));
  }
}

TEST(Empty, ModelsMovedFromOrMadeOfNothingAreRefused) {
  const Embedder gone(nullptr);
  const std::vector<Input> one = {Input("a")};
  expect_empty("Embedder",
               {[&] { (void)gone.embed(one); }, [&] { (void)gone.embed_tokens(one); },
                [&] { (void)gone.embed_sparse(one); }, [&] { (void)gone.dim(); },
                [&] { (void)gone.sparse_dim(); }, [&] { (void)gone.model(); }, [&] { (void)gone.backend(); },
                [&] { (void)gone.tokenizer(); }, [&] { (void)ThinkThenEmbed(reasoner(), gone); }});
  const Reasoner thinker(nullptr);
  expect_empty("Reasoner",
               {[&] { (void)thinker.think(one); }, [&] { (void)thinker.think(one[0]); },
                [&] { (void)thinker.score(one, {"a"}); }, [&] { (void)thinker.thinks({}); },
                [&] { (void)thinker.model(); }, [&] { (void)thinker.backend(); },
                [&] { (void)thinker.tokenizer(); }, [&] { (void)ThinkThenEmbed(thinker, embedder()); }});
  ThinkThenEmbed both(reasoner(), embedder());
  const ThinkThenEmbed taken = std::move(both);
  expect_empty("ThinkThenEmbed", {[&] { (void)both.run(one); }});  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(taken.embedder().dim(), embedder().dim());
}

TEST(Empty, OtherPartsMadeOfNothingAreRefused) {
  const Backend backend(nullptr);
  expect_empty("Backend", {[&] { (void)backend.device(); }, [&] { (void)backend.options(); },
                           [&] { (void)backend.supports("float32"); }, [&] { (void)backend.stats(); },
                           [&] { (void)backend.replica_stats(); },
                           [&] { (void)Embedder::load(tte::testing::kEmbedder, {}, backend); },
                           [&] { (void)Reasoner::load(tte::testing::kReasoner, {}, backend); }});
  const Processor processor(nullptr);
  expect_empty("Processor", {[&] { (void)processor.process(Input("a")); }, [&] { (void)processor.recipe(); },
                             [&] { (void)processor.recipe_reason(); }, [&] { (void)processor.tokenizer(); }});
  const Tokenizer tokenizer(nullptr);
  expect_empty("Tokenizer",
               {[&] { (void)tokenizer.encode("a"); }, [&] { (void)tokenizer.decode({1}); },
                [&] { (void)tokenizer.apply_chat_template({}); }, [&] { (void)tokenizer.id_of("a"); },
                [&] { (void)tokenizer.vocab_size(); }, [&] { (void)tokenizer.eos_id(); },
                [&] { (void)tokenizer.pad_id(); }, [&] { (void)tokenizer.vocabulary(); }});
  RemoteOptions server;
  server.base_url = "http://localhost:1/v1";
  server.model = std::string(1, 'm');  // GCC 12 takes the plain assignment for an overflow.
  const Reasoner remote = Reasoner::remote(server);
  expect_empty("Embedder", {[&] { (void)ThinkThenEmbed(remote, Embedder(nullptr)); }});
}

}  // namespace
}  // namespace tte
