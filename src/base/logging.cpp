#include "base/logging.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "base/printable.h"

namespace tte::base {
namespace {

std::shared_ptr<spdlog::logger> make_logger() {
  // Not in spdlog's registry: a program that uses spdlog itself keeps its own names, levels and shutdown.
  auto logger =
      std::make_shared<spdlog::logger>("tte", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_level(spdlog::level::warn);
  const char* wanted = std::getenv("TTE_LOG");
  if (wanted == nullptr || *wanted == '\0') return logger;
  const auto level = spdlog::level::from_str(wanted);
  // from_str answers "off" for words that it does not know.
  if (level == spdlog::level::off && std::string(wanted) != "off") {
    logger->warn("TTE_LOG is \"{}\": use trace, debug, info, warn, error, critical or off.",
                 printable(wanted, 40));
  } else {
    logger->set_level(level);
  }
  return logger;
}

}  // namespace

spdlog::logger& log() {
  // Never destroyed: threads that outlive static destruction may still log.
  static const auto& logger = *new std::shared_ptr<spdlog::logger>(make_logger());
  return *logger;
}

void warn_once(const std::string& message) {
  static std::mutex mutex;
  static std::set<std::string> said;
  const std::lock_guard lock(mutex);
  if (said.insert(message).second) log().warn("{}", message);
}

}  // namespace tte::base
