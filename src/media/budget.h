// What the images and videos of one item may cost together. Internal to media/ and its callers.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_set>
#include <utility>

#include "tte/options.h"

namespace tte::media {

// Every decoder asks before it allocates and before it passes over pixels, so that a small file which unfolds
// into much is refused before it has cost much. One item, one thread.
class Budget {
 public:
  // Whoever asks for work is stopped once `stop` is cancelled: a call that was left does not go on decoding.
  explicit Budget(const MediaLimits& limits = {}, CancelToken stop = {});
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  // Memory that is given back by the destructor.
  class Loan {
   public:
    Loan() = default;
    Loan(Budget* budget, std::int64_t bytes) : budget_(budget), bytes_(bytes) {}
    Loan(Loan&& other) noexcept : budget_(std::exchange(other.budget_, nullptr)), bytes_(other.bytes_) {}
    Loan& operator=(Loan&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Loan() {
      if (budget_ != nullptr) budget_->bytes_ -= bytes_;
    }

   private:
    Budget* budget_ = nullptr;
    std::int64_t bytes_ = 0;
  };

  [[nodiscard]] const MediaLimits& limits() const { return limits_; }

  // Throws InputError, starting with `label`, when the item would then hold more than max_item_bytes.
  [[nodiscard]] Loan borrow(std::int64_t bytes, const std::string& label);
  // The same for what the item holds until it is done.
  void keep(std::int64_t bytes, const std::string& label);

  // The item has a file (or bytes, or an array) of that size, which allows more work. Videos of still scenes
  // have some thousand pixels for a byte; files made to keep a decoder busy, a million.
  // The same file a second time, told by `identity`, allows no more.
  void add_image(std::int64_t bytes, std::uint64_t identity) { add(1'000 * bytes, identity); }
  void add_video(std::int64_t bytes, std::uint64_t identity) { add(10'000 * bytes, identity); }
  // A decoder is about to pass over so many pixels. Throws InputError when that is more than the item may
  // have, CancelledError when the call was left.
  void work(std::int64_t pixels, const std::string& label);
  // The same question, before a decoder that asks for the work piece by piece begins.
  void require(std::int64_t pixels, const std::string& label) const;
  // Whether work(pixels) would throw: for callbacks of C libraries.
  [[nodiscard]] bool refuses(std::int64_t pixels) const;
  void check_cancelled() const;

 private:
  void add(std::int64_t pixels, std::uint64_t identity) {
    if (seen_.insert(identity).second) allowed_pixels_ += pixels;
  }

  MediaLimits limits_;
  CancelToken stop_;
  std::int64_t bytes_ = 0;
  std::int64_t kept_ = 0;
  std::int64_t allowed_pixels_;
  std::int64_t pixels_ = 0;
  std::unordered_set<std::uint64_t> seen_;
};

}  // namespace tte::media
