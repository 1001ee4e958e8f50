#include "weights/weight_store.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "safetensors_file.h"
#include "temp_dir.h"
#include "weights/state_dict.h"

namespace tte::weights {
namespace {

using testing::numbered;
using testing::safetensors;

bool same_memory(const at::Tensor& a, const at::Tensor& b) {
  return a.const_data_ptr() == b.const_data_ptr();
}

TEST(WeightStore, IdenticalTensorsBecomeOne) {
  WeightStore store;
  const at::Tensor first = store.share(numbered({100, 7}));
  const at::Tensor again = store.share(numbered({100, 7}));
  EXPECT_TRUE(same_memory(first, again));
  EXPECT_TRUE(again.equal(numbered({100, 7})));
  EXPECT_TRUE(again.is_contiguous());
}

TEST(WeightStore, ADifferenceAnywhereKeepsThemApart) {
  for (const std::int64_t changed : {0, 333, 500, 699}) {
    WeightStore store;
    const at::Tensor first = store.share(numbered({100, 7}));
    at::Tensor other = numbered({100, 7});
    other.view(-1)[changed] = -1;
    EXPECT_TRUE(same_memory(store.share(other), other)) << changed;
    EXPECT_TRUE(same_memory(store.share(other.clone()), other)) << changed;
    EXPECT_TRUE(same_memory(store.share(numbered({100, 7})), first)) << changed;
  }
}

TEST(WeightStore, DtypeAndShapeMatter) {
  WeightStore store;
  const at::Tensor zeros = store.share(at::zeros({4, 6}));
  EXPECT_FALSE(same_memory(store.share(at::zeros({6, 4})), zeros));
  EXPECT_FALSE(same_memory(store.share(at::zeros({24})), zeros));
  EXPECT_FALSE(same_memory(store.share(at::zeros({4, 6}, at::kHalf)), zeros));
  const at::Tensor half = store.share(at::zeros({4, 6}, at::kHalf));
  EXPECT_FALSE(same_memory(store.share(at::zeros({4, 6}, at::kBFloat16)), half));
}

TEST(WeightStore, BytesDecideNotValues) {
  WeightStore store;
  const at::Tensor plus = store.share(at::zeros({8}));
  EXPECT_FALSE(same_memory(store.share(at::full({8}, -0.0)), plus));
  const at::Tensor nan = store.share(at::full({8}, std::numeric_limits<float>::quiet_NaN()));
  EXPECT_TRUE(same_memory(store.share(nan.clone()), nan));
}

TEST(WeightStore, KeepsNothingAlive) {
  WeightStore store;
  std::atomic<bool> freed = false;
  std::vector<float> memory(16, 1.0F);
  at::Tensor tensor = store.share(at::from_blob(
      memory.data(), {16}, [&](void*) { freed = true; }, at::kFloat));
  at::Tensor view = tensor.narrow(0, 3, 2).t();
  tensor.reset();
  EXPECT_FALSE(freed) << "a view is in use";
  EXPECT_EQ(store.share(at::ones({16})).const_data_ptr(), memory.data()) << "found through the view's memory";
  view.reset();
  EXPECT_TRUE(freed);
  const at::Tensor later = at::ones({16});
  EXPECT_TRUE(same_memory(store.share(later), later)) << "what is freed is not given out";
}

TEST(WeightStore, ForgetsFreedTensorsOfManyShapes) {
  WeightStore store;
  for (std::int64_t i = 1; i <= 5000; ++i) store.share(at::ones({i % 500 + 1, 1 + i / 500}));
  const at::Tensor kept = store.share(at::ones({3, 3}));
  for (std::int64_t i = 1; i <= 5000; ++i) store.share(at::zeros({1, i}));
  EXPECT_TRUE(same_memory(store.share(at::ones({3, 3})), kept));
}

TEST(WeightStore, LeavesAloneWhatItCannotShare) {
  WeightStore store;
  EXPECT_FALSE(store.share(at::Tensor()).defined());
  EXPECT_EQ(store.share(at::empty({0, 3})).numel(), 0);
  const at::Tensor strided = numbered({4, 6}).t();
  EXPECT_TRUE(same_memory(store.share(strided), strided));
  EXPECT_EQ(store.share(numbered({4, 6}).t()).strides(), strided.strides());
}

TEST(WeightStore, AKnownOriginIsNotPlacedAgain) {
  WeightStore store;
  const base::Digest origin = base::Digester().text("file").finish();
  int placed = 0;
  const auto place = [&] {
    ++placed;
    return numbered({10});
  };
  at::Tensor first = store.share(origin, place);
  EXPECT_TRUE(same_memory(store.share(origin, place), first));
  EXPECT_EQ(placed, 1);
  EXPECT_TRUE(same_memory(store.share(base::Digester().text("copy").finish(), place), first))
      << "found by its bytes";
  EXPECT_EQ(placed, 2);
  first.reset();
  EXPECT_TRUE(store.share(origin, place).equal(numbered({10})));
  EXPECT_EQ(placed, 3) << "freed, so placed anew";
}

TEST(WeightStore, ManyThreadsAgree) {
  WeightStore store;
  std::vector<std::vector<at::Tensor>> shared(4);
  std::vector<std::thread> threads;
  for (auto& mine : shared) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) mine.push_back(store.share(numbered({32, 4}, i % 20)));
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& mine : shared) {
    for (int i = 0; i < 200; ++i) {
      EXPECT_TRUE(same_memory(mine[i], shared[0][i % 20]));
      EXPECT_TRUE(mine[i].equal(numbered({32, 4}, i % 20)));
    }
  }
}

