#include "weights/state_dict.h"

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "expect_error.h"
#include "safetensors_file.h"
#include "temp_dir.h"
#include "tte/error.h"
#include "weights/content_digest.h"
#include "weights/weight_store.h"

namespace tte::weights {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::NamedTensors;
using ::testing::Not;
using testing::numbered;
using testing::safetensors;
using testing::TempDir;

class StateDictTest : public ::testing::Test {
 protected:
  StateDict open(const NamedTensors& tensors, const Placement& placement = {}) {
    return StateDict::open(folder_.write("model.safetensors", safetensors(tensors)), placement);
  }
  std::string error_opening(const std::filesystem::path& path) {
    return message_of<ModelError>([&] { StateDict::open(path, {}); });
  }
  void write_index(const base::Json& weight_map) {
    folder_.write("model.safetensors.index.json", base::Json{{"weight_map", weight_map}}.dump());
  }
  TempDir folder_;
};

bool is_inside(const at::Tensor& inner, const at::Tensor& outer) {
  const auto* begin = static_cast<const char*>(outer.const_data_ptr());
  const auto* at = static_cast<const char*>(inner.const_data_ptr());
  return at >= begin && at < begin + outer.nbytes();
}

TEST_F(StateDictTest, GivesBackWhatWasStored) {
  for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16}) {
    const at::Tensor a = numbered({3, 4}, -2, dtype);
    const at::Tensor b = numbered({2, 1, 5}, 9, dtype);
    const at::Tensor scalar = at::scalar_tensor(3.5).to(dtype);
    const StateDict dict = open({{"a", a}, {"b", b}, {"s", scalar}, {"empty", at::empty({0, 7}, dtype)}});
    EXPECT_EQ(dict.stored_dtype("a"), dtype);
    EXPECT_EQ(dict.shape("b"), (std::vector<std::int64_t>{2, 1, 5}));
    EXPECT_TRUE(dict.get("a", {3, 4}).equal(a));
    EXPECT_EQ(dict.get("a", {3, 4}).scalar_type(), dtype);
    EXPECT_TRUE(dict.get("b", {2, 1, 5}).equal(b));
    EXPECT_TRUE(dict.get("s", {}).equal(scalar));
    EXPECT_EQ(dict.get("empty", {0, 7}).sizes(), (at::IntArrayRef{0, 7}));
  }
}

TEST_F(StateDictTest, EveryBitSurvives) {
  const at::Tensor bits = at::arange(65536, at::kInt).to(at::kShort);
  for (const at::ScalarType dtype : {at::kHalf, at::kBFloat16}) {
    const at::Tensor out = open({{"a", bits.view(dtype)}}).get("a", {65536});
    EXPECT_TRUE(out.view(at::kShort).equal(bits)) << "NaNs, infinities and subnormal numbers among them";
  }
}

TEST_F(StateDictTest, TensorsAsStoredAreViewsOfTheFile) {
  const StateDict dict = open({{"a", numbered({64})}, {"b", numbered({64})}});
  const at::Tensor first = dict.get("a", {64});
  EXPECT_EQ(first.const_data_ptr(), dict.get("a", {64}).const_data_ptr());
  const auto* next = static_cast<const float*>(dict.get("b", {64}).const_data_ptr());
  EXPECT_EQ(next, static_cast<const float*>(first.const_data_ptr()) + 64);
}

TEST_F(StateDictTest, TensorsOutliveTheirCheckpointAndItsFile) {
  at::Tensor tensor = open({{"a", numbered({1000})}}).get("a", {1000});
  std::filesystem::remove(folder_.path() / "model.safetensors");
  EXPECT_TRUE(tensor.equal(numbered({1000})));
}

TEST_F(StateDictTest, ConvertsToThePlacementsDtype) {
  const at::Tensor stored = numbered({5, 3}, 0.1, at::kBFloat16);
  const StateDict dict = open({{"a", stored}, {"b", stored}}, {.dtype = at::kFloat});
  EXPECT_EQ(dict.stored_dtype("a"), at::kBFloat16);
  const at::Tensor out = dict.get("a", {5, 3});
  EXPECT_EQ(out.scalar_type(), at::kFloat);
  EXPECT_TRUE(out.equal(stored.to(at::kFloat)));
  EXPECT_TRUE(dict.stacked({"b", "a"}, {{5, 3}, {5, 3}}).equal(at::cat({stored, stored}).to(at::kFloat)));
  EXPECT_THROW(open({{"a", stored}}, {.dtype = at::kInt}), InputError);
}

