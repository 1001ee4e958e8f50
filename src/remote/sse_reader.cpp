#include "remote/sse_reader.h"

#include <fmt/core.h>

#include "remote/failure.h"

namespace tte::remote {

void SseReader::append(std::string_view bytes) {
  if (line_.size() + data_.size() + bytes.size() > most_bytes_) {
    throw failure(fmt::format("sends an event of more than {} bytes", most_bytes_), false,
                  "look at what answers there, or raise max_response_bytes");
  }
  line_ += bytes;
}

void SseReader::push(std::string_view piece, const OnData& on_data) {
  while (!piece.empty()) {
    if (after_cr_ && piece.front() == '\n') piece.remove_prefix(1);  // The second half of the line's end.
    after_cr_ = false;
    const std::size_t end = piece.find_first_of("\r\n");
    append(piece.substr(0, end));
    if (end == std::string_view::npos) return;
    after_cr_ = piece[end] == '\r';
    piece.remove_prefix(end + 1);
    end_line(on_data);
  }
}

void SseReader::end_line(const OnData& on_data) {
  std::string_view line = line_;
  if (first_line_ && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
  first_line_ = false;
  if (line.empty() && has_data_) {
    on_data(data_);
    data_.clear();
    has_data_ = false;
  } else if (const std::size_t colon = line.find(':'); line.substr(0, colon) == "data") {
    line = colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
    if (line.starts_with(' ')) line.remove_prefix(1);
    if (has_data_) data_ += '\n';
    data_ += line;
    has_data_ = true;
  }
  line_.clear();
}

void SseReader::finish(const OnData& on_data) {
  if (!line_.empty()) end_line(on_data);
  end_line(on_data);
}

}  // namespace tte::remote
