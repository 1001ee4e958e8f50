#include "tte/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/fixture.h"
#include "expect_error.h"

namespace tte {
namespace {

using ::testing::HasSubstr;
using tte::testing::kReasoner;
using tte::testing::message_of;

TEST(PublicTokenizer, EncodesAndDecodes) {
  const Tokenizer tokenizer = Tokenizer::load(kReasoner);
  const auto ids = tokenizer.encode("what is this ?<|im_end|>");
  EXPECT_EQ(ids.back(), tokenizer.id_of("<|im_end|>"));
  EXPECT_EQ(tokenizer.decode(ids), "what is this ?");
  EXPECT_EQ(tokenizer.decode(ids, false), "what is this ?<|im_end|>");
  EXPECT_NE(tokenizer.encode("<|im_end|>", false), tokenizer.encode("<|im_end|>"));
  EXPECT_THAT(message_of<InputError>([&] { (void)tokenizer.decode({-1}); }), HasSubstr("-1"));
  EXPECT_GT(tokenizer.vocab_size(), 0);
}

TEST(PublicTokenizer, IsThatOfTheModel) {
  const Tokenizer tokenizer = Tokenizer::load(kReasoner);
  EXPECT_EQ(tokenizer.vocabulary(), tte::testing::reasoner().tokenizer().vocabulary());
}

TEST(PublicTokenizer, WritesChatMessages) {
  const Tokenizer tokenizer = Tokenizer::load(kReasoner);
  const std::vector<Message> messages = {{"user", {tte::testing::pattern(28, 28), std::string("what ?")}}};
  EXPECT_EQ(tokenizer.apply_chat_template(messages),
            "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>what "
            "?<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(tokenizer.apply_chat_template({{"user", {std::string("a")}}}, false, true),
            "<|im_start|>user\na");
  EXPECT_THAT(message_of<InputError>([&] { (void)tokenizer.apply_chat_template(messages, true, true); }),
              HasSubstr("exclude"));
}

}  // namespace
}  // namespace tte