TEST_F(StateDictTest, TensorsThatAreNotAlignedAreCopied) {
  for (std::size_t padding = 0; padding < 8; ++padding) {
    const at::Tensor a = numbered({7}, 1, at::kBFloat16);
    const at::Tensor b = numbered({3, 5}, 2);
    const auto file = folder_.write("m.safetensors", safetensors({{"a", a}, {"b", b}, {"c", b}}, padding));
    const StateDict dict = StateDict::open(file, {});
    const at::Tensor out = dict.get("b", {3, 5});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(out.const_data_ptr()) % 4, 0U);
    EXPECT_TRUE(out.equal(b)) << padding;
    EXPECT_TRUE(dict.get("a", {7}).equal(a)) << padding;
    EXPECT_TRUE(dict.stacked({"b", "c"}, {{3, 5}, {3, 5}}).equal(at::cat({b, b}))) << padding;
  }
}

TEST_F(StateDictTest, SelectsByPrefix) {
  const StateDict dict = open({{"model.layers.1.a", numbered({1}, 1)},
                               {"model.layers.10.a", numbered({1}, 10)},
                               {"model.layers.2.a", numbered({1}, 2)},
                               {"model.layers.2.b.c", numbered({1}, 3)},
                               {"lm_head", numbered({1}, 4)}});
  const StateDict layer = dict.select("model.layers.").select("2.");
  EXPECT_EQ(layer.prefix(), "model.layers.2.");
  EXPECT_THAT(layer.names(), ElementsAre("a", "b.c"));
  EXPECT_TRUE(layer.has("b.c"));
  EXPECT_FALSE(layer.has("lm_head"));
  EXPECT_EQ(layer.get("a", {1}).item<float>(), 2);
  EXPECT_THAT(dict.select("model.layers.1").names(), ElementsAre(".a", "0.a"));
  EXPECT_TRUE(dict.select("nothing.").names().empty());
  EXPECT_EQ(dict.names().size(), 5U);
}

TEST_F(StateDictTest, AWrongShapeNamesTensorFileAndBothShapes) {
  const StateDict dict = open({{"x.weight", numbered({2, 3})}});
  EXPECT_THAT(message_of<ModelError>([&] {
                static_cast<void>(dict.select("x.").get("weight", {3, 2}));
              }),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("\"x.weight\""), HasSubstr("[2, 3]"),
                    HasSubstr("[3, 2]")));
  EXPECT_THROW(static_cast<void>(dict.find("x.weight", {6})), ModelError);
  EXPECT_THROW(static_cast<void>(dict.stacked({"x.weight"}, {{2, 4}})), ModelError);
  EXPECT_THROW(dict.check_all_used(), ModelError) << "a tensor refused is not a tensor used";
}

TEST_F(StateDictTest, AnAbsentTensorIsNamedWithOneThatResemblesIt) {
  const StateDict dict = open({{"language_model.model.layers.0.mlp.up_proj.weight", numbered({2})}});
  EXPECT_THAT(
      message_of<ModelError>([&] { static_cast<void>(dict.get("model.layers.0.mlp.up_proj.weight", {2})); }),
      AllOf(HasSubstr("\"model.layers.0.mlp.up_proj.weight\""), HasSubstr("model.safetensors"),
            HasSubstr("there is \"language_model.model.layers.0.mlp.up_proj.weight\"")));
  EXPECT_THAT(message_of<ModelError>([&] { static_cast<void>(dict.get("other.weight", {2})); }),
              Not(HasSubstr("there is")));
  EXPECT_FALSE(dict.find("other.weight", {2}).has_value());
  EXPECT_THROW(static_cast<void>(dict.shape("none")), ModelError);
}

TEST_F(StateDictTest, ADtypeThatTteDoesNotComputeWithIsAnErrorWhenAskedFor) {
  const StateDict dict = open({{"position_ids", at::arange(4, at::kLong)}, {"w", numbered({2})}});
  EXPECT_TRUE(dict.has("position_ids"));
  EXPECT_EQ(dict.shape("position_ids"), (std::vector<std::int64_t>{4}));
  EXPECT_THAT(message_of<ModelError>([&] { static_cast<void>(dict.get("position_ids", {4})); }),
              AllOf(HasSubstr("\"position_ids\""), HasSubstr("I64")));
  EXPECT_THROW(static_cast<void>(dict.stored_dtype("position_ids")), ModelError);
}

