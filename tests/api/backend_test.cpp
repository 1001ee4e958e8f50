#include "tte/backend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "api/devices.h"
#include "api/fixture.h"
#include "base/json.h"
#include "expect_error.h"
#include "models/step_size.h"
#include "temp_dir.h"

namespace tte {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using tte::testing::float32;
using tte::testing::kEmbedder;
using tte::testing::kReasoner;
using tte::testing::message_of;
using tte::testing::small_backend;

TEST(Backend, StepsAreOfTheSizeThatSuitsTheDevice) {
  BackendOptions options = tte::testing::small_backend();
  EXPECT_EQ(Backend::make(options).options().max_step_tokens, 512);
  EXPECT_EQ(models::step_size(c10::DeviceType::CPU).patches, 1024);
  options.max_step_tokens = 7;
  EXPECT_EQ(Backend::make(options).options().max_step_tokens, 7);
}

TEST(Backend, ListsTheCpu) {
  const auto devices = Backend::devices();
  ASSERT_FALSE(devices.empty());
  EXPECT_EQ(devices.back().name, "cpu");
  EXPECT_GT(devices.back().memory_bytes, 0);
  EXPECT_EQ(Backend::make().device(), devices.front().name);
}

TEST(Backend, TheLeastLimitOfItsGroupsIsWhatAProcessMayHave) {
  const tte::testing::TempDir folder;
  const std::filesystem::path root = folder.path() / "fs";
  const auto limit = [&](const std::string& groups) {
    folder.write("cgroup", groups);
    return api::group_memory(folder.path() / "cgroup", root);
  };
  EXPECT_EQ(limit("0::/\n"), 0);
  folder.write("fs/memory.max", "max\n");
  folder.write("fs/system.slice/memory.max", "3000\n");
  folder.write("fs/system.slice/tte.service/memory.max", "5000\n");
  folder.write("fs/memory/memory.limit_in_bytes", "9223372036854771712\n");
  folder.write("fs/memory/job/memory.limit_in_bytes", "2000\n");
  EXPECT_EQ(limit("0::/\n"), 0);
  EXPECT_EQ(limit("0::/system.slice/tte.service\n"), 3000);
  EXPECT_EQ(limit("0::/elsewhere\n"), 0);
  EXPECT_EQ(limit("3:cpu,cpuacct:/job\n2:memory,hugetlb:/job\n0::/\n"), 2000);
  EXPECT_EQ(limit("2:memory:/\n"), 9223372036854771712);
  EXPECT_EQ(limit("2:memory:/../../job/.\n"), 2000);
  EXPECT_EQ(limit("no group\n0:"), 0);
  EXPECT_EQ(api::group_memory(folder.path() / "nowhere", root), 0);
}

TEST(Backend, AMissingDeviceSaysWhatIsThere) {
  BackendOptions options;
  options.device = "cuda:99";
  EXPECT_THAT(message_of<DeviceError>([&] { Backend::make(options); }),
              AnyOf(AllOf(HasSubstr("cuda:99"), HasSubstr("cpu (")), HasSubstr("use device 'cpu'")))
      << "among others, or why there is no GPU at all";
  options.device = "tpu";
  EXPECT_THAT(message_of<InputError>([&] { Backend::make(options); }), HasSubstr("tpu"));
}

TEST(Backend, OptionsSayWhatTheyBecame) {
  BackendOptions options;
  options.device = "cpu";
  const Backend backend = Backend::make(options);
  EXPECT_EQ(backend.options().device, "cpu");
  EXPECT_GT(backend.options().threads, 0);
  EXPECT_GT(backend.options().media_threads, 0);
  EXPECT_GT(backend.options().state_bytes, 0);
  EXPECT_TRUE(backend.supports("bfloat16"));
  EXPECT_TRUE(backend.supports("torch.half"));
  EXPECT_FALSE(backend.supports("int3"));
}

TEST(Backend, SharedIsOnePerOptions) {
  BackendOptions options = small_backend();
  const Backend a = Backend::shared(options);
  EXPECT_EQ(a.impl(), Backend::shared(options).impl());
  options.max_running = 3;
  EXPECT_NE(a.impl(), Backend::shared(options).impl());
}

TEST(Backend, OneFolderIsOneModel) {
  const Backend backend = Backend::make(small_backend());
  const Reasoner reasoner = Reasoner::load(kReasoner, float32(), backend);
  EXPECT_EQ(backend.stats().engines, 1);
  const Embedder embedder = Embedder::load(std::string(kReasoner) + "/../reasoner", float32("raw"), backend);
  EXPECT_EQ(backend.stats().engines, 1) << "the same folder, whatever its name and recipe";
  const Embedder other = Embedder::load(kEmbedder, float32(), backend);
  EXPECT_EQ(backend.stats().engines, 2);
  LoadOptions half;
  half.dtype = "bfloat16";
  const Embedder rounded = Embedder::load(kReasoner, half, backend);
  EXPECT_EQ(backend.stats().engines, 3) << "another dtype is another model";
  EXPECT_EQ(rounded.model().dtype, "bfloat16");
  EXPECT_EQ(reasoner.model().dtype, "float32");
}

TEST(Backend, ThreadsThatLoadTheSameGetTheSame) {
  const Backend backend = Backend::make(small_backend());
  std::vector<std::optional<Reasoner>> loaded(4);
  std::vector<std::thread> threads;
  for (auto& slot : loaded) {
    threads.emplace_back([&] { slot = Reasoner::load(kReasoner, float32(), backend); });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(backend.stats().engines, 1);
}

TEST(Load, AHubNameIsNotAFolder) {
  EXPECT_THAT(message_of<ModelError>([] { Reasoner::load("Qwen/Qwen2-VL-2B", {}, tte::testing::backend()); }),
              AllOf(HasSubstr("Qwen/Qwen2-VL-2B"), HasSubstr("is not a folder")));
}

TEST(Load, AnUnknownDtypeOrRecipeIsAnError) {
  LoadOptions options;
  options.dtype = "float8";
  EXPECT_THAT(message_of<InputError>([&] { Reasoner::load(kReasoner, options, tte::testing::backend()); }),
              HasSubstr("float8"));
  EXPECT_THAT(message_of<ModelError>(
                  [] { Reasoner::load(kReasoner, float32("no-recipe"), tte::testing::backend()); }),
              AllOf(HasSubstr("no-recipe"), HasSubstr("tte")));
}

TEST(Load, ACheckpointOfAnUnknownDtypeIsLoadedAsAnother) {
  const testing::TempDir folder;
  for (const auto& entry : std::filesystem::directory_iterator(kEmbedder)) {
    if (entry.is_regular_file()) std::filesystem::copy(entry.path(), folder.path() / entry.path().filename());
  }
  base::Json config = base::read_json(std::string(kEmbedder) + "/config.json");
  config["dtype"] = "float8_e4m3fn";
  folder.write("config.json", config.dump());
  const Backend& backend = tte::testing::backend();
  EXPECT_THAT(message_of<ModelError>([&] { Embedder::load(folder.path(), {}, backend); }),
              AllOf(HasSubstr("float8_e4m3fn"), HasSubstr("load the checkpoint with the dtype float32")));
  EXPECT_EQ(Embedder::load(folder.path(), float32(), backend).model().dtype, "float32") << "the remedy holds";
}

TEST(Load, DescribesTheModel) {
  const ModelDescription& model = tte::testing::reasoner().model();
  EXPECT_EQ(model.family, "qwen2_vl");
  EXPECT_EQ(model.device, "cpu");
  EXPECT_GT(model.hidden_size, 0);
  EXPECT_EQ(model.fingerprint.size(), 32U);
  EXPECT_THAT(model.recipe, HasSubstr("tte-nano-reasoner"));
}

TEST(Version, OfHeadersAndLibraryAreTheSame) {
  EXPECT_STREQ(version(), TTE_VERSION);
}

}  // namespace
}  // namespace tte
