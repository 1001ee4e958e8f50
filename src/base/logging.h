// Diagnostics for people who ask for them; what a caller must know is an exception instead.
#pragma once

#include <spdlog/logger.h>

#include <string>

namespace tte::base {

// The one logger, "tte", writing to stderr. Its level comes from the environment variable TTE_LOG (trace,
// debug, info, warn, error, critical, off), warn when unset. Thread-safe.
spdlog::logger& log();

// Warns, unless the same was said before. Thread-safe.
void warn_once(const std::string& message);

}  // namespace tte::base
