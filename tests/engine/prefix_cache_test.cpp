#include "engine/prefix_cache.h"

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/fake_model.h"

namespace tte::engine::testing {
namespace {

class CountingState : public models::SequenceState {
 public:
  explicit CountingState(std::int64_t length) : length_(length) { ++alive; }
  ~CountingState() override { --alive; }
  std::int64_t length() const override { return length_; }
  std::int64_t bytes() const override { return 100 * length_; }
  bool reserve(std::int64_t) override { return true; }
  std::unique_ptr<models::SequenceState> fork(std::int64_t length) const override {
    return std::make_unique<CountingState>(length);
  }
  std::size_t kept_layers() const override { return kept; }
  bool keeps_hidden(std::int64_t layer) const override { return kept > 0 && layer == 2; }
  inline static int alive = 0;
  std::size_t kept = 0;

 private:
  std::int64_t length_;
};

std::unique_ptr<models::SequenceState> state_of(const TokenChain& chain) {
  return std::make_unique<CountingState>(chain.size());
}

TEST(TokenChain, CommonPrefixIsExact) {
  const auto a = chain_of(*make_prompt({std::string("abcdefgh")}));
  EXPECT_EQ(a.common_prefix(a), 8);
  EXPECT_EQ(a.common_prefix(chain_of(*make_prompt({std::string("abcdxfgh")}))), 4);
  EXPECT_EQ(a.common_prefix(chain_of(*make_prompt({std::string("abc")}))), 3);
  EXPECT_EQ(a.common_prefix(chain_of(*make_prompt({std::string("xbcdefgh")}))), 0);
  EXPECT_EQ(a.common_prefix(TokenChain()), 0);
}

TEST(TokenChain, KnowsImagesKindsAndPositions) {
  const auto chain = [](std::uint64_t seed) {
    return chain_of(*make_prompt({std::string("ab"), make_visual(seed, 4, 4), std::string("cd")}));
  };
  EXPECT_EQ(chain(1).common_prefix(chain(1)), 8);
  EXPECT_EQ(chain(1).common_prefix(chain(2)), 2);

  // The same ids as text: a model that wrote placeholder tokens itself.
  auto as_text = *make_prompt({std::string("ab"), make_visual(1, 4, 4), std::string("cd")});
  for (auto& kind : as_text.kinds) kind = base::Modality::kText;
  as_text.visuals.clear();
  as_text.visual_tokens.clear();
  EXPECT_EQ(chain(1).common_prefix(chain_of(as_text)), 2);

  // The same frames at another speed: equal patches, other positions.
  auto slower = *make_prompt({std::string("ab"), make_visual(1, 4, 4), std::string("cd")});
  slower.positions[4][0] += 1;
  EXPECT_EQ(chain(1).common_prefix(chain_of(slower)), 4);
}

TEST(TokenChain, LatentStepsAreNoTokens) {
  const auto chain = [](std::int64_t steps, std::int64_t context, const std::string& behind) {
    return chain_of(*with_latent(*make_prompt({std::string("abcd")}), steps, context, behind));
  };
  const auto base = chain(3, 1, "ef");
  EXPECT_EQ(base.common_prefix(chain(3, 1, "ef")), 9);
  EXPECT_EQ(base.common_prefix(chain(5, 1, "ef")), 7);
  EXPECT_EQ(base.common_prefix(chain(3, 2, "ef")), 4) << "another context";
  EXPECT_EQ(base.common_prefix(chain(3, -1, "ef")), 4);
  EXPECT_EQ(base.common_prefix(chain_of(*make_prompt({std::string("abcd...ef")}))), 4)
      << "the same ids as tokens";
}

TEST(TokenChain, SecondImageCountsFromItsOwnTokens) {
  const auto chain = [](std::uint64_t a, std::uint64_t b) {
    return chain_of(*make_prompt({make_visual(a, 2, 4), make_visual(b, 2, 4)}));
  };
  EXPECT_EQ(chain(1, 2).common_prefix(chain(1, 3)), 2);
  EXPECT_EQ(chain(1, 2).common_prefix(chain(2, 1)), 0);
}

TEST(PrefixCache, ForksTheLongestWithinTheLimit) {
  PrefixCache cache(8, 100'000);
  for (const char* text : {"ab", "abcd", "abxx"}) {
    auto chain = chain_of(*make_prompt({std::string(text)}));
    auto state = state_of(chain);
    cache.insert(std::move(chain), std::move(state), false);
  }
  const auto wanted = chain_of(*make_prompt({std::string("abcdef")}));
  EXPECT_EQ(cache.fork(wanted, 5).length, 4);
  EXPECT_EQ(cache.fork(wanted, 3).length, 3);
  EXPECT_EQ(cache.fork(chain_of(*make_prompt({std::string("zzz")})), 3).state, nullptr);
}

TEST(PrefixCache, DropsTheLeastRecentlyUsedAndPinnedOnesLast) {
  {
    PrefixCache cache(2, 100'000);
    std::vector<TokenChain> chains;
    for (const char* text : {"aa", "bb", "cc", "dd"})
      chains.push_back(chain_of(*make_prompt({std::string(text)})));
    auto pin = cache.insert(chains[0], state_of(chains[0]), true);
    cache.insert(chains[1], state_of(chains[1]), false);
    cache.insert(chains[2], state_of(chains[2]), false);
    EXPECT_NE(cache.fork(chains[0], 2).state, nullptr) << "pinned";
    EXPECT_EQ(cache.fork(chains[1], 2).state, nullptr) << "dropped";
    EXPECT_TRUE(cache.evict(false));
    EXPECT_FALSE(cache.evict(false)) << "only the pinned one is left";
    pin.reset();
    EXPECT_TRUE(cache.evict(false));
    auto all = cache.insert(chains[3], state_of(chains[3]), true);
    EXPECT_TRUE(cache.evict(true));
    EXPECT_EQ(cache.size(), 0U);
    all.reset();  // A pin may outlive its entry.
  }
  EXPECT_EQ(CountingState::alive, 0);
}

TEST(PrefixCache, EqualSequencesAreKeptOnce) {
  PrefixCache cache(8, 100'000);
  const auto chain = chain_of(*make_prompt({std::string("same")}));
  auto first = cache.insert(chain, state_of(chain), true);
  auto second = cache.insert(chain, state_of(chain), true);
  EXPECT_EQ(cache.size(), 1U);
  first.reset();
  EXPECT_FALSE(cache.evict(false)) << "the second pin still holds it";
  second.reset();
  EXPECT_TRUE(cache.evict(false));
}

TEST(PrefixCache, WhatNobodyPinnedIsBoundedInBytes) {
  PrefixCache cache(8, 1000);
  const auto insert = [&](const char* text, bool pin) {
    const auto chain = chain_of(*make_prompt({std::string(text)}));
    return cache.insert(chain, state_of(chain), pin);
  };
  auto pin = insert("pinned: not counted", true);
  insert("aaaa", false);
  insert("bbbb", false);
  EXPECT_EQ(cache.size(), 3U);
  insert("cccc", false);
  EXPECT_EQ(cache.size(), 3U) << "aaaa went";
  insert("longer than all that is allowed", false);
  EXPECT_EQ(cache.size(), 2U) << "the last one stays";
  pin.reset();
  insert("dd", false);
  EXPECT_EQ(cache.size(), 1U);
}

TEST(PrefixCache, FindsTheLongestOfHundreds) {
  PrefixCache cache(512, 1'000'000'000);
  const auto base = text_prompt(4'000, 1);
  constexpr int kEntries = 200;
  for (int i = 0; i < kEntries; ++i) {
    auto prompt = *base;
    auto& id = prompt.ids[static_cast<std::size_t>(20 * i)];
    id = (id + 1) % 256;
    auto chain = chain_of(prompt);
    auto state = state_of(chain);
    cache.insert(std::move(chain), std::move(state), false);
  }
  EXPECT_EQ(cache.fork(chain_of(*base), 3'999).length, 20 * (kEntries - 1));
}

TEST(PrefixCache, StatesThatKeepMoreTakeThePlaceOfOthers) {
  PrefixCache cache(8, 1 << 20);
  const TokenChain chain = chain_of(*make_prompt({std::string("abcdef")}));
  cache.insert(chain, state_of(chain), false);
  EXPECT_EQ(cache.fork(chain, 6).length, 6);
  EXPECT_EQ(cache.fork(chain, 6, /*kept_layer=*/2).source, nullptr);
  auto keeping = std::make_unique<CountingState>(chain.size());
  keeping->kept = 1;
  const models::SequenceState* kept = keeping.get();
  cache.insert(chain, std::move(keeping), false);
  EXPECT_EQ(cache.size(), 1);
  EXPECT_EQ(cache.fork(chain, 6, /*kept_layer=*/2).source, kept);
  cache.insert(chain, state_of(chain), false);
  EXPECT_EQ(cache.fork(chain, 6, /*kept_layer=*/2).source, kept) << "one that keeps nothing does not";
  EXPECT_EQ(cache.fork(chain, 6, /*kept_layer=*/3).source, nullptr);
}

TEST(TokenChain, WhatOnlyAHeadHasReadIsAnotherChain) {
  const auto prompt = make_prompt({std::string("abcdef")});
  const TokenChain whole = chain_of(*prompt), head = chain_of(*prompt, /*from_hidden=*/true);
  EXPECT_EQ(whole.common_prefix(head), 0);
  EXPECT_EQ(head.common_prefix(chain_of(*prompt, true)), 6);
}

}  // namespace
}  // namespace tte::engine::testing
