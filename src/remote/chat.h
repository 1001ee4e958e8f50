// An item and its instruction become the messages that a server reads.
#pragma once

#include <memory>
#include <string>

#include "prompt/recipe.h"
#include "prompt/slots.h"
#include "tte/input.h"
#include "tte/options.h"

namespace tte::remote {

struct Chat {
  std::string messages;           // JSON, media in it.
  bool continues = false;         // The last turn is the assistant's, and left open.
  bool generation_prompt = true;  // Else as the recipe says.
};

// Immutable and thread-safe.
class ChatBuilder {
 public:
  // Throws ModelError for a recipe whose style is not "chat".
  ChatBuilder(prompt::Recipe recipe, const MediaLimits& limits);

  [[nodiscard]] const prompt::Recipe& recipe() const { return recipe_; }

  // Throws InputError for an item that is empty or contradicts itself, for text that is not UTF-8, and for media that
  // cannot be read or cost more than the limits allow; CancelledError soon after `stop`.
  [[nodiscard]] std::shared_ptr<const Chat> build(const Input& input, const prompt::PromptRequest& request,
                                                  const CancelToken& stop) const;

 private:
  prompt::Recipe recipe_;
  MediaLimits limits_;
};

}  // namespace tte::remote
