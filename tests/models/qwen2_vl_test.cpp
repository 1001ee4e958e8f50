// Qwen2-VL against what transformers computes on the same weights (tests/models/make_goldens.py).
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "models/driver.h"
#include "models/model.h"
#include "tte/error.h"
#include "weights/state_dict.h"

namespace tte::testing {
namespace {

using models::Prompt;

struct Case {
  const char* checkpoint;
  const char* item;
  friend std::ostream& operator<<(std::ostream& out, const Case& c) {
    return out << c.checkpoint << ' ' << c.item;
  }
};

constexpr const char* kCheckpoints[] = {"gqa_tied_new", "mha_untied_flat", "mqa_tied_nested"};
constexpr const char* kItems[] = {"text",  "image",           "two_images",
                                  "video", "image_and_video", "long_video_last"};

// Checkpoints and their goldens, opened once.
struct Fixture {
  std::shared_ptr<const models::Model> model;
  std::shared_ptr<const models::Preprocessor> preprocessor;
  std::optional<weights::StateDict> golden;
};

Fixture& fixture(const std::string& checkpoint) {
  static std::map<std::string, Fixture> fixtures;
  Fixture& fixture = fixtures[checkpoint];
  if (fixture.model == nullptr) {
    fixture.model = open_model(kQwen2VlFolder / checkpoint, at::kFloat);
    fixture.preprocessor = models::load_preprocessor(kQwen2VlFolder / checkpoint);
    fixture.golden = weights::StateDict::open(kQwen2VlFolder / checkpoint / "golden.safetensors", {});
  }
  return fixture;
}

const Item& item(const std::string& name) {
  static const std::map<std::string, Item> items = load_items(kQwen2VlFolder / "items.safetensors");
  return items.at(name);
}

Prompt prompt_of(const Fixture& fixture, const std::string& name) {
  return fixture.preprocessor->expand_placeholders(item(name).ids, item(name).visuals);
}

at::Tensor golden(const Fixture& fixture, const std::string& name) {
  return fixture.golden->get(name, fixture.golden->shape(name));
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return a.sizes() == b.sizes() ? (a - b).abs().max().item<double>() : 1e9;
}

class Qwen2VlGolden : public ::testing::TestWithParam<Case> {
 protected:
  Fixture& fixture_ = fixture(GetParam().checkpoint);
  Prompt prompt_ = prompt_of(fixture_, GetParam().item);
  at::Tensor expected(const char* what) const {
    return golden(fixture_, std::string(GetParam().item) + "." + what);
  }
};

TEST_P(Qwen2VlGolden, PositionsAreThoseOfGetRopeIndex) {
  const at::Tensor positions = expected("positions").to(at::kLong);
  ASSERT_EQ(positions.size(1), prompt_.size());
  for (std::int64_t axis = 0; axis < 3; ++axis) {
    for (std::int64_t i = 0; i < prompt_.size(); ++i) {
      ASSERT_EQ(prompt_.positions[static_cast<std::size_t>(i)][static_cast<std::size_t>(axis)],
                positions[axis][i].item<std::int64_t>())
          << "axis " << axis << ", token " << i;
    }
  }
  EXPECT_EQ(prompt_.next_position, expected("next").to(at::kLong).item<std::int64_t>());
}

TEST_P(Qwen2VlGolden, HiddenStates) {
  Sequence run(fixture_.model, prompt_);
  EXPECT_LT(difference(hidden_states(*fixture_.model, run, {prompt_.size()}), expected("hidden")), 1e-5);
}

TEST_P(Qwen2VlGolden, HiddenStatesInChunks) {
  // Cuts at arbitrary places, inside of images too; the last size repeats.
  for (const std::vector<std::int64_t>& steps : {std::vector<std::int64_t>{1}, {2, 5, 3}, {7}}) {
    Sequence run(fixture_.model, prompt_);
    EXPECT_LT(difference(hidden_states(*fixture_.model, run, steps), expected("hidden")), 1e-5)
        << "first step " << steps[0];
  }
}

TEST_P(Qwen2VlGolden, LastRowAlone) {
  const at::Tensor hidden = expected("hidden");
  Sequence run(fixture_.model, prompt_);
  Batch batch;
  batch.add(run, prompt_.size());
  const at::Tensor last = batch.forward(*fixture_.model, false, {prompt_.size() - 1});
  EXPECT_LT(difference(last, hidden.narrow(0, hidden.size(0) - 1, 1)), 1e-5);
}

TEST_P(Qwen2VlGolden, GreedyTokens) {
  const at::Tensor tokens = expected("tokens").to(at::kLong);
  Sequence run(fixture_.model, prompt_);
  const std::vector<std::int64_t> generated = greedy(*fixture_.model, run, tokens.numel());
  for (std::int64_t i = 0; i < tokens.numel(); ++i) {
    ASSERT_EQ(generated[static_cast<std::size_t>(i)], tokens[i].item<std::int64_t>()) << "token " << i;
  }
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const char* checkpoint : kCheckpoints) {
    for (const char* name : kItems) cases.push_back({checkpoint, name});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Qwen2VlGolden, ::testing::ValuesIn(all_cases()),
                         [](const ::testing::TestParamInfo<Case>& info) {
                           return std::string(info.param.checkpoint) + "_" + info.param.item;
                         });

class Qwen2VlBatch : public ::testing::TestWithParam<const char*> {
 protected:
  Fixture& fixture_ = fixture(GetParam());
  const models::Model& model_ = *fixture_.model;
};

INSTANTIATE_TEST_SUITE_P(Checkpoints, Qwen2VlBatch, ::testing::ValuesIn(kCheckpoints),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(Qwen2VlBatch, MixedLengthsEqualOneByOne) {
  std::vector<Sequence> runs;
  for (const char* name : kItems) runs.emplace_back(fixture_.model, prompt_of(fixture_, name));
  // First steps of different sizes, then everything else, so that prefill chunks of all kinds share a step.
  std::vector<std::vector<at::Tensor>> parts(runs.size());
  for (const bool rest : {false, true}) {
    Batch batch;
    std::vector<std::int64_t> sizes;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      sizes.push_back(rest ? runs[i].left() : static_cast<std::int64_t>(i) + 1);
      batch.add(runs[i], sizes.back());
    }
    const std::vector<at::Tensor> split = batch.forward(model_).split_with_sizes(sizes);
    for (std::size_t i = 0; i < runs.size(); ++i) parts[i].push_back(split[i]);
  }
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const at::Tensor expected = golden(fixture_, std::string(kItems[i]) + ".hidden");
    EXPECT_LT(difference(at::cat(parts[i]), expected), 1e-5) << kItems[i];
  }
}

TEST_P(Qwen2VlBatch, OutputRowsOfManySequences) {
  // Few rows (the last layer works on them alone), many rows, and none of some sequences.
  Sequence a(fixture_.model, prompt_of(fixture_, "image")), b(fixture_.model, prompt_of(fixture_, "video"));
  const at::Tensor expected = at::cat({golden(fixture_, "image.hidden"), golden(fixture_, "video.hidden")});
  const std::int64_t rows = expected.size(0);
  std::vector<std::int64_t> most;
  for (std::int64_t row = 1; row < rows; ++row) most.push_back(row);
  const std::int64_t first_of_b = a.prompt().size();
  for (const std::vector<std::int64_t>& wanted : {std::vector<std::int64_t>{0},
                                                  {2, 9, first_of_b - 1},
                                                  {first_of_b},
                                                  {5, first_of_b + 3, rows - 1},
                                                  most}) {
    Sequence first(a, model_.start(rows)), second(b, model_.start(rows));
    Batch batch;
    batch.add(first, first.left());
    batch.add(second, second.left());
    const at::Tensor hidden = batch.forward(model_, false, wanted);
    EXPECT_LT(difference(hidden, expected.index_select(0, at::tensor(wanted, at::kLong))), 1e-5)
        << wanted.size() << " rows, first " << wanted[0];
  }
}

TEST_P(Qwen2VlBatch, NoOutputRowsStillFillTheCache) {
  Sequence run(fixture_.model, prompt_of(fixture_, "image"));
  Batch begin;
  begin.add(run, run.left() - 1);
  const at::Tensor none = begin.forward(model_, false, {});
  EXPECT_EQ(none.size(0), 0);
  EXPECT_EQ(none.size(1), model_.info().hidden_size);
  const at::Tensor expected = golden(fixture_, "image.hidden");
  EXPECT_LT(difference(hidden_states(model_, run, {1}), expected.narrow(0, expected.size(0) - 1, 1)), 1e-5);
}

TEST_P(Qwen2VlBatch, ForkAndAppendEqualsFresh) {
  Sequence run(fixture_.model, prompt_of(fixture_, "two_images"));
  hidden_states(model_, run, {run.left()});
  const at::Tensor expected = golden(fixture_, "two_images.hidden");
  for (std::int64_t cut = 0; cut < run.prompt().size(); cut += 3) {
    Sequence forked(run, run.state().fork(cut));
    ASSERT_EQ(forked.state().length(), cut);
    ASSERT_TRUE(forked.state().reserve(run.prompt().size()));
    EXPECT_LT(difference(hidden_states(model_, forked, {forked.left()}),
                         expected.narrow(0, cut, expected.size(0) - cut)),
              1e-5)
        << "cut at " << cut;
  }
}

TEST_P(Qwen2VlBatch, ForksDoNotDisturbEachOther) {
  Sequence trunk(fixture_.model, prompt_of(fixture_, "image"));
  hidden_states(model_, trunk, {trunk.left()});
  std::vector<Sequence> forks;
  for (int i = 0; i < 3; ++i) forks.emplace_back(trunk, trunk.state().fork(trunk.prompt().size()));
  // Each goes its own way, in shared steps; afterwards each equals a fresh run of the same tokens.
  for (std::int64_t step = 0; step < 20; ++step) {
    Batch batch;
    for (std::size_t i = 0; i < forks.size(); ++i) {
      forks[i].push(2 + (step * 7 + static_cast<std::int64_t>(i) * 31) % 140);
      batch.add(forks[i], 1);
    }
    const at::Tensor together = batch.forward(model_);
    if (step % 19 != 0) continue;
    for (std::size_t i = 0; i < forks.size(); ++i) {
      Sequence fresh(fixture_.model, forks[i].prompt());
      const at::Tensor alone = hidden_states(model_, fresh, {fresh.left()});
      EXPECT_LT(difference(together.narrow(0, static_cast<std::int64_t>(i), 1),
                           alone.narrow(0, alone.size(0) - 1, 1)),
                1e-5)
          << "fork " << i << ", step " << step;
    }
  }
}

TEST_P(Qwen2VlBatch, VisionFeaturesDoNotDependOnTheBatch) {
  std::vector<std::shared_ptr<const models::Visual>> visuals;
  for (const char* name : kItems)
    visuals.insert(visuals.end(), item(name).visuals.begin(), item(name).visuals.end());
  const std::vector<at::Tensor> together = model_.encode_vision(visuals);
  ASSERT_EQ(together.size(), visuals.size());
  for (std::size_t i = 0; i < visuals.size(); ++i) {
    const std::vector<at::Tensor> alone = model_.encode_vision({&visuals[i], 1});
    ASSERT_EQ(alone.size(), 1U);
    EXPECT_LT(difference(together[i], alone[0]), 1e-5) << "visual " << i;
  }
  EXPECT_TRUE(model_.encode_vision({}).empty());
}

TEST_P(Qwen2VlBatch, FramesOfAVideoDoNotSeeEachOther) {
  const models::Visual& video = *item("video").visuals.at(0);
  const at::Tensor whole = model_.encode_vision(item("video").visuals)[0];
  auto frame = std::make_shared<models::Visual>(video);
  frame->patches.t = 1;
  frame->patches.values =
      video.patches.values.narrow(0, video.patches.h * video.patches.w, frame->patches.h * frame->patches.w);
  const std::shared_ptr<const models::Visual> second = frame;
  const at::Tensor features = model_.encode_vision({&second, 1})[0];
  EXPECT_LT(difference(whole.narrow(0, features.size(0), features.size(0)), features), 1e-5);
}

// Per row, cosine of hidden states in bfloat16 (this library's, transformers') and transformers' in float32.
struct Cosines {
  at::Tensor to_bfloat16, to_float32, of_reference;
};

Cosines bfloat16_cosines(const std::string& checkpoint) {
  const Fixture& reference = fixture(checkpoint);
  const auto model = open_model(kQwen2VlFolder / checkpoint, std::nullopt);
  EXPECT_EQ(model->info().dtype, at::kBFloat16);
  std::vector<at::Tensor> ours, theirs, exact;
  for (const char* name : kItems) {
    Sequence run(model, prompt_of(reference, name));
    ours.push_back(hidden_states(*model, run, {run.prompt().size()}));
    theirs.push_back(golden(reference, std::string(name) + ".hidden_bfloat16").to(at::kFloat));
    exact.push_back(golden(reference, std::string(name) + ".hidden"));
  }
  const at::Tensor a = at::cat(ours), b = at::cat(theirs), c = at::cat(exact);
  return {at::cosine_similarity(a, b, 1), at::cosine_similarity(a, c, 1), at::cosine_similarity(b, c, 1)};
}

TEST(Qwen2Vl, BFloat16EqualsTransformers) {
  EXPECT_GE(bfloat16_cosines("gqa_tied_new").to_bfloat16.min().item<double>(), 0.9999);
}

TEST_P(Qwen2VlBatch, BFloat16IsNoFurtherFromFloat32ThanTransformersIs) {
  const Cosines cosines = bfloat16_cosines(GetParam());
  const double ours = 1 - cosines.to_float32.to(at::kDouble).mean().item<double>();
  const double theirs = 1 - cosines.of_reference.to(at::kDouble).mean().item<double>();
  EXPECT_LT(ours, 1.25 * theirs);
}

TEST(Qwen2Vl, PoolExhaustion) {
  // 4 blocks' worth of memory.
  const Fixture& large = fixture("gqa_tied_new");
  const std::int64_t block = kernels::cache_block_size(at::kCPU);
  const std::int64_t bytes = large.model->state_bytes(4 * block);
  const auto model = open_model(kQwen2VlFolder / "gqa_tied_new", at::kFloat, bytes);
  ASSERT_EQ(model->state_capacity(), bytes);
  EXPECT_EQ(model->start(4 * block + 1), nullptr);
  auto first = model->start(3 * block);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(model->start(2 * block), nullptr);
  auto second = model->start(block);
  ASSERT_NE(second, nullptr);
  EXPECT_FALSE(second->reserve(block + 1));
  EXPECT_TRUE(second->reserve(block));
  first.reset();
  EXPECT_TRUE(second->reserve(4 * block));
  second.reset();
  EXPECT_NE(model->start(4 * block), nullptr);
}

TEST(Qwen2Vl, BatchesThatMakeNoSenseAreErrors) {
  const Fixture& fixture = testing::fixture("gqa_tied_new");
  const auto forward = [&](const std::vector<std::int64_t>& ids, const std::vector<std::int64_t>& rows) {
    const auto state = fixture.model->start(8);
    models::RaggedBatch batch;
    batch.segments = {{state.get(), 2}};
    batch.ids = at::tensor(ids, at::kLong);
    batch.positions = at::zeros({3, 2}, at::kLong);
    batch.output_rows = rows;
    (void)fixture.model->forward(batch);
  };
  EXPECT_NO_THROW(forward({5, 6}, {0, 1}));
  EXPECT_THROW(forward({5, 160}, {0}), InputError);
  EXPECT_THROW(forward({-1, 6}, {0}), InputError);
  EXPECT_THROW(forward({5}, {0}), Error);
  EXPECT_THROW(forward({5, 6}, {2}), Error);
  EXPECT_THROW(forward({5, 6}, {1, 0}), Error);
}

TEST(Qwen2Vl, StatesOfAnotherModelAreErrors) {
  const auto other = fixture("mha_untied_flat").model->start(8);
  models::RaggedBatch batch;
  batch.segments = {{other.get(), 1}};
  batch.ids = at::tensor({5}, at::kLong);
  batch.positions = at::zeros({3, 1}, at::kLong);
  batch.output_rows = {0};
  EXPECT_THROW((void)fixture("gqa_tied_new").model->forward(batch), Error);
}

TEST(Qwen2Vl, Info) {
  const models::ModelInfo& info = fixture("mqa_tied_nested").model->info();
  EXPECT_EQ(info.family, "qwen2_vl");
  EXPECT_EQ(info.hidden_size, 48);
  EXPECT_EQ(info.vocab_size, 160);
  EXPECT_EQ(info.num_layers, 3);
  EXPECT_EQ(info.max_positions, 4096);
  const std::int64_t block = kernels::cache_block_size(at::kCPU);
  EXPECT_EQ(fixture("mqa_tied_nested").model->state_bytes(block + 1), 2 * block * 3 * 2 * 1 * 8 * 4);
  EXPECT_NE(info.fingerprint, fixture("gqa_tied_new").model->info().fingerprint);
  EXPECT_NE(info.vision_fingerprint, fixture("gqa_tied_new").model->info().vision_fingerprint);
  const auto again = open_model(kQwen2VlFolder / "mqa_tied_nested", at::kFloat);
  EXPECT_EQ(again->info().fingerprint, info.fingerprint);
  EXPECT_EQ(again->info().vision_fingerprint, info.vision_fingerprint);
  const auto rounded = open_model(kQwen2VlFolder / "mqa_tied_nested", at::kBFloat16);
  EXPECT_NE(rounded->info().vision_fingerprint, info.vision_fingerprint);
}

}  // namespace
}  // namespace tte::testing
