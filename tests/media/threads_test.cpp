#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "media/patches.h"
#include "media/video.h"
#include "media_test_util.h"

namespace tte::media::testing {
namespace {

// Everything at once from several threads gives what one thread gives.
TEST(Threads, ImagesVideosAndPatches) {
  std::vector<std::string> names;
  for (const auto& golden : goldens().at("images")) names.push_back(golden.at("file"));
  std::atomic<int> wrong = 0;
  const auto work = [&](std::size_t offset) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      const auto& golden = goldens().at("images")[(i + offset) % names.size()];
      const at::Tensor pixels = decode_image(encoded(read_image(golden.at("file"))));
      if (fnv1a(pixels) != golden.at("drop").get<std::string>()) ++wrong;
      try {
        decode_image(encoded(Buffer(50, static_cast<std::uint8_t>(i))));
        ++wrong;
      } catch (const InputError&) {
      }
    }
    for (const auto& golden : goldens().at("videos")) {
      const Frames frames = read_video({data_folder() / golden.at("file").get<std::string>(), {}, {}, {}});
      for (std::size_t k = 0; k < frames.images.size(); ++k) {
        if (fnv1a(frames.images[k]) != golden.at("digests")[k].get<std::string>()) ++wrong;
      }
    }
    const base::Digest digest = patchify({pattern(100, 140)}, kPatches, {112, 140}).digest;
    if (digest != patchify({pattern(100, 140)}, kPatches, {112, 140}).digest) ++wrong;
  };
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 4; ++i) threads.emplace_back(work, i * 13);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace tte::media::testing
