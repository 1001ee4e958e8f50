#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "models/model.h"
#include "temp_dir.h"
#include "tte/error.h"

namespace tte::models {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TempDir;

TEST(Registry, AnUnknownFamilyListsTheKnownOnes) {
  const TempDir folder;
  folder.write("config.json", R"({"model_type": "bert"})");
  const auto expected = AllOf(HasSubstr("config.json"), HasSubstr("bert"), HasSubstr("qwen2_vl"));
  EXPECT_THAT(message_of<ModelError>([&] { (void)load_layout(folder.path()); }), expected);
  EXPECT_THAT(message_of<ModelError>([&] { (void)load_model(folder.path(), {}); }), expected);
}

TEST(Registry, AFolderWithoutAConfig) {
  const TempDir folder;
  EXPECT_THAT(message_of<ModelError>([&] { (void)load_layout(folder.path()); }), HasSubstr("config.json"));
  folder.write("config.json", "{}");
  EXPECT_THAT(message_of<ModelError>([&] { (void)load_layout(folder.path()); }), HasSubstr("model_type"));
}

}  // namespace
}  // namespace tte::models
