// Small files that unfold into much: refused before they have cost it, by an error that names the limit.
#include "media/budget.h"

#include <gmock/gmock.h>

#include "media/video.h"
#include "media_test_util.h"
#include "raw_video.h"
#include "temp_dir.h"

namespace tte::media::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using tte::testing::message_of;
using tte::testing::TempDir;

// A grey progressive JPEG of so many scans, none of which has any data.
Buffer empty_scans(int width, int height, int scans) {
  Buffer bytes = {0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0};
  bytes.insert(bytes.end(), 64, 1);  // Quantisation.
  for (const std::uint8_t table : {0x00, 0x10}) {
    bytes.insert(bytes.end(), {0xFF, 0xC4, 0, 20, table, 1});
    bytes.insert(bytes.end(), 16, 0);  // One code of one bit, for 0.
  }
  const auto high = [](int value) { return static_cast<std::uint8_t>(value >> 8); };
  const auto low = [](int value) { return static_cast<std::uint8_t>(value); };
  bytes.insert(bytes.end(),
               {0xFF, 0xC2, 0, 11, 8, high(height), low(height), high(width), low(width), 1, 1, 0x11, 0});
  for (int i = 0; i < scans; ++i) {
    const std::uint8_t first = i == 0 ? 0 : 1, last = i == 0 ? 0 : 63;
    bytes.insert(bytes.end(), {0xFF, 0xDA, 0, 8, 1, 1, 0, first, last, 0});
  }
  bytes.insert(bytes.end(), {0xFF, 0xD9});
  return bytes;
}

MediaLimits with_pixels(std::int64_t pixels) {
  MediaLimits limits;
  limits.max_item_pixels = pixels;
  return limits;
}

MediaLimits with_bytes(std::int64_t bytes) {
  MediaLimits limits;
  limits.max_item_bytes = bytes;
  return limits;
}

TEST(Budget, LoansGoBackAndWhatIsKeptStays) {
  Budget budget(with_bytes(100));
  {
    const Budget::Loan first = budget.borrow(60, "a");
    Budget::Loan moved = budget.borrow(40, "b");
    const Budget::Loan second = std::move(moved);
    EXPECT_THAT(
        message_of<InputError>([&] { static_cast<void>(budget.borrow(1, "item 2: this")); }),
        AllOf(HasSubstr("item 2: this needs 1 bytes"), HasSubstr("100"), HasSubstr("max_item_bytes")));
  }
  budget.keep(70, "c");
  static_cast<void>(budget.borrow(30, "d"));
  EXPECT_THAT(message_of<InputError>([&] { budget.keep(31, "e"); }), HasSubstr("beside the 70"));
}

TEST(Budget, WorkAddsUp) {
  Budget budget(with_pixels(1000));
  budget.work(600, "a");
  EXPECT_THAT(message_of<InputError>([&] { budget.work(401, "item 2: this"); }),
              AllOf(HasSubstr("item 2: this"), HasSubstr("1001"), HasSubstr("max_item_pixels")));
  budget.add_image(1, 7);
  budget.add_image(1, 7);  // The same image again.
  budget.work(1400, "a");
  EXPECT_TRUE(budget.refuses(1));
}

TEST(Budget, JpegScans) {
  const Buffer bytes = empty_scans(2000, 2000, 90);
  const std::int64_t allowance = 1000 * static_cast<std::int64_t>(bytes.size());
  EXPECT_EQ(decode_image(encoded(empty_scans(64, 64, 90))).size(0), 64);
  EXPECT_THAT(decode_error(empty_scans(64, 64, 101)), HasSubstr("more than 100 scans"));
  EXPECT_THAT(decode_error(bytes, with_pixels(4'000'000 * 20 - allowance)), HasSubstr("max_item_pixels"));
}