TEST_F(StateDictTest, RenamesWhatItOpens) {
  const auto rule = [](std::string_view name) -> std::optional<std::string> {
    if (name.starts_with("visual.")) return "model." + std::string(name);
    if (name.starts_with("model.")) return "model.language_model." + std::string(name.substr(6));
    return std::nullopt;
  };
  folder_.write("model.safetensors", safetensors({{"visual.a", numbered({1}, 1)},
                                                  {"model.b", numbered({1}, 2)},
                                                  {"lm_head", numbered({1}, 3)}}));
  const StateDict dict = StateDict::open(folder_.path(), {}, {rule, {}});
  const StateDict other = dict.select("model.");
  EXPECT_THAT(dict.names(), ElementsAre("lm_head", "model.language_model.b", "model.visual.a"));
  EXPECT_THAT(other.names(), ElementsAre("language_model.b", "visual.a"));
  EXPECT_EQ(other.get("visual.a", {1}).item<float>(), 1);
  EXPECT_EQ(other.get("language_model.b", {1}).item<float>(), 2);
}

TEST_F(StateDictTest, RenamingIntoOneNameIsAnError) {
  folder_.write("model.safetensors",
                safetensors({{"a.w", numbered({1}, 1)}, {"b.w", numbered({1}, 2)}, {"c", numbered({1})}}));
  const auto rule = [](std::string_view name) -> std::optional<std::string> {
    return name == "c" ? std::optional<std::string>() : "same";
  };
  EXPECT_THAT(message_of<ModelError>([&] {
                StateDict::open(folder_.path(), {}, {rule, {}});
              }),
              AllOf(HasSubstr("\"a.w\""), HasSubstr("\"b.w\""), HasSubstr("\"same\"")));
}

TEST_F(StateDictTest, StacksAlongTheFirstDimension) {
  const at::Tensor q = numbered({4, 3}, 0);
  const at::Tensor k = numbered({2, 3}, 100);
  const at::Tensor v = numbered({2, 3}, 200);
  const StateDict dict = open({{"q", q}, {"k", k}, {"v", v}});
  const at::Tensor in_order = dict.stacked({"q", "k", "v"}, {{4, 3}, {2, 3}, {2, 3}});
  EXPECT_TRUE(in_order.equal(at::cat({q, k, v})));
  EXPECT_EQ(in_order.const_data_ptr(), dict.get("q", {4, 3}).const_data_ptr())
      << "neighbours in the file: a view";
  const at::Tensor other_order = dict.stacked({"k", "q"}, {{2, 3}, {4, 3}});
  EXPECT_TRUE(other_order.equal(at::cat({k, q})));
  EXPECT_FALSE(is_inside(other_order, in_order));
  EXPECT_TRUE(dict.stacked({"q", "v"}, {{4, 3}, {2, 3}}).equal(at::cat({q, v}))) << "a gap between them";
  EXPECT_NO_THROW(dict.check_all_used());
}

TEST_F(StateDictTest, StacksBiases) {
  const StateDict dict = open({{"a", numbered({3})}, {"b", numbered({2}, 9)}});
  EXPECT_TRUE(dict.stacked({"b", "a"}, {{2}, {3}}).equal(at::cat({numbered({2}, 9), numbered({3})})));
}

TEST_F(StateDictTest, StackingNeedsOneDtypeAndShapesThatFit) {
  const StateDict dict =
      open({{"a", numbered({2, 3})}, {"b", numbered({2, 3}, 0, at::kHalf)}, {"c", numbered({2, 4})}});
  EXPECT_THAT(message_of<ModelError>([&] {
                static_cast<void>(dict.stacked({"a", "b"}, {{2, 3}, {2, 3}}));
              }),
              AllOf(HasSubstr("\"a\" as F32"), HasSubstr("\"b\" as F16")));
  EXPECT_THROW(static_cast<void>(dict.stacked({"a", "c"}, {{2, 3}, {2, 4}})), std::invalid_argument);
  EXPECT_THROW(static_cast<void>(dict.stacked({"a"}, {})), std::invalid_argument);
  EXPECT_THROW(static_cast<void>(dict.stacked({}, {})), std::invalid_argument);
  const StateDict converted =
      open({{"a", numbered({2, 3})}, {"b", numbered({2, 3}, 1, at::kHalf)}}, {.dtype = at::kFloat});
  EXPECT_TRUE(converted.stacked({"a", "b"}, {{2, 3}, {2, 3}})
                  .equal(at::cat({numbered({2, 3}), numbered({2, 3}, 1)})));
}

TEST_F(StateDictTest, SaysInFewWordsThatNobodyAskedForTensorsWithLongNames) {
  NamedTensors tensors;
  for (int i = 0; i < 20; ++i)
    tensors.emplace_back(fmt::format("{}.{}", std::string(60, 'x'), i + 10), numbered({1}));
  const StateDict dict = open(tensors);
  const std::string message = message_of<ModelError>([&] { dict.check_all_used(); });
  EXPECT_THAT(message, AllOf(HasSubstr(".10\", \""), HasSubstr(".13\" and 16 more.")));
  EXPECT_LT(message.size(), 500U);
}

