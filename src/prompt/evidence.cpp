#include "prompt/evidence.h"

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "text/characters.h"
#include "tte/error.h"

namespace tte::prompt {
namespace {

using base::Json;

constexpr std::size_t kMostJson = 1 << 20;  // Bytes; a trace with more points at nothing.

// The first "{...}" without braces in it.
std::string_view object_in(std::string_view text) {
  for (std::size_t begin = text.find('{'); begin != std::string_view::npos;
       begin = text.find('{', begin + 1)) {
    const std::size_t end = text.find_first_of("{}", begin + 1);
    if (end == std::string_view::npos) break;
    if (text[end] == '}') return text.substr(begin, end + 1 - begin);
  }
  return {};
}

std::optional<Json> parsed(std::string_view text) {
  if (text.empty() || text.size() > kMostJson) return std::nullopt;
  try {
    return base::parse_json(text, "a trace");
  } catch (const Error&) {
    return std::nullopt;
  }
}

// Calls add() with the entries of a list at `key` until it answers false.
template <typename Add>
void for_each_entry(const Json& object, const std::string& key, Add add) {
  const auto list = object.find(key);
  if (list == object.end() || !list->is_array()) return;
  for (const Json& entry : *list) {
    if (!add(entry)) return;
  }
}

}  // namespace

std::optional<Evidence> evidence_of(std::string_view trace, const EvidenceRule& rule) {
  const std::size_t open = rule.points() ? trace.find(rule.open) : std::string_view::npos;
  if (open == std::string_view::npos) return std::nullopt;
  const std::size_t begin = open + rule.open.size();
  const std::size_t close = trace.find(rule.close, begin);
  if (close == std::string_view::npos) return std::nullopt;
  const std::optional<Json> object = parsed(object_in(trace.substr(begin, close - begin)));
  if (!object) return std::nullopt;
  Evidence out;
  const std::size_t end = close + rule.close.size();
  out.head = std::string(trace.substr(open, end - open)) + rule.behind;
  out.tail = text::strip(trace.substr(end));
  const auto most = static_cast<std::size_t>(rule.most);
  if (!rule.boxes.empty() && object->contains(rule.boxes)) {
    for_each_entry(*object, rule.boxes, [&](const Json& entry) {
      const auto numbers = base::strict_cast<std::vector<double>>(entry);
      if (numbers && numbers->size() >= 4)
        out.boxes.push_back({(*numbers)[0], (*numbers)[1], (*numbers)[2], (*numbers)[3]});
      return out.boxes.size() < most;
    });
  } else if (!rule.frames.empty()) {
    for_each_entry(*object, rule.frames, [&](const Json& entry) {
      if (const auto place = base::whole_number(entry, 0)) out.frames.push_back(*place);
      return out.frames.size() < most;
    });
  }
  return out;
}

std::optional<Crop> crop_of(const std::array<double, 4>& box, media::Size size, const EvidenceRule& rule) {
  const auto pixel = [&](double value, std::int64_t side) {
    const double at = std::trunc(value * static_cast<double>(side) / rule.scale);
    return static_cast<std::int64_t>(std::clamp(at, 0.0, static_cast<double>(side)));
  };
  const std::int64_t left = pixel(box[0], size.width), top = pixel(box[1], size.height);
  const Crop crop{left, top, pixel(box[2], size.width) - left, pixel(box[3], size.height) - top};
  const auto [shorter, longer] = std::minmax(crop.width, crop.height);
  if (shorter < rule.min_side) return std::nullopt;
  if (static_cast<double>(longer) / static_cast<double>(shorter) > rule.max_aspect) return std::nullopt;
  return crop;
}

}  // namespace tte::prompt
