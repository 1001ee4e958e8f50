#include "tte/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

#include "expect_error.h"
#include "tte/error.h"

namespace tte {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <typename Options>
void expect_refused(const std::function<void(Options&)>& change, const std::string& words) {
  Options options;
  change(options);
  EXPECT_THAT(message_of<InputError>([&] { options.validate(); }), HasSubstr(words));
}

void refused(const std::function<void(GenerateOptions&)>& change, const std::string& words) {
  expect_refused<GenerateOptions>(change, words);
}
void refused_backend(const std::function<void(BackendOptions&)>& change, const std::string& words) {
  expect_refused<BackendOptions>(change, words);
}

TEST(BackendOptions, DefaultsAndEveryDeviceNameAreGood) {
  BackendOptions options;
  for (const char* device : {"auto", "cpu", "cuda", "cuda:0", "cuda:15", "cuda:1,cuda:0", "cuda:all"}) {
    options.device = device;
    EXPECT_NO_THROW(options.validate()) << device;
  }
}

TEST(BackendOptions, NamesOptionValueAndRange) {
  for (const char* device :
       {"", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:x", "cuda:9999", "cpu:0", "cpu,cuda:0", "cuda:0,", ",",
        "cuda:0;cuda:1", "cuda:0, cuda:1", "cuda:all,cuda:0", "cuda,cuda:1"}) {
    refused_backend([&](BackendOptions& o) { o.device = device; },
                    "device is \"" + std::string(device) + "\"");
  }
  refused_backend([](auto& o) { o.device = "cuda:0,cuda:1,cuda:0"; }, "device names \"cuda:0\" twice");
  refused_backend([](auto& o) { o.replicas = 0; }, "replicas is 0: it must be at least 1");
  refused_backend([](auto& o) { o.replicas = -2; }, "replicas is -2");
  for (const int parts : {-1, 0, 9}) {
    refused_backend([&](auto& o) { o.tensor_parallel = parts; },
                    "tensor_parallel is " + std::to_string(parts) + ": it must be between 1 and 8");
  }
  refused_backend(
      [](auto& o) {
        o.cuda_graphs = true;
        o.tensor_parallel = 2;
      },
      "cuda_graphs is on, but tensor_parallel is 2");
  refused_backend([](auto& o) { o.threads = -1; }, "threads is -1: it must be at least 0");
  refused_backend([](auto& o) { o.media_threads = -3; }, "media_threads is -3");
  refused_backend([](auto& o) { o.threads = 1 << 20; }, "threads is 1048576: it must be at most ");
  refused_backend([](auto& o) { o.threads = 2147483647; }, "threads is 2147483647: it must be at most ");
  refused_backend([](auto& o) { o.media_threads = 1 << 20; },
                  "media_threads is 1048576: it must be at most ");
  refused_backend([](auto& o) { o.state_bytes = -1; }, "state_bytes is -1");
  refused_backend([](auto& o) { o.max_step_tokens = 0; }, "max_step_tokens is 0: it must be at least 1");
  refused_backend([](auto& o) { o.max_running = 0; }, "max_running is 0");
  refused_backend([](auto& o) { o.prompt_lookup_tokens = -1; }, "prompt_lookup_tokens is -1");
  refused_backend([](auto& o) { o.prompt_lookup_tokens = 65; }, "between 0 and 64");
  refused_backend([](auto& o) { o.vision_cache_bytes = -1; }, "vision_cache_bytes is -1");
}

TEST(GenerateOptions, DefaultsAndLimitsAreGood) {
  GenerateOptions options;
  EXPECT_NO_THROW(options.validate());
  options = {.max_new_tokens = 1,
             .min_new_tokens = 1,
             .temperature = 0.0,
             .top_k = 0,
             .top_p = 1.0,
             .min_p = 0.0,
             .repetition_penalty = 1.0,
             .seed = 0,
             .stop = {"\n"},
             .stop_token_ids = {0},
             .ignore_eos = true,
             .max_think_tokens = 0};
  EXPECT_NO_THROW(options.validate());
}

TEST(GenerateOptions, NamesOptionValueAndRange) {
  refused([](auto& o) { o.max_new_tokens = 0; }, "max_new_tokens is 0: it must be at least 1");
  refused([](auto& o) { o.min_new_tokens = -1; }, "min_new_tokens is -1");
  refused([](auto& o) { o.max_new_tokens = 512, o.min_new_tokens = 513; },
          "min_new_tokens is 513: it must be at most max_new_tokens, which is 512");
  refused([](auto& o) { o.temperature = -0.5; }, "temperature is -0.5");
  refused([](auto& o) { o.top_k = -1; }, "top_k is -1");
  refused([](auto& o) { o.top_p = 1.5; }, "top_p is 1.5: it must be between 0 and 1");
  refused([](auto& o) { o.min_p = -0.1; }, "min_p is -0.1");
  refused([](auto& o) { o.temperature = 1e31; }, "temperature is 1e+31: it must be between 0 and 1e+30");
  refused([](auto& o) { o.repetition_penalty = 0.0; }, "repetition_penalty is 0");
  refused([](auto& o) { o.repetition_penalty = 1e-37; },
          "repetition_penalty is 1e-37: it must be between 1e-30 and 1e+30");
  refused([](auto& o) { o.stop = {"a", ""}; }, "stop[1] is empty");
  refused([](auto& o) { o.stop_token_ids = {5, -2}; }, "stop_token_ids[1] is -2");
  refused([](auto& o) { o.max_think_tokens = -1; }, "max_think_tokens is -1");
}

TEST(GenerateOptions, RefusesWhatIsNotANumber) {
  for (const double bad : {kNan, kInfinity, -kInfinity}) {
    refused([&](auto& o) { o.temperature = bad; }, "temperature is");
    refused([&](auto& o) { o.top_p = bad; }, "top_p is");
    refused([&](auto& o) { o.min_p = bad; }, "min_p is");
    refused([&](auto& o) { o.repetition_penalty = bad; }, "repetition_penalty is");
  }
}

}  // namespace
}  // namespace tte