TEST_F(StateDictTest, NamesWhatNobodyAskedFor) {
  NamedTensors tensors;
  for (int i = 0; i < 15; ++i)
    tensors.emplace_back(fmt::format("layer.{}", static_cast<char>('a' + i)), numbered({1}));
  tensors.emplace_back("lm_head.weight", numbered({1}));
  const StateDict dict = open(tensors);
  static_cast<void>(dict.get("layer.b", {1}));
  static_cast<void>(dict.find("layer.c", {1}));
  dict.mark_used("layer.d");
  dict.mark_used("not there");
  const std::string message = message_of<ModelError>([&] { dict.check_all_used(); });
  EXPECT_THAT(message, AllOf(HasSubstr("\"layer.a\", \"layer.e\""), HasSubstr("\"layer.m\" and 3 more"),
                             Not(HasSubstr("\"layer.b\"")), Not(HasSubstr("layer.n"))));
  EXPECT_NO_THROW(dict.select("layer.b").check_all_used());
  for (const auto& name : dict.names()) dict.mark_used(name);
  EXPECT_NO_THROW(dict.check_all_used());
}

TEST_F(StateDictTest, FingerprintsKnowNamesDtypesShapesAndBytes) {
  const at::Tensor large = numbered({100, 100});
  const auto fingerprint = [&](const NamedTensors& tensors) { return open(tensors).fingerprint(); };
  const base::Digest base = fingerprint({{"a", large}, {"b", numbered({3})}});
  EXPECT_EQ(fingerprint({{"b", numbered({3})}, {"a", large}}), base)
      << "their order in the file is not a difference";
  EXPECT_NE(fingerprint({{"a", large}, {"c", numbered({3})}}), base);
  EXPECT_NE(fingerprint({{"a", large}, {"b", numbered({3}, 1)}}), base);
  EXPECT_NE(fingerprint({{"a", large.reshape({50, 200})}, {"b", numbered({3})}}), base);
  EXPECT_NE(fingerprint({{"a", large}, {"b", numbered({3}).to(at::kHalf)}}), base);
  for (std::int64_t changed = 0; changed < 10'000; changed += 997) {
    at::Tensor other = large.clone();
    other.view(-1)[changed] = -1;
    EXPECT_NE(fingerprint({{"a", other}, {"b", numbered({3})}}), base) << changed;
  }
}

TEST_F(StateDictTest, FingerprintsDoNotDependOnPlaceOrPrefix) {
  const StateDict one = open({{"visual.a", numbered({5000})}, {"visual.b", numbered({3})}});
  const StateDict two = StateDict::open(
      folder_.write("other/m.safetensors", safetensors({{"x", numbered({1})},
                                                        {"model.visual.b", numbered({3})},
                                                        {"model.visual.a", numbered({5000})}})),
      {.dtype = at::kHalf});
  EXPECT_EQ(one.select("visual.").fingerprint(), two.select("model.visual.").fingerprint());
  EXPECT_NE(one.fingerprint(), two.fingerprint());
}

// The user's cache folder for the length of a test.
class CacheFolder {
 public:
  explicit CacheFolder(const std::filesystem::path& path) {
    if (const char* old = std::getenv("XDG_CACHE_HOME")) old_ = old;
    ::setenv("XDG_CACHE_HOME", path.c_str(), 1);
  }
  ~CacheFolder() { old_ ? ::setenv("XDG_CACHE_HOME", old_->c_str(), 1) : ::unsetenv("XDG_CACHE_HOME"); }
  CacheFolder(const CacheFolder&) = delete;
  CacheFolder& operator=(const CacheFolder&) = delete;

 private:
  std::optional<std::string> old_;
};

std::vector<std::filesystem::path> files_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code none;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder, none))
    if (entry.is_regular_file()) files.push_back(entry.path());
  return files;
}

