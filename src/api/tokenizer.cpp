#include "tte/tokenizer.h"

#include <fmt/core.h>

#include <utility>

#include "api/handle.h"
#include "api/model_with_recipe.h"
#include "api/tokenizer_impl.h"
#include "base/plain_error.h"
#include "tte/error.h"

namespace tte {

Tokenizer api::tokenizer_of(const prompt::CheckpointFiles& files) {
  return Tokenizer(std::make_shared<Tokenizer::Impl>(
      Tokenizer::Impl{files.tokenizer, files.chat_template, files.vocabulary, files.path.string()}));
}

Tokenizer::Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Tokenizer Tokenizer::load(const std::filesystem::path& checkpoint) {
  return base::in_plain_words(checkpoint.string(), api::kLessOfACheckpoint, [&] {
    const base::Checkpoint found = prompt::tokenizer_checkpoint(checkpoint);
    auto tokenizer = text::Tokenizer::load(found);
    auto chat_template = text::ChatTemplate::load(found, *tokenizer, text::TemplateOf::kTokenizer);
    auto vocabulary = prompt::vocabulary_digest(*tokenizer);
    return Tokenizer(std::make_shared<Impl>(
        Impl{std::move(tokenizer), std::move(chat_template), std::move(vocabulary), checkpoint.string()}));
  });
}

std::vector<std::int64_t> Tokenizer::encode(std::string_view text, bool parse_control) const {
  return api::held(impl_, "Tokenizer")->tokenizer->encode(text, parse_control);
}

std::string Tokenizer::decode(const std::vector<std::int64_t>& ids, bool skip_special) const {
  for (const std::int64_t id : ids) {
    if (id < 0) throw InputError(fmt::format("The token id {} is negative: ids start at 0.", id));
  }
  return api::held(impl_, "Tokenizer")->tokenizer->decode(ids, skip_special);
}

std::string Tokenizer::apply_chat_template(const std::vector<Message>& messages, bool add_generation_prompt,
                                           bool continue_final_message) const {
  const Impl& self = *api::held(impl_, "Tokenizer");
  if (!self.chat_template) throw ModelError(fmt::format("{} has no chat template.", self.where));
  if (add_generation_prompt && continue_final_message) {
    throw InputError(
        "add_generation_prompt and continue_final_message exclude each other: set one of them to false.");
  }
  std::vector<text::ChatMessage> chat;
  for (const Message& message : messages) {
    text::ChatMessage& turn = chat.emplace_back();
    turn.role = message.role;
    turn.plain = message.plain;
    for (const Part& part : message.parts) {
      using base::Modality;
      const auto* text = std::get_if<std::string>(&part);
      turn.parts.push_back({text != nullptr                       ? Modality::kText
                            : std::holds_alternative<Image>(part) ? Modality::kImage
                                                                  : Modality::kVideo,
                            text != nullptr ? *text : std::string()});
    }
  }
  text::RenderOptions options;
  options.add_generation_prompt = add_generation_prompt;
  options.continue_final_message = continue_final_message;
  options.guard_control_tokens = false;
  return self.chat_template->render(chat, options);
}

std::optional<std::int64_t> Tokenizer::id_of(std::string_view token) const {
  return api::held(impl_, "Tokenizer")->tokenizer->id_of(token);
}

std::int64_t Tokenizer::vocab_size() const {
  return api::held(impl_, "Tokenizer")->tokenizer->vocab_size();
}

std::optional<std::int64_t> Tokenizer::eos_id() const {
  return api::held(impl_, "Tokenizer")->tokenizer->eos_id();
}

std::optional<std::int64_t> Tokenizer::pad_id() const {
  return api::held(impl_, "Tokenizer")->tokenizer->pad_id();
}

const std::string& Tokenizer::vocabulary() const {
  return api::held(impl_, "Tokenizer")->vocabulary;
}

}  // namespace tte
