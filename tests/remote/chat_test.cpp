#include "remote/chat.h"

#include <gtest/gtest.h>

#include "expect_error.h"
#include "media/encode.h"
#include "media/image.h"
#include "prompt/fixture.h"
#include "remote/attachments.h"
#include "tte/error.h"

namespace tte::remote {
namespace {

std::string messages_of(const Input& input, const std::string& recipe = "{}",
                        prompt::PromptRequest request = {}) {
  return ChatBuilder(testing::recipe_of(recipe), {}).build(input, request, {})->messages;
}

TEST(Chat, WritesTheRecipesPieces) {
  EXPECT_EQ(messages_of("a"), R"([{"role":"user","content":"a"}])");
  prompt::PromptRequest request;
  request.instruction = "do";
  EXPECT_EQ(
      messages_of("a", R"({"prompt": {"system": "I {instruction}", "user": ["{text}", "!"]}})", request),
      R"([{"role":"system","content":"I do"},{"role":"user","content":"a!"}])");
  EXPECT_EQ(messages_of("a", R"({"prompt": {"system": "I {instruction}", "user": "{text}"}})"),
            R"([{"role":"user","content":"a"}])");
}

TEST(Chat, RefusesWhatNoServerCanBeTold) {
  EXPECT_THROW((void)messages_of("a\xff"), InputError);
  EXPECT_THROW((void)messages_of(Input()), InputError);
  EXPECT_THROW(ChatBuilder(testing::recipe_of(R"({"prompt": {"style": "raw", "raw": "{text}"}})"), {}),
               ModelError);
}

TEST(Attachments, Base64IsPadded) {
  const auto base64 = [](std::string_view text) { return to_base64({text.begin(), text.end()}); };
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(to_base64({0xFB, 0xFF, 0xFE}), "+//+");
}

TEST(Attachments, SizesKeepTheirShapeWithinTheLimits) {
  const auto fits = [](media::Size size, Resize wanted, std::optional<std::int64_t> least,
                       std::optional<std::int64_t> most) {
    const media::Size out = fitted(size, wanted, least, most);
    return std::pair(out.height, out.width);
  };
  EXPECT_EQ(fits({100, 200}, {}, {}, {}), std::pair(100L, 200L));
  EXPECT_EQ(fits({100, 200}, {}, {}, 5000), std::pair(50L, 100L));
  EXPECT_EQ(fits({10, 20}, {}, 800, {}), std::pair(20L, 40L));
  EXPECT_EQ(fits({10, 20}, {.max_pixels = 50}, {}, 800), std::pair(5L, 10L));
  EXPECT_EQ(fits({10, 20}, {.height = 7, .width = 9}, {}, {}), std::pair(7L, 9L));
  EXPECT_EQ(fits({1, 100'000}, {}, {}, 100), std::pair(1L, 3162L));
}

TEST(Attachments, APngHasThePixels) {
  const Image image = testing::pattern(5, 7);
  const at::Tensor pixels = media::decode_image(image);
  Image again;
  again.source = EncodedImage{std::make_shared<std::vector<std::uint8_t>>(media::encode_png(pixels))};
  EXPECT_TRUE(media::decode_image(again).equal(pixels));
}

}  // namespace
}  // namespace tte::remote
