#include "media/video.h"

#include <ATen/Functions.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>

#include "media_test_util.h"
#include "raw_video.h"
#include "temp_dir.h"

namespace tte::media::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using tte::testing::message_of;
using tte::testing::TempDir;

Video file(const std::string& name) {
  return {data_folder() / name, {}, {}, {}};
}

Image frame(std::int64_t height, std::int64_t width, std::int64_t seed) {
  const auto pixels = std::make_shared<const at::Tensor>(pattern(height, width, seed));
  return {Pixels{std::shared_ptr<const std::uint8_t>(pixels, pixels->const_data_ptr<std::uint8_t>()),
                 static_cast<int>(height), static_cast<int>(width), 3},
          Alpha::kDrop};
}

Video list(int count, std::int64_t height = 10, std::int64_t width = 12) {
  std::vector<Image> frames;
  for (int i = 0; i < count; ++i) frames.push_back(frame(height, width, i));
  return {frames, {}, {}, {}};
}

Sample evenly(int count) {
  return [count](int total, std::optional<double> /*source_fps*/) {
    std::vector<int> indices;
    for (int i = 0; i < count; ++i) indices.push_back(i * total / count);
    return indices;
  };
}

std::string error(const Video& video, const MediaLimits& limits = {}) {
  const std::string message = message_of<InputError>([&] { read_video(video, {}, limits); });
  return message;
}

TEST(Video, FramesEqualTorchcodecs) {
  for (const auto& golden : goldens().at("videos")) {
    SCOPED_TRACE(golden.at("file").get<std::string>());
    const Frames frames = read_video(file(golden.at("file")));
    ASSERT_EQ(frames.images.size(), golden.at("frames").get<std::size_t>());
    ASSERT_TRUE(frames.source_fps);
    EXPECT_NEAR(*frames.source_fps, golden.at("fps").get<double>(), 1e-9);
    for (std::size_t k = 0; k < frames.images.size(); ++k) {
      EXPECT_EQ(frames.indices[k], static_cast<int>(k));
      ASSERT_EQ(frames.images[k].sizes(),
                at::IntArrayRef({golden.at("height").get<int>(), golden.at("width").get<int>(), 3}));
      EXPECT_EQ(fnv1a(frames.images[k]), golden.at("digests")[k].get<std::string>()) << "frame " << k;
    }
  }
}

// Converting to RGB writes whole vectors: no width may make it write past a frame, nor leave pixels out. All
// frames show the same image from the top left corner, so those of narrow videos are parts of the widest.
TEST(Video, EveryWidth) {
  const TempDir folder;
  const auto frames_of = [&](int width, int height) {
    Frames frames = read_video({folder.write("raw.avi", i420_avi(width, height, 2)), {}, {}, {}});
    EXPECT_EQ(frames.images.size(), 2U);
    return frames.images;
  };
  constexpr int kHeight = 8;
  const std::vector<at::Tensor> widest = frames_of(1920, kHeight);
  std::vector<int> widths = {360, 540, 568, 600, 720, 854, 1080, 1170, 1280};
  for (int width = 1; width <= 128; ++width) widths.push_back(width);
  for (const int width : widths) {
    SCOPED_TRACE(width);
    const std::vector<at::Tensor> frames = frames_of(width, kHeight);
    // The last column of an odd width has its colour to itself.
    for (std::size_t k = 0; k < 2; ++k) EXPECT_TRUE(at::equal(frames[k], widest[k].narrow(1, 0, width)));
  }
  for (const auto& [width, height] : std::vector<std::pair<int, int>>{{360, 640}, {1080, 1920}, {56, 56}}) {
    const at::Tensor frame = frames_of(width, height)[0];
    EXPECT_EQ(frame.sizes(), at::IntArrayRef({height, width, 3}));
    EXPECT_TRUE(at::equal(frame.narrow(0, 0, kHeight), widest[0].narrow(1, 0, width)));
  }
}

// Jumping to frames gives the same frames as decoding all.
TEST(Video, SampledFramesAreTheRightOnes) {
  for (const auto& golden : goldens().at("videos")) {
    SCOPED_TRACE(golden.at("file").get<std::string>());
    for (const int count : {2, 4, 6, 10}) {
      const Frames frames = read_video(file(golden.at("file")), evenly(count));
      ASSERT_EQ(frames.images.size(), static_cast<std::size_t>(count));
      for (int k = 0; k < count; ++k) {
        EXPECT_EQ(fnv1a(frames.images[k]), golden.at("digests")[frames.indices[k]].get<std::string>()) << k;
      }
    }
  }
}

