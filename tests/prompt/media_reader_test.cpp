#include "prompt/media_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "expect_error.h"
#include "media/raw_video.h"
#include "prompt/fixture.h"
#include "temp_dir.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::tte::testing::clip;
using ::tte::testing::message_of;
using ::tte::testing::nano_files;
using ::tte::testing::parts;
using ::tte::testing::pattern;
using ::tte::testing::recipe_of;

MediaReader reader(const std::string& json) {
  return {*nano_files()->preprocessor, recipe_of(json)};
}

TEST(MediaReader, ReadsInTheOrderOfTheParts) {
  const models::Visuals visuals =
      reader("{}").read(parts({pattern(56, 84), std::string("text"), clip(4, 56, 56), pattern(28, 28)}));
  ASSERT_EQ(visuals.size(), 3U);
  EXPECT_FALSE(visuals[0]->video);
  EXPECT_EQ(visuals[0]->patches.h, 4);
  EXPECT_EQ(visuals[0]->patches.w, 6);
  EXPECT_TRUE(visuals[1]->video);
  EXPECT_EQ(visuals[1]->patches.t, 2);
  EXPECT_EQ(visuals[2]->patches.h, 2);
}

TEST(MediaReader, ReadsTheMessagesToo) {
  Input input;
  input.messages = {{"system", {std::string("s")}},
                    {"user", {pattern(56, 56), std::string("q"), pattern(28, 28)}}};
  EXPECT_EQ(reader("{}").read(input).size(), 2U);
  EXPECT_TRUE(has_media(input));
  EXPECT_FALSE(has_media(Input("text")));
}

TEST(MediaReader, TheRecipesLimitsWinOverTheCheckpoints) {
  const auto small = reader(R"({"image": {"max_pixels": 3136}})").read(parts({pattern(112, 112)}));
  EXPECT_EQ(small[0]->patches.h, 4);
  const auto own = reader("{}").read(parts({pattern(112, 112)}));
  EXPECT_EQ(own[0]->patches.h, 8);
}

TEST(MediaReader, ImagesMayBeResizedTwiceAndSmallOnesBecomeSquares) {
  const auto grid = [](const std::string& image, int height, int width) {
    const auto visuals = reader("{\"image\": " + image + "}").read(parts({pattern(height, width)}));
    return std::array{visuals[0]->patches.h, visuals[0]->patches.w};
  };
  const std::string limits = R"("min_pixels": 784, "max_pixels": 1003520)";
  EXPECT_EQ(grid("{" + limits + "}", 20, 100), (std::array<std::int64_t, 2>{2, 8}));
  // 4 tokens at least, then 1: the first is what is left.
  EXPECT_EQ(grid("{\"first\": {}, " + limits + "}", 20, 28), (std::array<std::int64_t, 2>{4, 6}));
  EXPECT_EQ(grid("{\"first\": {\"max_pixels\": 3200}, " + limits + "}", 300, 300),
            (std::array<std::int64_t, 2>{4, 4}));
  EXPECT_EQ(grid("{\"min_side\": 28, \"small_side\": 56, " + limits + "}", 20, 100),
            (std::array<std::int64_t, 2>{4, 4}));
  EXPECT_EQ(grid("{\"min_side\": 28, \"small_side\": 56, " + limits + "}", 28, 112),
            (std::array<std::int64_t, 2>{2, 8}));
}

TEST(MediaReader, LimitsThatExcludeEachOtherAreAnError) {
  // The nano checkpoint has at most 50176 pixels.
  EXPECT_THAT(message_of<ModelError>([] { reader(R"({"name": "r", "image": {"min_pixels": 60000}})"); }),
              AllOf(HasSubstr("60000"), HasSubstr("50176")));
}

TEST(MediaReader, SecondsOfATemporalPatchFollowTheFrameRate) {
  Video video = clip(4, 56, 56);
  video.source_fps = 8.0;
  const models::Visuals visuals = reader("{}").read(parts({video}));
  EXPECT_FLOAT_EQ(static_cast<float>(visuals[0]->seconds_per_grid), 0.25F);
  // Without any rate transformers assumes 24 frames a second.
  const models::Visuals unknown = reader("{}").read(parts({clip(4, 56, 56)}));
  EXPECT_EQ(unknown[0]->seconds_per_grid, static_cast<double>(static_cast<float>(2.0 / 24.0)));
}

TEST(MediaReader, ABlankImageStandsInForNone) {
  const MediaReader blank = reader(R"({"prompt": {"blank_image": 28}})");
  const models::Visuals visuals = blank.read(Input("text"));
  ASSERT_EQ(visuals.size(), 1U);
  EXPECT_EQ(visuals[0]->patches.h, 2);
  EXPECT_EQ(blank.read(parts({pattern(56, 56)})).size(), 1U);
}