// The digests of a file whose last change is an hour old are kept; what is kept is used, whatever it says.
TEST_F(StateDictTest, FingerprintsAreRememberedByTheFilesIdentity) {
  const CacheFolder cache(folder_.path() / "cache");
  const auto old = std::filesystem::file_time_type::clock::now() - std::chrono::hours(1);
  const auto write = [&](const char* name, double start) {
    const auto file = folder_.write(name, safetensors({{"a", numbered({1'200'000}, start)}}));
    std::filesystem::last_write_time(file, old);
    return file;
  };
  // Its status has changed just now, so that nothing may be kept yet.
  const base::Digest fresh = StateDict::open(write("one.safetensors", 0), {}).fingerprint();
  EXPECT_TRUE(files_in(folder_.path() / "cache").empty());
  const auto shard = MappedFile::open(folder_.path() / "one.safetensors");
  const auto tensors = read_safetensors(shard->bytes(), shard->name());
  EXPECT_FALSE(shard->is_settled());
  EXPECT_EQ(content_digests(*shard, tensors, Keep::kAlways), content_digests(*shard, tensors));
  const auto kept = files_in(folder_.path() / "cache");
  ASSERT_EQ(kept.size(), 1U);
  EXPECT_EQ(kept[0].filename(), shard->identity().hex());
  // A damaged or foreign file is not believed.
  std::string bytes = base::read_file(kept[0], 1000);
  for (const std::string& other :
       {bytes.substr(1), bytes + "x", std::string(bytes.size(), '\0'), std::string()}) {
    std::ofstream(kept[0], std::ios::binary) << other;
    EXPECT_EQ(content_digests(*shard, tensors, Keep::kAlways),
              content_digests(*shard, tensors, Keep::kNever));
    EXPECT_EQ(base::read_file(kept[0], 1000), bytes) << "and written again";
  }
  EXPECT_EQ(StateDict::open(folder_.path() / "one.safetensors", {}).fingerprint(), fresh);
}

TEST_F(StateDictTest, AUselessCacheFolderOnlyCostsTheTime) {
  const auto file = folder_.write("one.safetensors", safetensors({{"a", numbered({1'200'000})}}));
  const auto shard = MappedFile::open(file);
  const auto tensors = read_safetensors(shard->bytes(), shard->name());
  const auto expected = content_digests(*shard, tensors, Keep::kNever);
  for (const std::filesystem::path& folder :
       {file, std::filesystem::path("/dev/null"), std::filesystem::path("relative"),
        std::filesystem::path("/proc")}) {
    const CacheFolder cache(folder);
    EXPECT_EQ(content_digests(*shard, tensors, Keep::kAlways), expected) << folder;
  }
}

TEST_F(StateDictTest, IdentityIsThatOfMemory) {
  const NamedTensors tower = {{"visual.a", numbered({300})}, {"visual.b", numbered({300}, 7)}};
  NamedTensors changed = tower;
  changed[1].second = changed[1].second.clone();
  changed[1].second[150] = -1;  // Between any samples.
  const auto load = [&](const char* name, const NamedTensors& tensors, const auto& store) {
    return StateDict::open(folder_.write(name, safetensors(tensors)), {.store = store});
  };
  const auto take = [](const StateDict& dict) {
    return std::vector{dict.get("visual.a", {300}), dict.get("visual.b", {300})};
  };
  const auto store = std::make_shared<WeightStore>();
  const StateDict one = load("1.safetensors", tower, store);
  auto kept = take(one);
  const std::uint64_t identity = one.select("visual.").identity();
  EXPECT_EQ(one.select("visual.").identity(), identity);
  const StateDict same = load("2.safetensors", tower, store);
  const auto kept_same = take(same);
  EXPECT_EQ(same.select("visual.").identity(), identity);
  const StateDict other = load("3.safetensors", changed, store);
  const auto kept_other = take(other);
  EXPECT_NE(other.select("visual.").identity(), identity);
  const StateDict apart = load("4.safetensors", tower, std::make_shared<WeightStore>());
  const auto kept_apart = take(apart);
  EXPECT_NE(apart.select("visual.").identity(), identity);
}

// As a layer of attention is split: q and k by outputs, o by inputs, and its norm by nothing.
TEST_F(StateDictTest, SlicesHaveEqualSharesOfTheModulesThatAreNamed) {
  const NamedTensors tensors = {{"a.q.weight", numbered({4, 6})},      {"a.q.bias", numbered({4}, 50)},
                                {"a.k.weight", numbered({2, 6}, 100)}, {"a.o.weight", numbered({6, 4}, 200)},
                                {"a.o.bias", numbered({6}, 300)},      {"a.norm.weight", numbered({3}, 400)}};
  const auto store = std::make_shared<WeightStore>();
  const StateDict whole = open(tensors, {.further = {at::kCPU}, .store = store});
  EXPECT_EQ(whole.devices(), (std::vector<at::Device>{at::kCPU, at::kCPU}));
  const auto slice = [&](std::int64_t index, std::int64_t count = 2) {
    return whole.slice({index, count, at::kCPU, {"q", "k"}, {"o"}}).select("a.");
  };
  for (const std::int64_t i : {0, 1}) {
    const StateDict own = slice(i);
    const auto rows = [&](std::size_t tensor, std::int64_t count) {
      return tensors[tensor].second.narrow(0, i * count, count);
    };
    EXPECT_EQ(own.shape("q.weight"), (std::vector<std::int64_t>{2, 6}));
    EXPECT_EQ(own.shape("o.weight"), (std::vector<std::int64_t>{6, 2}));
    EXPECT_TRUE(own.get("q.weight", {2, 6}).equal(rows(0, 2)));
    EXPECT_TRUE(own.get("q.bias", {2}).equal(rows(1, 2)));
    EXPECT_TRUE(
        own.stacked({"q.weight", "k.weight"}, {{2, 6}, {1, 6}}).equal(at::cat({rows(0, 2), rows(2, 1)})));
    const at::Tensor o = own.get("o.weight", {6, 2});
    EXPECT_TRUE(o.equal(tensors[3].second.narrow(1, i * 2, 2)));
    EXPECT_TRUE(o.is_contiguous());
    EXPECT_EQ(own.has("o.bias"), i == 0);
    EXPECT_EQ(own.find("o.bias", {6}).has_value(), i == 0) << "it is added once";
    EXPECT_TRUE(own.get("norm.weight", {3}).equal(tensors[5].second));
  }
  EXPECT_NO_THROW(whole.check_all_used());
  EXPECT_TRUE(is_inside(slice(1).get("q.weight", {2, 6}), whole.get("a.q.weight", {4, 6}))) << "of the file";
  EXPECT_EQ(slice(1).get("o.weight", {6, 2}).const_data_ptr(),
            slice(1).get("o.weight", {6, 2}).const_data_ptr());
  EXPECT_THAT(message_of<ModelError>([&] {
                (void)slice(0, 3).get("q.weight", {1, 6});
              }),
              AllOf(HasSubstr("of shape [4, 6]"), HasSubstr("calls for [3, 6]")));
}

