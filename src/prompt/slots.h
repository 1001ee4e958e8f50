// What the placeholders of a recipe's pieces stand for, for one item.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "prompt/recipe.h"
#include "text/chat_template.h"
#include "tte/input.h"
#include "tte/options.h"

namespace tte::prompt {

struct PromptRequest {
  Stage stage = Stage::kReason;
  // The call's: it wins over the recipe's, and an item's own over both.
  std::optional<std::string> instruction;
  Task task;
};

struct Slots {
  std::vector<text::ChatPart> content;
  std::string instruction;
  std::string request;
  std::vector<text::ChatPart> trace;
};

// How a text of the caller is written into a prompt.
using UserText = std::function<std::string(const std::string&)>;

// The slots of an item; none of one that is chat messages. Throws InputError for an item that is empty or contradicts
// itself, and for a task that the recipe does not have.
Slots slots_of(const Input& input, const PromptRequest& request, const Recipe& recipe, const UserText& write);

std::vector<text::ChatPart> chat_parts(const std::vector<Part>& parts, const UserText& write);

// The pieces with their placeholders filled; texts that meet become one.
std::vector<text::ChatPart> fill(const Pieces& pieces, const Slots& slots);

}  // namespace tte::prompt