TEST(MediaReader, SignaturesTellReadersApart) {
  EXPECT_EQ(reader("{}").signature(), reader(R"({"name": "other", "normalize": false})").signature());
  for (const char* json : {R"({"image": {"max_pixels": 3136}})", R"({"video": {"max_pixels": 3136}})",
                           R"({"video": {"fps": 2}})", R"({"video": {"num_frames": 8}})",
                           R"({"prompt": {"blank_image": 28}})"}) {
    EXPECT_NE(reader("{}").signature(), reader(json).signature()) << json;
  }
}

// A bitmap of 2000 x 1500 pixels, all of which are missing.
Image header_only() {
  auto bytes = std::make_shared<std::vector<std::uint8_t>>();
  const auto put = [&](std::uint32_t value, int size) {
    for (int i = 0; i < size; ++i) bytes->push_back(static_cast<std::uint8_t>(value >> (8 * i)));
  };
  put(0x4D42, 2);
  for (const std::uint32_t value : {54U, 0U, 54U, 40U, 2000U, 1500U}) put(value, 4);
  put(1, 2);
  put(24, 2);
  for (int i = 0; i < 6; ++i) put(0, 4);
  return {EncodedImage{bytes}};
}

TEST(MediaReader, ImagesThatAreTooMuchTogetherAreRefusedBeforeAnyIsDecoded) {
  const auto error = [](int count, const MediaLimits& limits) {
    std::vector<Part> list(static_cast<std::size_t>(count), Part(header_only()));
    return message_of<InputError>(
        [&] { (void)MediaReader(*nano_files()->preprocessor, recipe_of("{}"), limits).read(parts(list)); });
  };
  EXPECT_THAT(error(1, {}), HasSubstr("truncated"));
  EXPECT_THAT(error(3, {}), HasSubstr("truncated"));
  MediaLimits bytes;
  bytes.max_item_bytes = 20'000'000;  // Some of the nano reader's patches.
  EXPECT_THAT(error(3, bytes), HasSubstr("truncated"));
  EXPECT_THAT(error(3000, bytes), HasSubstr("max_item_bytes"));
  MediaLimits pixels;
  pixels.max_item_pixels = 9'000'000;
  EXPECT_THAT(error(3, pixels), HasSubstr("truncated"));
  EXPECT_THAT(error(4, pixels), AllOf(HasSubstr("12000000"), HasSubstr("max_item_pixels")));
}

TEST(MediaReader, VideosThatAreTooMuchTogetherAreRefusedBeforeAnyIsDecoded) {
  const ::tte::testing::TempDir folder;
  std::string gif = media::testing::dotted_gif(1000, 1000, 40);
  const auto allowance = 10'000 * static_cast<std::int64_t>(gif.size());
  gif[gif.find("\x02\x02\x44")] = '\x0D';  // No frame has a code of 13 bits: the first cannot be decoded.
  const Video one{folder.write("one.gif", gif), {}, {}, {}},
      other{folder.write("other.gif", gif), {}, {}, {}};
  MediaLimits limits;
  limits.max_item_pixels = 77'000'000 - 2 * allowance;
  const auto error = [&](const std::vector<Part>& list) {
    return message_of<InputError>(
        [&] { (void)MediaReader(*nano_files()->preprocessor, recipe_of("{}"), limits).read(parts(list)); });
  };
  EXPECT_THAT(error({one}), HasSubstr("damaged"));
  EXPECT_THAT(error({one, one, one}), HasSubstr("damaged"));
  EXPECT_THAT(error({one, other}), AllOf(HasSubstr("other.gif"), HasSubstr("max_item_pixels")));
  EXPECT_THAT(error({one, pattern(28, 28), other}), HasSubstr("max_item_pixels"));
}

TEST(MediaReader, AVideoThatIsThereAgainIsDecodedOnce) {
  const ::tte::testing::TempDir folder;
  const auto path = folder.write("dots.gif", media::testing::dotted_gif(56, 84, 8));
  const Video video{path, {}, {}, {}}, fewer{path, {}, 4, {}};
  const models::Visuals visuals = reader("{}").read(parts({video, std::string("text"), video, fewer, video}));
  ASSERT_EQ(visuals.size(), 4U);
  EXPECT_EQ(visuals[1], visuals[0]);
  EXPECT_EQ(visuals[3], visuals[0]);
  EXPECT_EQ(visuals[2]->patches.t * 2, visuals[0]->patches.t);
}

TEST(MediaReader, ErrorsNameTheItem) {
  Image missing;
  missing.source = std::filesystem::path("/no/such/image.png");
  EXPECT_THAT(message_of<InputError>([&] { (void)reader("{}").read(parts({missing})); }),
              HasSubstr("image.png"));
}

}  // namespace
}  // namespace tte::prompt