TEST_F(StateDictTest, SlicesAreOnTheirDevice) {
  const auto store = std::make_shared<WeightStore>();
  const StateDict whole =
      open({{"q.weight", numbered({4, 6})}, {"k.weight", numbered({2, 6})}, {"norm.weight", numbered({3})}},
           {.further = {at::kMeta}, .store = store});
  for (const at::Device device : whole.devices()) {
    const StateDict own = whole.slice({0, 2, device, {"q", "k"}, {}});
    EXPECT_EQ(own.device(), device);
    EXPECT_EQ(own.get("q.weight", {2, 6}).device(), device);
    EXPECT_EQ(own.stacked({"q.weight", "k.weight"}, {{2, 6}, {1, 6}}).device(), device);
    EXPECT_EQ(own.get("norm.weight", {3}).device(), device);
  }
  EXPECT_TRUE(whole.get("norm.weight", {3}).is_cpu());
}

TEST_F(StateDictTest, SlicesArePackedApart) {
  const StateDict whole = open({{"o.weight", numbered({2, 6})}}, {.store = std::make_shared<WeightStore>(),
                                                                  .linears = base::LinearFormat::kInt8});
  const StateDict::Packer pack = {[](const at::Tensor& matrix) { return matrix.clone(); }, nullptr};
  std::vector<at::Tensor> packed;
  for (const std::int64_t i : {0, 1, 2}) {
    packed.push_back(whole.slice({i, 3, at::kCPU, {}, {"o"}}).packed({"o.weight"}, {{2, 2}}, pack));
    EXPECT_TRUE(packed.back().equal(numbered({2, 6}).narrow(1, 2 * i, 2)));
  }
}

TEST_F(StateDictTest, WhatIsPackedIsKeptOnceForAllModels) {
  const auto file =
      folder_.write("model.safetensors", safetensors({{"a", numbered({2, 3})}, {"b", numbered({4, 3}, 9)}}));
  Placement placement{.store = std::make_shared<WeightStore>(), .linears = base::LinearFormat::kInt8};
  int calls = 0;
  const StateDict::Packer pack = {[&](const at::Tensor& matrix) {
                                    ++calls;
                                    EXPECT_EQ(matrix.sizes(), at::IntArrayRef({6, 3}));
                                    return matrix.to(at::kByte) + calls;
                                  },
                                  nullptr};
  const auto packed = [&](const StateDict& dict) { return dict.packed({"a", "b"}, {{2, 3}, {4, 3}}, pack); };
  const StateDict one = StateDict::open(file, placement);
  EXPECT_EQ(one.linears(), base::LinearFormat::kInt8);
  const at::Tensor first = packed(one);
  EXPECT_TRUE(first.equal(one.stacked({"a", "b"}, {{2, 3}, {4, 3}}).to(at::kByte) + 1));
  EXPECT_NO_THROW(one.check_all_used());
  const StateDict two = StateDict::open(file, placement);
  EXPECT_EQ(packed(two).const_data_ptr(), first.const_data_ptr());
  EXPECT_EQ(calls, 1) << "the second model has what the first one made";
  const std::uint64_t identity = two.identity();
  const StateDict three = StateDict::open(file, placement);
  const at::Tensor third = packed(three);
  EXPECT_EQ(three.identity(), identity);
  const at::Tensor plain = three.get("a", {2, 3});
  EXPECT_NE(three.identity(), identity) << "the tensor itself, too";
  placement.linears = base::LinearFormat::kInt4;
  EXPECT_NE(packed(StateDict::open(file, placement)).const_data_ptr(), first.const_data_ptr());
  EXPECT_EQ(calls, 2) << "another format is made of its own";
}