TEST(Video, FrameList) {
  const Frames frames = read_video(list(8), evenly(4));
  EXPECT_THAT(frames.indices, ElementsAre(0, 2, 4, 6));
  for (int k = 0; k < 4; ++k) EXPECT_TRUE(at::equal(frames.images[k], pattern(10, 12, 2 * k)));
  EXPECT_FALSE(frames.source_fps);
  EXPECT_FALSE(frames.sampled_fps);
  EXPECT_THAT(error({std::vector<Image>{}, {}, {}, {}}), HasSubstr("no frames"));
  Video mixed{std::vector<Image>{frame(10, 12, 0), frame(10, 13, 0)}, {}, {}, {}};
  EXPECT_THAT(error(mixed), AllOf(HasSubstr("frame 1"), HasSubstr("13x10"), HasSubstr("one size")));
  Video missing{std::vector<Image>{frame(10, 12, 0), {std::filesystem::path("/no/such.png"), Alpha::kDrop}},
                {},
                {},
                {}};
  EXPECT_THAT(error(missing), AllOf(HasSubstr("frame 1"), HasSubstr("/no/such.png")));
}

TEST(Video, FolderInNaturalOrder) {
  const TempDir folder;
  const auto png = read_image("rgb.png");
  const auto bmp = read_image("rgba.bmp");
  const auto jpg = read_image("rgb420.jpg");
  const auto text = [](const Buffer& bytes) { return std::string(bytes.begin(), bytes.end()); };
  folder.write("frame10.PNG", text(png));
  folder.write("frame9.jpg", text(jpg));
  folder.write("frame0011.bmp", text(bmp));
  folder.write(".hidden.png", "not an image");
  folder.write("notes.txt", "not an image");
  const Frames frames = read_video({folder.path(), {}, {}, {}});
  ASSERT_EQ(frames.images.size(), 3U);
  EXPECT_TRUE(at::equal(frames.images[0], decode_image(encoded(jpg))));
  EXPECT_TRUE(at::equal(frames.images[1], decode_image(encoded(png))));
  EXPECT_TRUE(at::equal(frames.images[2], decode_image(encoded(bmp))));
  folder.write("frame12.png", "not an image");
  EXPECT_THAT(error({folder.path(), {}, {}, {}}), AllOf(HasSubstr("frame 3"), HasSubstr("frame12.png")));
  const TempDir empty;
  EXPECT_THAT(error({empty.path(), {}, {}, {}}), HasSubstr("without image files"));
}

TEST(Video, LimitsHoldBeforeDecoding) {
  MediaLimits limits;
  // Fifteen frames, beside what the decoder works in.
  limits.max_item_bytes = 64 * 48 * (12 * 3 / 2 + 6) + 64 * 48 * 3 * 14;
  EXPECT_THAT(error(file("clip.mp4"), limits),
              AllOf(HasSubstr("15 frames of 64x48"), HasSubstr("max_item_bytes"), HasSubstr("fewer")));
  EXPECT_EQ(read_video(file("clip.mp4"), evenly(14), limits).images.size(), 14U);
  EXPECT_THAT(error(list(200, 64, 48), limits), HasSubstr("200 frames"));
  limits = {};
  limits.max_pixels = 64 * 48 - 1;
  EXPECT_THAT(error(file("clip.mp4"), limits), HasSubstr("64x48"));
  limits = {};
  limits.max_file_bytes = 1000;
  EXPECT_THAT(error(file("clip.mp4"), limits), HasSubstr("over the limit of 1000"));
}

