#include "models/preprocessor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "temp_dir.h"
#include "tte/error.h"

namespace tte::models {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TempDir;

TEST(Preprocessor, OneOldFileServesImagesAndVideos) {
  const TempDir folder;
  folder.write("preprocessor_config.json", R"({"min_pixels": 3136, "max_pixels": 100352})");
  const PatchSpecs specs = load_patch_specs(folder.path(), {});
  EXPECT_EQ(specs.image.max_pixels, 100352);
  EXPECT_EQ(specs.video.max_pixels, 100352);
}

TEST(Preprocessor, VideosHaveTheirOwnFile) {
  const TempDir folder;
  folder.write("preprocessor_config.json", R"({"min_pixels": 3136, "max_pixels": 100352})");
  folder.write("video_preprocessor_config.json",
               R"({"size": {"shortest_edge": 3136, "longest_edge": 50176}})");
  const PatchSpecs specs = load_patch_specs(folder.path(), {});
  EXPECT_EQ(specs.image.max_pixels, 100352);
  EXPECT_EQ(specs.video.max_pixels, 50176);
}

TEST(Preprocessor, NestedSectionsComeFirst) {
  const TempDir folder;
  folder.write("preprocessor_config.json", R"({"min_pixels": 3136, "max_pixels": 100352})");
  folder.write("processor_config.json",
               R"({"image_processor": {"size": {"shortest_edge": 3136, "longest_edge": 25088}}})");
  const PatchSpecs specs = load_patch_specs(folder.path(), {});
  EXPECT_EQ(specs.image.max_pixels, 25088);
  EXPECT_EQ(specs.video.max_pixels, 100352);
  folder.write(
      "processor_config.json",
      R"({"image_processor": {}, "video_processor": {"size": {"shortest_edge": 3136, "longest_edge": 12544}}})");
  EXPECT_EQ(load_patch_specs(folder.path(), {}).video.max_pixels, 12544);
}

TEST(Preprocessor, NoFileAtAll) {
  const TempDir folder;
  EXPECT_THAT(message_of<ModelError>([&] { (void)load_patch_specs(folder.path(), {}); }),
              AllOf(HasSubstr(folder.path().string()), HasSubstr("preprocessor_config.json")));
}

TEST(Preprocessor, SizesOfAnotherTower) {
  const TempDir folder;
  folder.write("preprocessor_config.json", R"({"patch_size": 16})");
  EXPECT_THAT(message_of<ModelError>([&] { (void)load_patch_specs(folder.path(), {}); }),
              AllOf(HasSubstr("preprocessor_config.json"), HasSubstr("patch_size"), HasSubstr("16"),
                    HasSubstr("14")));
}

}  // namespace
}  // namespace tte::models
