// Placeholders in the text of a recipe.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace tte::prompt {

// The names of the placeholders of `piece` in their order: lower-case letters and underscores between braces.
// Other braces are text, so that a recipe can show JSON to a model.
std::vector<std::string> placeholders(std::string_view piece);

// Calls `text` with each stretch of plain text and `placeholder` with each name, in order.
void visit_piece(std::string_view piece, const std::function<void(std::string_view)>& text,
                 const std::function<void(std::string_view)>& placeholder);

}  // namespace tte::prompt
