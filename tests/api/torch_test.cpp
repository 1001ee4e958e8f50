#include "tte/torch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/fixture.h"
#include "expect_error.h"

namespace tte {
namespace {

using ::testing::HasSubstr;
using tte::testing::clip;
using tte::testing::kEmbedder;
using tte::testing::message_of;
using tte::testing::parts;
using tte::testing::pattern;

TEST(Torch, TensorsOfPixelsAreImagesAndVideos) {
  const at::Tensor pixels = at::randint(0, 256, {4, 56, 84, 3}, at::kByte);
  const Image image = torch::image(pixels[0]);
  const auto& read = std::get<Pixels>(image.source);
  EXPECT_EQ(read.height, 56);
  EXPECT_EQ(read.width, 84);
  EXPECT_EQ(read.channels, 3);
  EXPECT_EQ(read.data.get(), pixels.const_data_ptr<std::uint8_t>()) << "they are not to be copied";
  const Video video = torch::video(pixels, 2.0);
  EXPECT_EQ(std::get<std::vector<Image>>(video.source).size(), 4);
  EXPECT_EQ(video.source_fps, 2.0);

  EXPECT_THAT(message_of<InputError>([&] { (void)torch::image(pixels[0].to(at::kFloat)); }),
              HasSubstr("CPUFloatType"));
  EXPECT_THAT(message_of<InputError>([&] { (void)torch::image(pixels); }), HasSubstr("4 dimensions"));
  EXPECT_THAT(message_of<InputError>([&] { (void)torch::video(pixels[0]); }), HasSubstr("3 dimensions"));
}

TEST(Torch, EmbeddingsBecomeTensors) {
  Embeddings two;
  two.rows = 2;
  two.dim = 3;
  two.data = {1, 2, 3, 4, 5, 6};
  const float* memory = two.data.data();
  const at::Tensor tensor = torch::tensor(std::move(two));
  EXPECT_TRUE(at::equal(tensor, at::arange(1, 7, at::kFloat).view({2, 3})));
  EXPECT_EQ(tensor.const_data_ptr<float>(), memory) << "the memory is to be taken over";
  Embeddings lies;
  lies.rows = 3;
  lies.dim = 2;
  lies.data = {1, 2, 3, 4, 5};
  EXPECT_THAT(message_of<InputError>([&] { (void)torch::tensor(lies); }), HasSubstr("5 values, fewer"));
}

TEST(Torch, TokenEmbeddingsBecomeTensorsOfTheirType) {
  TokenOptions options;
  const std::vector<Input> inputs = {Input("a red circle"), Input("a blue star")};
  const TokenEmbeddings half = tte::testing::embedder().embed_tokens(inputs, {}, {}, options);
  options.float32 = true;
  const TokenEmbeddings full = tte::testing::embedder().embed_tokens(inputs, {}, {}, options);
  const at::Tensor halves = torch::tensor(half), floats = torch::tensor(full);
  EXPECT_EQ(halves.scalar_type(), at::kHalf);
  EXPECT_EQ(floats.scalar_type(), at::kFloat);
  EXPECT_EQ(floats.sizes(), (std::vector<std::int64_t>{full.offsets.back(), full.dim}));
  EXPECT_TRUE(at::equal(floats.to(at::kHalf), halves));
  EXPECT_EQ(torch::tensor(TokenEmbeddings()).numel(), 0);
}

TEST(Torch, ProcessedInputsHaveTheShapesOfTransformers) {
  const Processor processor = Processor::load(kEmbedder);
  const ProcessedInput input = processor.process(parts({pattern(56, 84), clip(4, 56, 56), std::string("a")}));
  const auto length = static_cast<std::int64_t>(input.input_ids.size());
  const torch::ProcessedTensors out = torch::tensors(input);
  EXPECT_EQ(out.input_ids.sizes(), (std::vector<std::int64_t>{1, length}));
  EXPECT_EQ(out.mm_token_type_ids.sizes(), (std::vector<std::int64_t>{1, length}));
  EXPECT_EQ(out.position_ids.sizes(), (std::vector<std::int64_t>{3, 1, length}));
  EXPECT_EQ(out.pixel_values.sizes(), (std::vector<std::int64_t>{24, input.patch_dim}));
  EXPECT_EQ(out.pixel_values_videos.sizes(), (std::vector<std::int64_t>{32, input.patch_dim}));
  EXPECT_TRUE(at::equal(out.image_grid_thw, at::tensor({1, 4, 6}, at::kLong).view({1, 3})));
  EXPECT_TRUE(at::equal(out.video_grid_thw, at::tensor({2, 4, 4}, at::kLong).view({1, 3})));
  EXPECT_FALSE(torch::tensors(processor.process(Input("a"))).pixel_values.defined());
}

}  // namespace
}  // namespace tte