// Every format says what its decoder needs before it starts, and leaves nothing of it in the budget.
TEST(Budget, EveryFormatIsMeasured) {
  for (const auto& golden : goldens().at("images")) {
    const std::string name = golden.at("file");
    SCOPED_TRACE(name);
    const Buffer bytes = read_image(name);
    const std::int64_t pixels =
        golden.at("height").get<std::int64_t>() * golden.at("width").get<std::int64_t>();
    EXPECT_THAT(decode_error(bytes, with_bytes(pixels * 3)), HasSubstr("max_item_bytes"));
    Budget budget(with_bytes(pixels * 64 + (1 << 20)));
    for (int i = 0; i < 50; ++i) decode_image(encoded(bytes, Alpha::kOverWhite), budget);
    static_cast<void>(budget.borrow(budget.limits().max_item_bytes, "all"));
    const MediaLimits few = with_pixels(1);
    Budget spent(few);
    spent.work(1, "a");
    spent.add_image(-static_cast<std::int64_t>(bytes.size()), 0);  // What the file itself allows.
    EXPECT_THAT(message_of<InputError>([&] { decode_image(encoded(bytes), spent); }),
                HasSubstr("max_item_pixels"));
  }
}

TEST(Budget, AFileThatIsThereAgainAllowsNoMore) {
  const TempDir folder;
  const std::string bytes = i420_avi(16, 16, 2);
  const Video video{folder.write("raw.avi", bytes), {}, {}, {}};
  const Image image{data_folder() / "images" / "rgb.png"};
  Budget budget(with_pixels(1));
  for (int i = 0; i < 2; ++i) {
    read_video(video, budget).memory = {};
    decode_image(image, budget);
  }
  const auto once = 1 + 10'000 * static_cast<std::int64_t>(bytes.size()) +
                    1'000 * static_cast<std::int64_t>(read_image("rgb.png").size());
  EXPECT_TRUE(budget.refuses(once));
  Budget again(with_pixels(1));
  for (int i = 0; i < 3; ++i) again.add_image(10, 5);
  EXPECT_TRUE(again.refuses(10'002));
  EXPECT_FALSE(again.refuses(10'001));
}

TEST(Budget, ACallThatWasLeftDecodesNothing) {
  CancelToken stop;
  Budget budget({}, stop);
  decode_image(encoded(read_image("rgb.png")), budget);
  const TempDir folder;
  const Video video{folder.write("raw.avi", i420_avi(16, 16, 2)), {}, {}, {}};
  read_video(video, budget).memory = {};
  stop.cancel();
  for (const auto& golden : goldens().at("images")) {
    const Buffer bytes = read_image(golden.at("file").get<std::string>());
    EXPECT_THROW(decode_image(encoded(bytes), budget), CancelledError) << golden.at("file");
  }
  EXPECT_ANY_THROW(read_video(video, budget));
}

TEST(Budget, Videos) {
  const TempDir folder;
  const std::string gif = dotted_gif(1000, 1000, 40);
  const auto allowance = 10'000 * static_cast<std::int64_t>(gif.size());
  const Video video{folder.write("dots.gif", gif), {}, {}, {}};
  EXPECT_EQ(read_video(video).images.size(), 40U);
  const auto error = [&](const MediaLimits& limits) {
    return message_of<InputError>([&] { read_video(video, {}, limits); });
  };
  EXPECT_THAT(error(with_pixels(39'000'000 - allowance)),
              AllOf(HasSubstr("video"), HasSubstr("dots.gif"), HasSubstr("max_item_pixels")));
  EXPECT_THAT(error(with_bytes(100'000'000)),
              AllOf(HasSubstr("40 frames of 1000x1000"), HasSubstr("max_item_bytes")));
  EXPECT_THAT(error(with_bytes(10'000'000)), HasSubstr("max_item_bytes"));
}

// The packets tell how many frames are decoded: what is too much is refused before the first.
TEST(Budget, VideosAreRefusedBeforeTheyAreDecoded) {
  const TempDir folder;
  const std::string gif = dotted_gif(1000, 1000, 40);
  const auto allowance = 10'000 * static_cast<std::int64_t>(gif.size());
  const Video video{folder.write("dots.gif", gif), {}, {}, {}};
  Budget budget(with_pixels(39'000'000 - allowance));
  EXPECT_THAT(message_of<InputError>([&] { read_video(video, budget).memory = {}; }),
              HasSubstr("40000000 pixels"));
  EXPECT_FALSE(budget.refuses(39'000'000));  // Nothing is spent.
}

TEST(Budget, AVideoIsMeasuredAsItIsRead) {
  const TempDir folder;
  const std::string gif = dotted_gif(1000, 1000, 40), avi = i420_avi(16, 16, 40);
  const auto some = [](std::vector<int> indices) {
    return [indices = std::move(indices)](int, std::optional<double>) { return indices; };
  };
  for (const auto& sample : {Sample(), Sample(some({3, 3, 7})), Sample(some({39}))}) {
    for (const Video& video : {Video{folder.write("dots.gif", gif), {}, {}, {}},
                               Video{folder.write("raw.avi", avi), {}, {}, {}}}) {
      Budget read, measured;
      read_video(video, read, sample).memory = {};
      EXPECT_TRUE(measure_video(video, measured, sample));
      const auto left = [](const Budget& budget) {
        std::int64_t least = 0, most = std::int64_t{1} << 40;  // Refused is what is more than `least`.
        while (least + 1 < most) (budget.refuses((least + most) / 2) ? most : least) = (least + most) / 2;
        return least;
      };
      EXPECT_EQ(left(measured), left(read));
    }
  }
  Budget budget;
  EXPECT_FALSE(measure_video({folder.path(), {}, {}, {}}, budget));
}

// Frames that are fitted to the model at once are held in that size only.
TEST(Budget, FittedFrames) {
  const TempDir folder;
  const Video video{folder.write("dots.gif", dotted_gif(1000, 1000, 40)), {}, {}, {}};
  Budget budget(with_bytes(100'000'000));
  const auto fit = [](Size, std::int64_t) { return Size{56, 84}; };
  const Frames frames = read_video(video, budget, {}, fit);
  ASSERT_EQ(frames.images.size(), 40U);
  EXPECT_EQ(frames.images[39].sizes(), at::IntArrayRef({56, 84, 3}));
}

TEST(Budget, TiffBlocks) {
  // One strip of 12000 x 12000 pixels of four samples of 16 bits, LZW: a directory and 100 bytes of data.
  RiffWriter tiff;
  tiff.number(0x002A4949).number(8);
  const std::vector<std::array<std::uint32_t, 3>> entries = {{256, 4, 12000}, {257, 4, 12000}, {258, 3, 16},
                                                             {259, 3, 5},     {262, 3, 1},     {273, 4, 8},
                                                             {277, 3, 4},     {278, 4, 12000}, {279, 4, 100}};
  tiff.number(static_cast<std::uint32_t>(entries.size()), 2);
  for (const auto& [tag, type, value] : entries) tiff.number(tag, 2).number(type, 2).number(1).number(value);
  tiff.zeros(100);
  const Buffer bytes(tiff.bytes().begin(), tiff.bytes().end());
  EXPECT_THAT(decode_error(bytes), AllOf(HasSubstr("bytes of memory"), HasSubstr("max_item_bytes")));
}

TEST(MediaLimits, AreInRange) {
  MediaLimits{}.validate();
  for (std::int64_t MediaLimits::*limit : {&MediaLimits::max_pixels, &MediaLimits::max_file_bytes,
                                           &MediaLimits::max_item_bytes, &MediaLimits::max_item_pixels}) {
    for (const std::int64_t value : {std::int64_t{0}, std::int64_t{-1}, INT64_MAX, INT64_MIN}) {
      MediaLimits limits;
      limits.*limit = value;
      EXPECT_THAT(message_of<InputError>([&] { limits.validate(); }), HasSubstr(std::to_string(value)));
    }
  }
}

}  // namespace
}  // namespace tte::media::testing