TEST(Video, FilesThatAreNoVideos) {
  const TempDir folder;
  const auto at_path = [&](const std::filesystem::path& path) { return error({path, {}, {}, {}}); };
  EXPECT_THAT(at_path(folder.path() / "none.mp4"), AllOf(HasSubstr("none.mp4"), HasSubstr("does not exist")));
  EXPECT_THAT(at_path("http://example.org/a.mp4"), HasSubstr("download it first"));
  EXPECT_THAT(at_path("concat:a.mp4|b.mp4"), HasSubstr("does not exist"));
  EXPECT_THAT(at_path("videotestsrc ! appsink"), HasSubstr("does not exist"));
  EXPECT_THAT(at_path(std::string("a\0.mp4", 6)), HasSubstr("NUL"));
  EXPECT_THAT(at_path("/dev/zero"), HasSubstr("device"));
  EXPECT_THAT(at_path(folder.write("empty.mp4", "")), HasSubstr("is empty"));
  EXPECT_THAT(at_path(folder.write("text.mp4", "hello")), HasSubstr("not a video"));
  EXPECT_THAT(at_path(folder.write("zeros.mp4", std::string(100000, '\0'))), HasSubstr("not a video"));
  EXPECT_THAT(at_path(data_folder() / "images/rgb.png"), HasSubstr("not a video"));
  EXPECT_THAT(at_path(data_folder() / "sound.m4a"), HasSubstr("no video stream, at most sound"));
  using namespace std::string_literals;
  for (const std::string& head : {"ID3\3"s, "\xff\xfb\x90"s, "\xff\xf1"s, "fLaC"s, "RIFF\0\1\0\0WAVEfmt "s}) {
    const auto path = folder.write("sound.mp3", head + std::string(2000, '\0'));
    EXPECT_THAT(at_path(path), HasSubstr("no video stream, at most sound and a cover image")) << head;
  }
  const Buffer one = read_file(data_folder() / "clip.ts");
  const std::string stream(one.begin(), one.end());
  EXPECT_THAT(at_path(folder.write("joined.ts", stream + stream)), HasSubstr("several files in one"));
  EXPECT_THAT(at_path(data_folder() / "images" / "rgb420.jpg"), HasSubstr("is an image, not a video"));
  const auto pipe = folder.path() / "pipe.mp4";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THAT(at_path(pipe), HasSubstr("pipe"));
}

