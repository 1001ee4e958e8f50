// Server-sent events out of the pieces in which a connection gives them.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace tte::remote {

// The data of each event, as the HTML standard reads a stream: lines end in LF, CR LF or CR, comments and other fields
// than `data` say nothing, lines of data are joined by LF. Bytes are not looked into: what is cut between two pieces,
// be it a character, is whole again.
class SseReader {
 public:
  using OnData = std::function<void(std::string_view data)>;

  explicit SseReader(std::size_t most_bytes) : most_bytes_(most_bytes) {}

  // Calls on_data for every event that the piece completes. Throws Failure for one of more than `most_bytes`.
  void push(std::string_view piece, const OnData& on_data);
  // The stream has ended: so has the event that was begun.
  void finish(const OnData& on_data);

 private:
  void end_line(const OnData& on_data);
  void append(std::string_view bytes);

  std::size_t most_bytes_;
  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_cr_ = false;
  bool first_line_ = true;
};

}  // namespace tte::remote
