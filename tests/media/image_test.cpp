#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>

#include "media_test_util.h"
#include "temp_dir.h"

namespace tte::media::testing {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAreArray;
using tte::testing::message_of;
using tte::testing::TempDir;

TEST(Image, PixelsEqualPillows) {
  ASSERT_GE(goldens().at("images").size(), 45U);
  for (const auto& golden : goldens().at("images")) {
    const std::string name = golden.at("file");
    const struct {
      Alpha alpha;
      const char* key;
    } kinds[] = {{Alpha::kDrop, "drop"}, {Alpha::kOverWhite, "white"}, {Alpha::kOverBlack, "black"}};
    for (const auto& kind : kinds) {
      SCOPED_TRACE(fmt::format("{}, alpha: {}", name, kind.key));
      const at::Tensor pixels = decode_image({data_folder() / "images" / name, kind.alpha});
      ASSERT_EQ(pixels.scalar_type(), at::kByte);
      ASSERT_EQ(pixels.sizes(),
                at::IntArrayRef({golden.at("height").get<int>(), golden.at("width").get<int>(), 3}));
      ASSERT_TRUE(pixels.is_contiguous());
      if (kind.alpha == Alpha::kDrop) {
        const auto first_row = golden.at("first_row").get<std::vector<int>>();
        const at::Tensor row = pixels[0].reshape({-1});
        for (std::size_t i = 0; i < first_row.size(); ++i) {
          ASSERT_EQ(static_cast<int>(row.const_data_ptr<std::uint8_t>()[i]), first_row[i]) << "value " << i;
        }
      }
      EXPECT_EQ(fnv1a(pixels), golden.at(kind.key).get<std::string>());
    }
  }
}

// Every number of 16 bits, in a TIFF of 256 x 256.
TEST(Image, SixteenBitsAreRounded) {
  Buffer bytes = {'I', 'I', '*', 0, 8, 0, 0, 0, 9, 0};
  const auto put = [&](std::uint32_t value, int size) {
    for (int i = 0; i < size; ++i) bytes.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
  };
  constexpr std::uint32_t kPixelsAt = 8 + 2 + 9 * 12 + 4;
  const std::array<std::array<std::uint32_t, 2>, 9> fields = {{{256, 256},
                                                               {257, 256},
                                                               {258, 16},
                                                               {259, 1},
                                                               {262, 1},
                                                               {273, kPixelsAt},
                                                               {277, 1},
                                                               {278, 256},
                                                               {279, 256 * 256 * 2}}};
  for (const auto& [tag, value] : fields) {
    put(tag, 2);
    put(4, 2);  // One number of 32 bits.
    put(1, 4);
    put(value, 4);
  }
  put(0, 4);
  for (std::uint32_t value = 0; value < 65536; ++value) put(value, 2);
  const at::Tensor pixels = decode_image(encoded(bytes));
  const auto* data = pixels.const_data_ptr<std::uint8_t>();
  for (int value = 0; value < 65536; ++value, data += 3) {
    ASSERT_EQ(static_cast<int>(*data), (value * 255 + 32767) / 65535) << value;
    ASSERT_EQ(data[1], data[0]);
    ASSERT_EQ(data[2], data[0]);
  }
}

TEST(Image, BytesAndPathGiveTheSame) {
  for (const char* name : {"rgb420.jpg", "rgba.png", "exif8.webp", "palette.gif", "rgb.bmp", "exif5.tif"}) {
    const at::Tensor from_path = decode_image({data_folder() / "images" / name, Alpha::kDrop});
    EXPECT_TRUE(at::equal(from_path, decode_image(encoded(read_image(name))))) << name;
  }
}

TEST(Image, LooksAtTheSizeWithoutDecoding) {
  for (const auto& golden : goldens().at("images")) {
    const std::string name = golden.at("file");
    SCOPED_TRACE(name);
    const std::array<std::int64_t, 2> upright = {golden.at("height"), golden.at("width")};
    for (const Image& image : {Image{data_folder() / "images" / name}, encoded(read_image(name))}) {
      const auto found = look_at(image, {});
      ASSERT_TRUE(found);
      EXPECT_THAT((std::array{found->size.height, found->size.width}), UnorderedElementsAreArray(upright));
      EXPECT_EQ(found->bytes, static_cast<std::int64_t>(read_image(name).size()));
      EXPECT_THAT(found->label, AnyOf(HasSubstr(name), "the encoded image"));
    }
  }
  // Its header says all, and there is no more.
  Buffer jpeg = read_image("rgb420.jpg");
  jpeg.resize(jpeg.size() - 20);
  EXPECT_THAT(decode_error(jpeg), HasSubstr("truncated"));
  EXPECT_EQ(look_at(encoded(jpeg), {}).value().size.width, 17);
  // Behind more than is read at first.
  const TempDir folder;
  const std::string marker = "\xFF\xE5\xFF\xFF" + std::string(65533, '\0');
  const std::string far = "\xFF\xD8" + marker + marker + std::string(jpeg.begin() + 2, jpeg.end());
  const auto path = folder.write("far.jpg", far);
  EXPECT_EQ(look_at(Image{path}, {}).value().size.width, 17);
  EXPECT_EQ(look_at(Image{Pixels{nullptr, 3, 4, 1}}, {}).value().size.width, 4);
}

TEST(Image, LooksInVainAtWhatIsNoImage) {
  const TempDir folder;
  MediaLimits small;
  small.max_pixels = 100;
  for (const Image& image :
       {Image{folder.path() / "none.jpg"}, Image{folder.path()}, Image{folder.write("empty.png", "")},
        Image{folder.write("text.png", "text")}, Image{EncodedImage{}}, encoded({}),
        encoded({0xFF, 0xD8, 0xFF}), encoded(read_image("rgb.png"))}) {
    EXPECT_FALSE(look_at(image, small));
  }
}

TEST(Image, PixelArraysOfEveryChannelCount) {
  const auto data = std::make_shared<Buffer>(Buffer{10, 20, 30, 0, 40, 50, 60, 128, 70, 80, 90, 255});
  const std::shared_ptr<const std::uint8_t> shared(data, data->data());
  const auto decode = [&](int height, int width, int channels, Alpha alpha) {
    const at::Tensor pixels = decode_image({Pixels{shared, height, width, channels}, alpha});
    EXPECT_EQ(pixels.sizes(), at::IntArrayRef({height, width, 3}));
    const auto* p = pixels.const_data_ptr<std::uint8_t>();
    return std::vector<int>(p, p + pixels.numel());
  };
  EXPECT_EQ(decode(1, 2, 1, Alpha::kDrop), (std::vector<int>{10, 10, 10, 20, 20, 20}));
  EXPECT_EQ(decode(2, 1, 3, Alpha::kDrop), (std::vector<int>{10, 20, 30, 0, 40, 50}));
  EXPECT_EQ(decode(1, 3, 4, Alpha::kDrop), (std::vector<int>{10, 20, 30, 40, 50, 60, 70, 80, 90}));
  EXPECT_EQ(decode(1, 3, 4, Alpha::kOverWhite), (std::vector<int>{255, 255, 255, 147, 152, 157, 70, 80, 90}));
  EXPECT_EQ(decode(1, 3, 4, Alpha::kOverBlack), (std::vector<int>{0, 0, 0, 20, 25, 30, 70, 80, 90}));
}

TEST(Image, PixelArraysAreCopied) {
  const auto data = std::make_shared<Buffer>(Buffer{1, 2, 3});
  const at::Tensor pixels =
      decode_image({Pixels{std::shared_ptr<const std::uint8_t>(data, data->data()), 1, 1, 3}, Alpha::kDrop});
  (*data)[0] = 99;
  EXPECT_EQ(pixels.const_data_ptr<std::uint8_t>()[0], 1);
}

TEST(Image, PixelArraysThatMakeNoSense) {
  const auto data = std::make_shared<Buffer>(Buffer(64));
  const std::shared_ptr<const std::uint8_t> shared(data, data->data());
  const auto error = [&](Pixels pixels, const MediaLimits& limits = {}) {
    return message_of<InputError>([&] { decode_image({pixels, Alpha::kDrop}, limits); });
  };
  EXPECT_THAT(error({shared, 2, 2, 2}), HasSubstr("2 channels"));
  EXPECT_THAT(error({shared, 0, 2, 3}), HasSubstr("2x0"));
  EXPECT_THAT(error({shared, 2, -1, 3}), HasSubstr("-1x2"));
  EXPECT_THAT(error({nullptr, 2, 2, 3}), HasSubstr("no data"));
  MediaLimits limits;
  limits.max_pixels = 3;
  EXPECT_THAT(error({shared, 2, 2, 3}, limits), HasSubstr("over the limit of 3"));
}

TEST(Image, FilesThatAreNoFiles) {
  const TempDir folder;
  const auto error = [](const std::filesystem::path& path, const MediaLimits& limits = {}) {
    return message_of<InputError>([&] { decode_image({path, Alpha::kDrop}, limits); });
  };
  EXPECT_THAT(error(folder.path() / "none.jpg"), AllOf(HasSubstr("none.jpg"), HasSubstr("does not exist")));
  EXPECT_THAT(error("https://example.org/cat.jpg"), HasSubstr("download it first"));
  EXPECT_THAT(error(folder.path()), HasSubstr("is a folder"));
  EXPECT_THAT(error(folder.write("empty.png", "")), HasSubstr("is empty"));
  EXPECT_THAT(error(std::string("a\0b.jpg", 7)), AllOf(HasSubstr("NUL"), HasSubstr("a\\x00b.jpg")));
  EXPECT_THAT(error("caf\xe9.jpg"), HasSubstr("caf\\xe9.jpg"));
  const std::string longest = error(std::string(5000, 'x') + ".jpg");
  EXPECT_THAT(longest, HasSubstr("xxx.jpg"));
  EXPECT_LT(longest.size(), 400U);
  EXPECT_THAT(error(""), HasSubstr("empty path"));
  EXPECT_THAT(error("/dev/zero"), HasSubstr("device"));
  EXPECT_THAT(error("/dev/null"), HasSubstr("device"));
  const auto pipe = folder.path() / "pipe.jpg";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(error(pipe), HasSubstr("pipe"));  // And does not wait for a writer.
  MediaLimits limits;
  limits.max_file_bytes = 10;
  EXPECT_THAT(error(folder.write("big.png", std::string(11, 'x')), limits),
              HasSubstr("over the limit of 10"));
  const auto secret = folder.write("secret.png", "x");
  ASSERT_EQ(chmod(secret.c_str(), 0), 0);
  // The superuser may read it all the same, and then finds that it is no image.
  EXPECT_THAT(error(secret), HasSubstr(geteuid() == 0 ? "is not a JPEG" : "Permission denied"));
}

}  // namespace
}  // namespace tte::media::testing
