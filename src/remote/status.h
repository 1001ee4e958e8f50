// What a status of HTTP means for a request.
#pragma once

#include <string>

#include "remote/failure.h"

namespace tte::remote {

// The failure of an answer with this status (not 2xx) and what the server says.
Failure answered(int status, const std::string& message);

}  // namespace tte::remote
