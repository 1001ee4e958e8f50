// The nano pair, loaded once for all tests in float32, so that results can be compared closely.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "prompt/fixture.h"
#include "tte/tte.h"

namespace tte::testing {

inline constexpr const char* kReasoner = TTE_SOURCE_DIR "/models/nano/reasoner";
inline constexpr const char* kEmbedder = TTE_SOURCE_DIR "/models/nano/embedder";
// Vectors of the same prompt, read in one piece or in several.
inline constexpr float kSame = 2e-5F;

inline BackendOptions small_backend() {
  BackendOptions options;
  options.device = "cpu";
  options.threads = 1;
  options.media_threads = 2;
  options.state_bytes = std::int64_t{64} << 20;
  options.max_running = 8;
  return options;
}

inline LoadOptions float32(const std::string& recipe = "") {
  LoadOptions options;
  options.dtype = "float32";
  options.recipe = recipe;
  return options;
}

inline const Backend& backend() {
  static const Backend backend = Backend::make(small_backend());
  return backend;
}

inline const Reasoner& reasoner() {
  static const Reasoner reasoner = Reasoner::load(kReasoner, float32(), backend());
  return reasoner;
}

inline const Embedder& embedder() {
  static const Embedder embedder = Embedder::load(kEmbedder, float32(), backend());
  return embedder;
}

// Questions with and without images, of several lengths and sizes.
inline std::vector<Input> questions() {
  return {
      parts({pattern(112, 112, 1), std::string("what is left of the red circle ?")}),
      Input("list the things in the picture"),
      parts({pattern(56, 84, 2), std::string("what is in the picture ?")}),
      parts({clip(4, 56, 56), std::string("how does the star move ?")}),
      parts({pattern(28, 28, 3), pattern(56, 56, 4)}),
  };
}

inline GenerateOptions tokens(int count) {
  GenerateOptions options;
  options.max_new_tokens = count;
  return options;
}

// Has another thread cancel once the first token is there, and at the latest before the thousandth.
inline TokenCallback cancelled_meanwhile(const CancelToken& cancel) {
  return [cancel, thread = std::make_shared<std::jthread>(), seen = 0](std::size_t, std::string_view,
                                                                       std::int64_t) mutable {
    if (++seen == 1) *thread = std::jthread([cancel] { cancel.cancel(); });
    if (seen == 1000) thread->join();
    return OnToken::kContinue;
  };
}

inline double norm(std::span<const float> vector) {
  return std::sqrt(std::inner_product(vector.begin(), vector.end(), vector.begin(), 0.0));
}

inline float distance(std::span<const float> a, std::span<const float> b) {
  float most = a.size() == b.size() ? 0.0F : INFINITY;
  for (std::size_t i = 0; i < a.size() && i < b.size(); ++i) {
    const float difference = std::abs(a[i] - b[i]);
    if (!(difference <= most)) most = difference;  // NaN, too.
  }
  return most;
}

}  // namespace tte::testing
