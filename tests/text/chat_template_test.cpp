// Chat templates against transformers' apply_chat_template (tests/data/text/make_goldens.py).
#include "text/chat_template.h"

#include <gmock/gmock.h>

#include "text_test_util.h"
#include "tte/error.h"

namespace tte::text {
namespace {

using Ids = std::vector<std::int64_t>;
using ::testing::HasSubstr;

std::vector<ChatMessage> messages_of(const base::Json& json) {
  std::vector<ChatMessage> messages;
  for (const auto& m : json) {
    ChatMessage message;
    message.role = m["role"].get<std::string>();
    message.plain = m["content"].is_string();
    if (message.plain) {
      message.parts.push_back({ChatPart::Kind::kText, m["content"].get<std::string>()});
    } else {
      for (const auto& part : m["content"]) {
        const auto type = part["type"].get<std::string>();
        const auto kind = type == "text"    ? ChatPart::Kind::kText
                          : type == "image" ? ChatPart::Kind::kImage
                                            : ChatPart::Kind::kVideo;
        message.parts.push_back({kind, kind == ChatPart::Kind::kText ? part["text"].get<std::string>() : ""});
      }
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

class Chats : public ::testing::TestWithParam<const char*> {};

TEST_P(Chats, EqualTransformers) {
  const auto folder = data_folder() / GetParam();
  const auto tokenizer = Tokenizer::load(folder);
  const auto chat = ChatTemplate::load(folder, *tokenizer);
  ASSERT_NE(chat, nullptr);
  for (const auto& c : base::read_json(folder / "golden.json")) {
    const auto messages = messages_of(c["messages"]);
    RenderOptions options;
    options.add_generation_prompt = c["mode"] == "generate";
    options.continue_final_message = c["mode"] == "continue";
    options.guard_control_tokens = false;
    if (!c.contains("text")) {
      EXPECT_THROW(static_cast<void>(chat->render(messages, options)), Error) << c["messages"].dump();
      continue;
    }
    const std::string text = chat->render(messages, options);
    EXPECT_EQ(text, c["text"].get<std::string>()) << c["messages"].dump() << c["mode"];
    EXPECT_EQ(tokenizer->encode(text), c["ids"].get<Ids>()) << c["messages"].dump();
    options.guard_control_tokens = true;
    if (c.contains("guarded_ids")) {
      EXPECT_EQ(tokenizer->encode(chat->render(messages, options)), c["guarded_ids"].get<Ids>())
          << c["messages"].dump();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Templates, Chats,
                         ::testing::Values("chat_qwen2_5_vl_bpe", "chat_qwen2_5_vl_spm_nano",
                                           "chat_qwen3_vl_embedding_bpe", "chat_llama2"),
                         [](const auto& info) { return std::string(info.param); });

class ChatTemplateFiles : public ::testing::Test {
 protected:
  std::shared_ptr<const ChatTemplate> load() const { return ChatTemplate::load(folder_.path(), *tokenizer_); }
  [[nodiscard]] std::string rendered() const {
    RenderOptions options;
    options.add_generation_prompt = false;
    return load()->render({{"user", {{ChatPart::Kind::kText, "x"}}, true}}, options);
  }
  TemporaryFolder folder_;
  std::shared_ptr<const Tokenizer> tokenizer_ = Tokenizer::load(data_folder() / "bpe");
};

TEST_F(ChatTemplateFiles, NoneIsNull) {
  EXPECT_EQ(load(), nullptr);
}

TEST_F(ChatTemplateFiles, WhichFileCounts) {
  folder_.write("tokenizer_config.json",
                R"({"chat_template": "config {{ eos_token }}{{ image_token }}{{ bos_token }}"})");
  EXPECT_EQ(rendered(), "config <|im_end|><|image_pad|>");
  folder_.write("chat_template.json", R"({"chat_template": "json {{ messages[0].content }}"})");
  EXPECT_EQ(rendered(), "json x");
  folder_.write("chat_template.jinja", "jinja {{ messages[0].role }}\n");
  EXPECT_EQ(rendered(), "jinja user");
}

TEST_F(ChatTemplateFiles, NamedTemplates) {
  folder_.write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]})");
  EXPECT_EQ(rendered(), "d");
  folder_.write("tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "r"}]})");
  EXPECT_THAT(message_of<ModelError>([&] { load(); }), HasSubstr("rag"));
  for (const char* bad :
       {R"({"chat_template": 5})", R"({"chat_template": [5]})", R"({"chat_template": [{"name": 1}]})"}) {
    folder_.write("tokenizer_config.json", bad);
    EXPECT_THROW(load(), ModelError) << bad;
  }
}

TEST_F(ChatTemplateFiles, DamagedTemplateNamesFileAndLine) {
  folder_.write("chat_template.jinja", "a\n{% if %}");
  EXPECT_THAT(message_of<ModelError>([&] { load(); }), HasSubstr("chat_template.jinja, line 2"));
}

TEST_F(ChatTemplateFiles, WrongOptions) {
  folder_.write("chat_template.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
  const auto chat = load();
  RenderOptions options;
  options.continue_final_message = true;
  const ChatMessage user{"user", {{ChatPart::Kind::kText, "x"}}, true};
  EXPECT_THROW(static_cast<void>(chat->render({user}, options)), InputError);
  options.add_generation_prompt = false;
  EXPECT_EQ(chat->render({user}, options), "x");
  EXPECT_THROW(static_cast<void>(chat->render({}, options)), InputError);
  EXPECT_THROW(static_cast<void>(chat->render({{"user", {{ChatPart::Kind::kImage, ""}}, false}}, options)),
               InputError);
  EXPECT_THROW(static_cast<void>(chat->render({{"user", {{ChatPart::Kind::kText, "\xFF"}}, true}}, options)),
               InputError);
}

}  // namespace
}  // namespace tte::text
