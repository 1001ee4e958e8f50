#include "base/process_mark.h"

#include <unistd.h>

#include "tte/error.h"

namespace tte::base {

ProcessMark::ProcessMark() : process_(getpid()) {}

bool ProcessMark::elsewhere() const {
  return process_ != getpid();
}

void ProcessMark::check() const {
  if (!elsewhere()) return;
  throw DeviceError(
      "This process was forked from the one that made the engine, whose threads are not here: fork before "
      "the first "
      "backend is made, or start the process afresh.");
}

}  // namespace tte::base
