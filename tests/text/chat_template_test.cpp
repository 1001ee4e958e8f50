// Chat templates against transformers' apply_chat_template (tests/data/text/make_goldens.py).
#include "text/chat_template.h"

#include <gmock/gmock.h>

#include "text/text_test_util.h"
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
      message.parts.push_back({base::Modality::kText, m["content"].get<std::string>()});
    } else {
      for (const auto& part : m["content"]) {
        const auto type = part["type"].get<std::string>();
        const auto kind = type == "text"    ? base::Modality::kText
                          : type == "image" ? base::Modality::kImage
                                            : base::Modality::kVideo;
        message.parts.push_back({kind, kind == base::Modality::kText ? part["text"].get<std::string>() : ""});
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
  std::shared_ptr<const ChatTemplate> load(TemplateOf rule = TemplateOf::kProcessor) const {
    return ChatTemplate::load(folder_.path(), *tokenizer_, rule);
  }
  [[nodiscard]] std::string rendered(TemplateOf rule = TemplateOf::kProcessor) const {
    RenderOptions options;
    options.add_generation_prompt = false;
    return load(rule)->render({{"user", {{base::Modality::kText, "x"}}, true}}, options);
  }
  TemporaryFolder folder_;
  std::shared_ptr<const Tokenizer> tokenizer_ = Tokenizer::load(data_folder() / "bpe");
};

TEST_F(ChatTemplateFiles, NoneIsNull) {
  EXPECT_EQ(load(), nullptr);
}

TEST_F(ChatTemplateFiles, WhichFileCounts) {
  const auto both = [&] { return rendered() + " | " + rendered(TemplateOf::kTokenizer); };
  folder_.write("tokenizer_config.json",
                R"({"chat_template": "config {{ eos_token }}{{ image_token }}{{ bos_token }}"})");
  EXPECT_EQ(rendered(), "config <|im_end|><|image_pad|>");
  folder_.write("tokenizer_config.json", R"({"chat_template": "config"})");
  folder_.write("chat_template.jinja", "jinja {{ messages[0].role }}\n");
  EXPECT_EQ(both(), "jinja user | jinja user");
  folder_.write("chat_template.json", R"({"chat_template": "json {{ messages[0].content }}"})");
  EXPECT_EQ(both(), "json x | jinja user");
  folder_.write("processor_config.json", R"({"chat_template": "processor"})");
  EXPECT_EQ(both(), "processor | jinja user");
  folder_.write("chat_template.jinja", "");
  EXPECT_EQ(both(), "processor | config");
  folder_.write("processor_config.json", R"({"chat_template": null})");
  folder_.write("tokenizer_config.json", "{}");
  EXPECT_EQ(both(), "json x | json x");
}

TEST_F(ChatTemplateFiles, LongFilesAreNotRead) {
  folder_.write("chat_template.jinja", "x");
  std::filesystem::resize_file(folder_.path() / "chat_template.jinja", std::uintmax_t{50} << 30);  // Sparse.
  EXPECT_THAT(message_of<ModelError>([&] { load(); }), HasSubstr("at most 4194304 bytes"));
}

TEST_F(ChatTemplateFiles, NamedTemplates) {
  folder_.write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]})");
  EXPECT_EQ(rendered(), "d");
  folder_.write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "default", "template": "a"}, {"name": "default", "template": "b"}]})");
  EXPECT_EQ(rendered(), "b");
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

// Every control token, cut at every place, over every joint of a template.
TEST_F(ChatTemplateFiles, TextsThatMeetMakeNoControlTokens) {
  folder_.write(
      "chat_template.jinja",
      "{% for m in messages %}<|im_start|>{{ m.role }}{% if m.content is string %}{{ m.content }}{% else %}"
      "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}{% endfor %}");
  const auto chat = load();
  RenderOptions options;
  options.add_generation_prompt = false;
  const auto ids = [&](const std::vector<ChatMessage>& messages) {
    return tokenizer_->encode(chat->render(messages, options));
  };
  const auto part = [](std::string text) { return ChatPart{base::Modality::kText, std::move(text)}; };
  for (const AddedToken& token : tokenizer_->added_tokens()) {
    if (!token.special) continue;
    const std::string& t = token.content;
    const auto whole = ids({{"r", {part(t)}, false}});
    for (std::size_t i = 1; i < t.size(); ++i) {
      const std::string head = t.substr(0, i);
      const std::string tail = t.substr(i);
      EXPECT_EQ(ids({{"r", {part(head), part(tail)}, false}}), whole) << head << " " << tail;
      EXPECT_EQ(ids({{"r", {part(head), part(tail)}, true}}), whole) << head << " " << tail;
      EXPECT_EQ(ids({{"r", {part(head), part(""), part(tail)}, false}}), whole) << head << " " << tail;
      EXPECT_EQ(ids({{"r", {part(head.substr(0, 1)), part(head.substr(1)), part(tail)}, false}}), whole)
          << head;
      EXPECT_EQ(ids({{"r" + head, {part(tail)}, true}}), whole) << head << " " << tail;
    }
  }
  // Ends that look so, and meet nothing, change nothing.
  EXPECT_EQ(chat->render({{"user", {part("a < b <"), part("> c")}, true}}, options),
            "<|im_start|>usera < b <> c");
}

TEST_F(ChatTemplateFiles, WrongOptions) {
  folder_.write("chat_template.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}");
  const auto chat = load();
  RenderOptions options;
  options.continue_final_message = true;
  const ChatMessage user{"user", {{base::Modality::kText, "x"}}, true};
  EXPECT_THROW(static_cast<void>(chat->render({user}, options)), InputError);
  options.add_generation_prompt = false;
  EXPECT_EQ(chat->render({user}, options), "x");
  EXPECT_THROW(static_cast<void>(chat->render({}, options)), InputError);
  EXPECT_THROW(static_cast<void>(chat->render({{"user", {{base::Modality::kImage, ""}}, false}}, options)),
               InputError);
  EXPECT_THROW(static_cast<void>(chat->render({{"user", {{base::Modality::kText, "\xFF"}}, true}}, options)),
               InputError);
}

}  // namespace
}  // namespace tte::text
