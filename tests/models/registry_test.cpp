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
  EXPECT_THAT(message_of<ModelError>([&] { (void)load_preprocessor(folder.path()); }), expected);
  EXPECT_THAT(message_of<ModelError>([&] { (void)load_model(folder.path(), {}); }), expected);
}

TEST(Registry, AFolderWithoutAConfig) {
  const TempDir folder;
  EXPECT_THAT(message_of<ModelError>([&] { (void)load_preprocessor(folder.path()); }),
              HasSubstr("config.json"));
  folder.write("config.json", "{}");
  EXPECT_THAT(message_of<ModelError>([&] { (void)load_preprocessor(folder.path()); }),
              HasSubstr("model_type"));
}

TEST(Registry, TheDeclaredDtype) {
  const TempDir folder;
  const auto declared = [&](const char* config) {
    folder.write("config.json", config);
    return declared_dtype(folder.path());
  };
  EXPECT_FALSE(declared("{}").has_value());
  EXPECT_EQ(declared(R"({"dtype": "bfloat16", "torch_dtype": "float32"})"), at::kBFloat16);
  EXPECT_EQ(declared(R"({"dtype": null, "torch_dtype": "torch.float16"})"), at::kHalf);
  EXPECT_EQ(declared(R"({"text_config": {"torch_dtype": "float32"}})"), at::kFloat);
  EXPECT_EQ(declared(R"({"text_config": null, "dtype": "half"})"), at::kHalf);
  EXPECT_THAT(message_of<ModelError>([&] { (void)declared(R"({"text_config": {"dtype": "float8"}})"); }),
              AllOf(HasSubstr("config.json"), HasSubstr("text_config.dtype"), HasSubstr("float8"),
                    HasSubstr("float32, bfloat16 or float16")));
  EXPECT_THAT(message_of<ModelError>([&] { (void)declared(R"({"dtype": 16})"); }), HasSubstr("16"));
}

}  // namespace
}  // namespace tte::models