class TwoCheckpoints : public ::testing::Test {
 protected:
  StateDict open(const char* name, const Placement& placement) {
    return StateDict::open(folder_.path() / name, placement);
  }
  void SetUp() override {
    folder_.write("reasoner/model.safetensors", safetensors({{"visual.a", numbered({64, 8})},
                                                             {"visual.b", numbered({64, 8}, 50)},
                                                             {"layer", numbered({64, 8}, 100)}}));
    folder_.write("embedder/model.safetensors", safetensors({{"head", numbered({5})},
                                                             {"model.visual.b", numbered({64, 8}, 50)},
                                                             {"model.visual.a", numbered({64, 8})},
                                                             {"layer", numbered({64, 8}, 200)}}));
  }
  testing::TempDir folder_;
};

TEST_F(TwoCheckpoints, WeightsThatWereCutAreNotReadForTheOther) {
  const auto large = [](double first) { return numbered({4096, 8}, first); };
  folder_.write("cut/model.safetensors", safetensors({{"a", large(0)}, {"b", large(9)}}));
  folder_.write("whole/model.safetensors", safetensors({{"a", large(0)}, {"b", large(9)}}));
  const Placement placement = {.store = std::make_shared<WeightStore>()};
  const StateDict cut = open("cut", placement);
  const at::Tensor first = cut.get("a", {4096, 8});
  const at::Tensor second = cut.get("b", {4096, 8});
  std::filesystem::resize_file(folder_.path() / "cut/model.safetensors", 4096);
  const StateDict whole = open("whole", placement);
  for (const char* name : {"a", "b"}) {
    const at::Tensor own = whole.get(name, {4096, 8});
    EXPECT_FALSE(same_memory(own, first));
    EXPECT_FALSE(same_memory(own, second));
  }
  EXPECT_TRUE(whole.get("b", {4096, 8}).equal(large(9)));
}

TEST_F(TwoCheckpoints, HoldTheirCommonTensorsOnce) {
  for (const auto dtype : {std::optional<at::ScalarType>(), std::optional<at::ScalarType>(at::kHalf)}) {
    const Placement placement = {.dtype = dtype, .store = std::make_shared<WeightStore>()};
    const StateDict reasoner = open("reasoner", placement);
    const StateDict embedder = open("embedder", placement);
    const at::Tensor a = reasoner.get("visual.a", {64, 8});
    const at::Tensor b = reasoner.get("visual.b", {64, 8});
    EXPECT_FALSE(same_memory(a, b));
    EXPECT_TRUE(same_memory(embedder.get("model.visual.a", {64, 8}), a));
    EXPECT_TRUE(same_memory(embedder.get("model.visual.b", {64, 8}), b));
    const at::Tensor layer = reasoner.get("layer", {64, 8});
    EXPECT_FALSE(same_memory(embedder.get("layer", {64, 8}), layer));
    const std::vector<std::vector<std::int64_t>> shapes = {{64, 8}, {64, 8}};
    const at::Tensor stacked = reasoner.stacked({"visual.a", "visual.b"}, shapes);
    EXPECT_TRUE(same_memory(embedder.stacked({"model.visual.a", "model.visual.b"}, shapes), stacked))
        << "a view of one file and a copy from the other are one";
  }
}

TEST_F(TwoCheckpoints, WithoutAStoreShareNothing) {
  const at::Tensor a = open("reasoner", {}).get("visual.a", {64, 8});
  EXPECT_FALSE(same_memory(open("embedder", {}).get("model.visual.a", {64, 8}), a));
}

TEST_F(TwoCheckpoints, OneFileOpenedTwiceIsHeldOnce) {
  const Placement placement = {.dtype = at::kBFloat16, .store = std::make_shared<WeightStore>()};
  const at::Tensor first = open("reasoner", placement).get("layer", {64, 8});
  std::filesystem::create_symlink(folder_.path() / "reasoner", folder_.path() / "link");
  EXPECT_TRUE(same_memory(open("link", placement).get("layer", {64, 8}), first));
  Placement other = placement;
  other.dtype = at::kHalf;
  EXPECT_EQ(open("reasoner", other).get("layer", {64, 8}).scalar_type(), at::kHalf)
      << "another dtype is another tensor";
}

TEST_F(TwoCheckpoints, AFileRewrittenBetweenIsReadAnew) {
  const Placement placement = {.store = std::make_shared<WeightStore>()};
  const at::Tensor held = open("reasoner", placement).get("visual.a", {64, 8});
  std::filesystem::remove(folder_.path() / "reasoner" / "model.safetensors");
  folder_.write("reasoner/model.safetensors", safetensors({{"visual.a", numbered({64, 8}, 7)}}));
  EXPECT_TRUE(open("reasoner", placement).get("visual.a", {64, 8}).equal(numbered({64, 8}, 7)));
  EXPECT_TRUE(held.equal(numbered({64, 8})));
}

}  // namespace
}  // namespace tte::weights
