// Why one try brought no trace.
#pragma once

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>

namespace tte::remote {

// How often whoever waits looks at the caller's cancellation.
inline constexpr std::chrono::milliseconds kLookEvery{25};

// Whom a failure is told of once no try is left.
enum class Fault {
  kServer,  // Any item would fare the same: nobody is there, or it is about who asks, where, or how much at a time.
  kItem,    // The server says no to this item.
  kEither,  // It was asked, and no text came: the item's, unless one item after the other fares so.
};

// Never leaves remote/: the client turns it into a RemoteError once it will not try again. what() goes on after "the
// server <url> ", such as "answers 429 (slow down)".
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
  int status = 0;      // HTTP; 0: there was no answer.
  bool again = false;  // Another try may succeed.
  Fault fault = Fault::kEither;
  std::optional<double> wait;  // Seconds that the server asks for before another try.
  std::string remedy;
};

inline Failure failure(const std::string& why, bool again, std::string remedy = "look at its log") {
  Failure out(why);
  out.again = again;
  out.remedy = std::move(remedy);
  return out;
}

}  // namespace tte::remote