TEST_F(StateDictTest, DtypesAreThoseInWhichTensorsAreTakenOut) {
  const StateDict stored = open({{"a", numbered({3}).to(at::kBFloat16)}});
  EXPECT_EQ(stored.dtype("a"), at::kBFloat16);
  EXPECT_EQ(StateDict::open(folder_.path(), {.dtype = at::kHalf}).dtype("a"), at::kHalf);
}

TEST_F(StateDictTest, AFileWrittenToAfterwardsIsNoticed) {
  const StateDict dict = open({{"a", numbered({5000})}});
  const at::Tensor kept = dict.get("a", {5000});
  const auto sources = dict.sources();
  ASSERT_EQ(sources.size(), 1U);
  const auto file = sources[0].lock();
  ASSERT_TRUE(file);
  EXPECT_NO_THROW(file->check_unchanged());
  const auto path = folder_.path() / "model.safetensors";
  const auto time = std::filesystem::last_write_time(path);
  std::filesystem::last_write_time(path, time + std::chrono::seconds(1));
  EXPECT_THAT(message_of<ModelError>([&] { file->check_unchanged(); }),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("was written to")));
  std::filesystem::last_write_time(path, time);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  EXPECT_THAT(message_of<ModelError>([&] { file->check_unchanged(); }), HasSubstr("was shortened"));
}

TEST_F(StateDictTest, SourcesAreFilesThatTensorsAreViewsOf) {
  const StateDict views = open({{"a", numbered({5000})}});
  EXPECT_TRUE(views.sources().empty()) << "nothing was taken out";
  const at::Tensor kept = views.get("a", {5000});
  EXPECT_EQ(views.sources().size(), 1U);
  const StateDict copies = StateDict::open(folder_.path(), {.dtype = at::kHalf});
  const at::Tensor half = copies.get("a", {5000});
  EXPECT_TRUE(copies.sources().empty());
}

TEST_F(StateDictTest, ReadsShardsThroughTheirIndex) {
  folder_.write("model-00001-of-00002.safetensors",
                safetensors({{"a", numbered({2}, 1)}, {"c", numbered({2}, 3)}}));
  folder_.write("model-00002-of-00002.safetensors", safetensors({{"b", numbered({2}, 2)}}));
  write_index({{"a", "model-00001-of-00002.safetensors"},
               {"b", "model-00002-of-00002.safetensors"},
               {"c", "model-00001-of-00002.safetensors"}});
  for (const auto& path : {folder_.path(), folder_.path() / "model.safetensors.index.json"}) {
    const StateDict dict = StateDict::open(path, {});
    EXPECT_THAT(dict.names(), ElementsAre("a", "b", "c"));
    EXPECT_TRUE(dict.stacked({"a", "b", "c"}, {{2}, {2}, {2}})
                    .equal(at::cat({numbered({2}, 1), numbered({2}, 2), numbered({2}, 3)})));
    EXPECT_THAT(message_of<ModelError>([&] { static_cast<void>(dict.get("b", {3})); }),
                HasSubstr("00002-of-00002"));
  }
}

TEST_F(StateDictTest, ASingleFileWinsOverAnIndexAsInTransformers) {
  folder_.write("model.safetensors", safetensors({{"a", numbered({1})}}));
  write_index({{"b", "missing.safetensors"}});
  EXPECT_THAT(StateDict::open(folder_.path(), {}).names(), ElementsAre("a"));
}

TEST_F(StateDictTest, AnIndexThatDoesNotFitItsShardsIsAnError) {
  const auto index = folder_.path() / "model.safetensors.index.json";
  folder_.write("one.safetensors", safetensors({{"a", numbered({1})}}));
  folder_.write("two.safetensors", safetensors({{"a", numbered({1})}, {"b", numbered({1})}}));
  write_index({{"a", "one.safetensors"}, {"b", "none.safetensors"}});
  EXPECT_THAT(error_opening(index), AllOf(HasSubstr("none.safetensors is missing"), HasSubstr("index.json")));
  write_index({{"a", "one.safetensors"}, {"z", "one.safetensors"}});
  EXPECT_THAT(error_opening(index), AllOf(HasSubstr("one.safetensors"), HasSubstr("lacks tensor \"z\"")));
  write_index({{"b", "two.safetensors"}});
  EXPECT_THAT(error_opening(index), AllOf(HasSubstr("two.safetensors"), HasSubstr("holds tensor \"a\"")));
  write_index({{"a", "one.safetensors"}, {"b", "two.safetensors"}});
  EXPECT_THAT(error_opening(index), HasSubstr("holds tensor \"a\"")) << "a tensor in two shards";
}

