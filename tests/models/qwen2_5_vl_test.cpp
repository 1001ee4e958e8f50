#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "expect_error.h"
#include "models/qwen2_5_vl/config.h"
#include "models/qwen2_5_vl/vision.h"
#include "temp_dir.h"
#include "tte/error.h"

namespace tte::models::qwen2_5_vl {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;
using testing::TempDir;

// A frame of h x w merged tokens of four patches each.
qwen::Frame frame(std::int64_t h, std::int64_t w) {
  return {{}, 2 * h, 2 * w};
}

TEST(Qwen25VlWindows, AreCutAtTheRightAndLowerEdges) {
  const Windows made = windows(std::vector{frame(3, 5)}, 2, 2);
  EXPECT_THAT(made.order, ElementsAre(0, 1, 5, 6, 2, 3, 7, 8, 4, 9, 10, 11, 12, 13, 14));
  EXPECT_THAT(made.cu_seqlens, ElementsAre(0, 16, 32, 40, 48, 56, 60));
}

TEST(Qwen25VlWindows, NeverReachIntoTheNextFrame) {
  const Windows made = windows(std::vector{frame(1, 2), frame(2, 1)}, 4, 2);
  EXPECT_THAT(made.order, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(made.cu_seqlens, ElementsAre(0, 8, 16));
}

Config load(const std::string& vision) {
  const TempDir folder;
  folder.write("config.json", R"({"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
                                  "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
                                  "vision_config": {"hidden_size": 32, "num_heads": 2, "out_hidden_size": 64)" +
                                  vision + "}}");
  return load_config(folder.path());
}

TEST(Qwen25VlConfig, DefaultsAreThoseOfTransformers) {
  const Config config = load("");
  EXPECT_EQ(config.vision.window(), 4);
  EXPECT_THAT(config.vision.full_blocks, ElementsAre(7, 15, 23, 31));
  EXPECT_EQ(config.vision.tokens_per_second, 4);
  EXPECT_EQ(config.vision.mlp_dim, 3420);
  EXPECT_EQ(config.text.rms_norm_eps, 1e-5);
}

TEST(Qwen25VlConfig, ValuesThatMakeNoSense) {
  const auto error = [](const std::string& vision) {
    return message_of<ModelError>([&] { (void)load(vision); });
  };
  EXPECT_THAT(error(R"(, "window_size": 20)"), AllOf(HasSubstr("window_size"), HasSubstr("28 pixels")));
  EXPECT_THAT(error(R"(, "hidden_act": "gelu")"), HasSubstr("hidden_act"));
  EXPECT_THAT(error(R"(, "fullatt_block_indexes": [-1])"), HasSubstr("fullatt_block_indexes"));
  EXPECT_THAT(error(R"(, "tokens_per_second": -1)"), HasSubstr("tokens_per_second"));
  EXPECT_THAT(error(R"(, "out_hidden_size": 32)"), AllOf(HasSubstr("out_hidden_size"), HasSubstr("64")));
}

}  // namespace
}  // namespace tte::models::qwen2_5_vl
