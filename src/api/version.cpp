#include "tte/version.h"

namespace tte {

const char* version() noexcept {
  return TTE_VERSION;
}

}  // namespace tte
