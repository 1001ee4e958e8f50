#include "tte/processor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/fixture.h"
#include "expect_error.h"

namespace tte {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using tte::testing::clip;
using tte::testing::kEmbedder;
using tte::testing::message_of;
using tte::testing::parts;
using tte::testing::pattern;

TEST(Processor, GivesWhatTheModelSees) {
  const Processor processor = Processor::load(kEmbedder);
  const auto out = processor.process(parts({pattern(56, 84), clip(4, 56, 56), std::string("a")}));
  const std::size_t length = out.input_ids.size();
  EXPECT_EQ(out.mm_token_type_ids.size(), length);
  EXPECT_EQ(out.position_ids.size(), 3 * length);
  EXPECT_EQ(std::count(out.mm_token_type_ids.begin(), out.mm_token_type_ids.end(), 1), 6);
  EXPECT_EQ(std::count(out.mm_token_type_ids.begin(), out.mm_token_type_ids.end(), 2), 8);
  EXPECT_THAT(out.image_grid_thw, ElementsAre(ElementsAre(1, 4, 6)));
  EXPECT_THAT(out.video_grid_thw, ElementsAre(ElementsAre(2, 4, 4)));
  EXPECT_EQ(out.patch_dim, 3 * 2 * 14 * 14);
  EXPECT_EQ(out.pixel_values.size(), static_cast<std::size_t>(24 * out.patch_dim));
  EXPECT_EQ(out.pixel_values_videos.size(), static_cast<std::size_t>(32 * out.patch_dim));
  EXPECT_EQ(out.pooled_row, -1);
  // Text before the first image has the same position on all axes.
  EXPECT_EQ(out.position_ids[1], 1);
  EXPECT_EQ(out.position_ids[length + 1], 1);
}

TEST(Processor, TheEmbeddersPromptHasTraceAndSuffix) {
  const Processor processor = Processor::load(kEmbedder);
  ProcessOptions options;
  const auto opened = processor.process("a", options);
  options.trace = Trace::from_text("<think>red</think> red");
  EXPECT_THAT(message_of<InputError>([&] { (void)processor.process("a", options); }),
              HasSubstr("take that of embedding"));
  options.stage = Stage::kEmbed;
  const auto closed = processor.process("a", options);
  EXPECT_EQ(processor.tokenizer().decode(closed.input_ids, false),
            processor.tokenizer().decode(opened.input_ids, false) + "<think>red</think> red<|im_end|>");
  EXPECT_EQ(closed.pooled_row, static_cast<std::int64_t>(closed.input_ids.size()) - 1);
  EXPECT_THAT(processor.recipe(), HasSubstr("tte-nano-embedder"));
}

TEST(Processor, ErrorsNameTheItem) {
  const Processor processor = Processor::load(kEmbedder);
  Input empty;
  empty.name = "row 4";
  EXPECT_THAT(message_of<InputError>([&] { (void)processor.process(empty); }),
              AllOf(HasSubstr("row 4"), HasSubstr("empty")));
}

}  // namespace
}  // namespace tte