// Playlists name other files and addresses: they are no videos.
TEST(Video, PlaylistsAreNotFollowed) {
  const TempDir folder;
  const std::string clip = (data_folder() / "clip.mp4").string();
  for (const auto& [name, content] : std::vector<std::pair<std::string, std::string>>{
           {"a.m3u8", "#EXTM3U\n#EXTINF:1,\n" + clip + "\n#EXT-X-ENDLIST\n"},
           {"a.ffconcat", "ffconcat version 1.0\nfile '" + clip + "'\n"},
           {"a.mpd", "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"></MPD>"},
           {"a.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"}}) {
    EXPECT_THAT(error({folder.write(name, content), {}, {}, {}}), HasSubstr("not a video")) << name;
  }
}

// A cut video must not pass for a shorter one, wherever it is cut. Only between two elements of a file that
// says nowhere how long it is may it: between two tags, clusters' blocks, fragments or packets.
TEST(Video, CutFiles) {
  const TempDir folder;
  const std::vector<std::string> endless = {"fragments.mp4",   "fragments_without_index.mp4",
                                            "segments.mp4",    "live.mkv",
                                            "no_metadata.flv", "clip.mpg"};
  std::vector<std::filesystem::path> files;
  for (const char* name : {"clip.mp4", "bt709.mp4", "clip.webm", "clip.avi"})
    files.push_back(data_folder() / name);
  for (const auto& entry : std::filesystem::directory_iterator(data_folder() / "containers"))
    files.push_back(entry.path());
  ASSERT_GT(files.size(), 15U);
  for (const auto& path : files) {
    const std::string name = path.filename();
    const Buffer whole = read_file(path);
    EXPECT_EQ(read_video({path, {}, {}, {}}).images.size(), 15U) << name;
    int refused = 0, tried = 0;
    for (std::size_t size = whole.size() - 1; size > 0;
         size -= std::min(size, std::max<std::size_t>(1, size / 40))) {
      SCOPED_TRACE(fmt::format("{} cut to {} of {} bytes", name, size, whole.size()));
      const auto end = whole.begin() + static_cast<std::ptrdiff_t>(size);
      const Video video{folder.write(name, std::string(whole.begin(), end)), {}, {}, {}};
      ++tried;
      try {
        read_video(video);
        EXPECT_NE(std::find(endless.begin(), endless.end(), name), endless.end());
      } catch (const InputError& refusal) {
        EXPECT_THAT(refusal.what(), AllOf(HasSubstr(name)));
        ++refused;
      }
    }
    EXPECT_GE(refused, tried * 9 / 10) << name;
  }
}

// A frame every two seconds, some of them out of order: the last one is shown for longer than writers round. What does
// not say how many bytes it has is known by its times alone.
TEST(Video, SlowFlvEndsWithItsLastFrame) {
  const TempDir folder;
  const Buffer clip = read_file(data_folder() / "containers" / "clip.flv");
  constexpr std::uint32_t kSlower = 20;
  for (const bool tells_rate : {true, false}) {
    std::string slow(clip.begin(), clip.end());
    const auto multiply = [&](std::size_t at, std::size_t size) {
      std::uint32_t value = 0;
      for (std::size_t i = 0; i < size; ++i) value = value << 8 | static_cast<std::uint8_t>(slow[at + i]);
      value *= kSlower;
      for (std::size_t i = size; i-- > 0; value >>= 8) slow[at + i] = static_cast<char>(value & 0xFF);
    };
    const auto write = [&](const std::string& key, double value) {
      const auto bits = std::bit_cast<std::uint64_t>(value);
      const std::size_t at = slow.find(key + '\0') + key.size() + 1;
      for (std::size_t i = 0; i < 8; ++i) slow[at + i] = static_cast<char>(bits >> (56 - 8 * i) & 0xFF);
    };
    write("duration", 1.7 * kSlower);
    write("filesize", 0);
    write("framerate", tells_rate ? 10.0 / kSlower : 0);
    std::vector<std::size_t> ends;  // Of the tags.
    for (std::size_t at = 13; at < slow.size(); at = ends.back()) {
      const auto size = static_cast<std::size_t>(static_cast<std::uint8_t>(slow[at + 2]) << 8 |
                                                 static_cast<std::uint8_t>(slow[at + 3]));
      multiply(at + 4, 3);
      if (slow[at] == 9) multiply(at + 13, 3);
      ends.push_back(at + 15 + size);
    }
    EXPECT_EQ(read_video({folder.write("slow.flv", slow), {}, {}, {}}).images.size(), 15U);
    ASSERT_EQ(ends.size(), 18U);  // Metadata, how to decode, fifteen frames and the mark of their end.
    for (std::size_t frames = 2; frames < 15; ++frames) {
      const Video video{folder.write("cut.flv", slow.substr(0, ends[1 + frames])), {}, {}, {}};
      EXPECT_THAT(error(video), HasSubstr("truncated")) << frames << " frames";
    }
  }
}

// The tables of a fragment are there, its samples are not.
TEST(Video, FragmentsWithoutTheirSamples) {
  const TempDir folder;
  for (const char* name : {"fragments.mp4", "fragments_without_index.mp4"}) {
    const Buffer whole = read_file(data_folder() / "containers" / name);
    const std::string bytes(whole.begin(), whole.end());
    int tried = 0;
    for (std::size_t at = bytes.find("mdat"); at != std::string::npos;
         at = bytes.find("mdat", at + 1), ++tried) {
      const Video video{folder.write(name, bytes.substr(0, at - 4)), {}, {}, {}};
      EXPECT_THAT(error(video), HasSubstr("truncated")) << name << " cut to " << at - 4;
    }
    EXPECT_GE(tried, 2) << name;
  }
}

TEST(Video, PacketsOfAProgramStreamThatEndWithin) {
  const TempDir folder;
  const Buffer whole = read_file(data_folder() / "containers" / "clip.mpg");
  constexpr std::size_t kPack = 2048;
  for (std::size_t size = kPack + 300; size < whole.size() - kPack; size += 301) {
    if (size % kPack < 30) continue;  // Between packets, or within a pack's head.
    const auto end = whole.begin() + static_cast<std::ptrdiff_t>(size);
    const Video video{folder.write("cut.mpg", std::string(whole.begin(), end)), {}, {}, {}};
    EXPECT_THAT(error(video), HasSubstr("truncated")) << "cut to " << size << " of " << whole.size();
  }
}

// A transport stream does not say how long it is: cut within a packet it is refused; cut between two, it
// has whole frames only (one may be missing before the last, which is stored before it), or is refused.
TEST(Video, TruncatedTransportStream) {
  const Frames all = read_video(file("clip.mp4"));
  EXPECT_EQ(read_video(file("clip.ts")).images.size(), all.images.size());
  const Buffer whole = read_file(data_folder() / "clip.ts");
  const TempDir folder;
  constexpr std::size_t kPacket = 188;
  ASSERT_EQ(whole.size() % kPacket, 0U);
  int refused = 0;
  for (std::size_t size = kPacket * 8; size <= whole.size(); size += kPacket / 2) {
    SCOPED_TRACE(fmt::format("cut to {} of {} bytes", size, whole.size()));
    const auto end = whole.begin() + static_cast<std::ptrdiff_t>(size);
    const Video video{folder.write("cut.ts", std::string(whole.begin(), end)), {}, {}, {}};
    if (size % kPacket != 0) {
      EXPECT_THAT(error(video), HasSubstr("truncated"));
      continue;
    }
    try {
      const Frames frames = read_video(video);
      auto from = all.images.begin();
      for (std::size_t k = 0; k < frames.images.size(); ++k, ++from) {
        from = std::find_if(from, all.images.end(),
                            [&](const at::Tensor& image) { return at::equal(image, frames.images[k]); });
        ASSERT_NE(from, all.images.end()) << "frame " << k;
      }
    } catch (const InputError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace tte::media::testing