TEST_F(StateDictTest, AnIndexMayNotLeadOutOfItsFolder) {
  const auto index = folder_.path() / "inner" / "model.safetensors.index.json";
  folder_.write("outside.safetensors", safetensors({{"a", numbered({1})}}));
  const std::string absolute = (folder_.path() / "outside.safetensors").string();
  for (const std::string& file :
       {std::string("../outside.safetensors"), std::string("x/../../outside.safetensors"), absolute,
        std::string(""), std::string("."), std::string(".."), std::string("a\0b", 3)}) {
    folder_.write("inner/model.safetensors.index.json", base::Json{{"weight_map", {{"a", file}}}}.dump());
    EXPECT_THROW(StateDict::open(index, {}), ModelError) << file;
  }
  folder_.write("inner/model.safetensors.index.json",
                base::Json{{"weight_map", {{"a", "../outside.safetensors"}}}}.dump());
  EXPECT_THAT(error_opening(index), AllOf(HasSubstr("\"a\""), HasSubstr("../outside.safetensors")));
  folder_.write("inner/model.safetensors.index.json", R"({"weight_map": {"a": 7}})");
  EXPECT_THAT(error_opening(index), HasSubstr("not the name of a file"));
  for (const char* text : {"{}", R"({"weight_map": {}})", R"({"weight_map": []})"}) {
    folder_.write("inner/model.safetensors.index.json", text);
    EXPECT_THAT(error_opening(index), HasSubstr("no weight_map")) << text;
  }
  folder_.write("inner/model.safetensors.index.json", "[]");
  EXPECT_THAT(error_opening(index), HasSubstr("not a JSON object"));
}

TEST_F(StateDictTest, WhatIsNoCheckpointIsSaidWithARemedy) {
  EXPECT_THAT(error_opening(folder_.path() / "none"), HasSubstr("does not exist"));
  EXPECT_THAT(error_opening(folder_.path()),
              HasSubstr("neither model.safetensors nor model.safetensors.index.json"));
  EXPECT_THAT(error_opening("/dev/null"), HasSubstr("not a file"));
  EXPECT_THAT(error_opening(folder_.write("empty.safetensors", "")), HasSubstr("is empty"));
  folder_.write("pickled/pytorch_model.bin", "PK");
  EXPECT_THAT(error_opening(folder_.path() / "pickled"),
              AllOf(HasSubstr("pytorch_model.bin"), HasSubstr("save_pretrained")));
  EXPECT_THAT(error_opening(folder_.path() / "pickled" / "pytorch_model.bin"), HasSubstr("save_pretrained"));
  folder_.write("adapter/adapter_model.safetensors", safetensors({{"a", numbered({1})}}));
  EXPECT_THAT(error_opening(folder_.path() / "adapter"), HasSubstr("adapter_model.safetensors"));
  std::filesystem::create_directory(folder_.path() / "model.safetensors");
  EXPECT_THAT(error_opening(folder_.path()), HasSubstr("is not a file"));
}

TEST_F(StateDictTest, ATruncatedFileIsAnErrorAtOpen) {
  const std::string whole = safetensors({{"a", numbered({5000})}});
  EXPECT_THAT(error_opening(folder_.write("cut.safetensors", whole.substr(0, whole.size() - 1))),
              HasSubstr("cut.safetensors"));
}

TEST_F(StateDictTest, AFileShortenedAfterwardsIsNoticedBeforeItIsRead) {
  const StateDict dict = open({{"a", numbered({5000})}});
  std::filesystem::resize_file(folder_.path() / "model.safetensors", 4096);
  EXPECT_THAT(message_of<ModelError>([&] { static_cast<void>(dict.get("a", {5000})); }),
              HasSubstr("was shortened"));
  EXPECT_THROW(static_cast<void>(dict.fingerprint()), ModelError);
}

TEST_F(StateDictTest, ManyThreadsMayReadOneCheckpoint) {
  NamedTensors tensors;
  for (int i = 0; i < 64; ++i) tensors.emplace_back(fmt::format("t{}", i), numbered({8, 8}, i));
  const StateDict dict = open(tensors);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 64; ++i) {
        const at::Tensor tensor = dict.get(fmt::format("t{}", i), {8, 8});
        if (static_cast<const float*>(tensor.const_data_ptr())[0] != static_cast<float>(i)) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_NO_THROW(dict.check_all_used());
}

}  // namespace
}  // namespace tte::weights
