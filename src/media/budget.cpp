#include "media/budget.h"

#include <fmt/core.h>
#include <malloc.h>

#include "tte/error.h"

namespace tte::media {
namespace {

constexpr std::int64_t kTrimBytes = std::int64_t{128} << 20;

}  // namespace

Budget::Budget(const MediaLimits& limits, CancelToken stop)
    : limits_(limits), stop_(std::move(stop)), allowed_pixels_(limits.max_item_pixels) {}

Budget::Loan Budget::borrow(std::int64_t bytes, const std::string& label) {
  if (bytes > limits_.max_item_bytes - bytes_) {
    const std::string beside =
        bytes_ > 0 ? fmt::format(" beside the {} that the item already holds", bytes_) : std::string();
    throw InputError(fmt::format(
        "{} needs {} bytes of memory{}, over the limit of {} an item; shrink it, take fewer images or "
        "frames, or raise max_item_bytes of MediaLimits.",
        label, bytes, beside, limits_.max_item_bytes));
  }
  bytes_ += bytes;
  return {this, bytes};
}

void Budget::keep(std::int64_t bytes, const std::string& label) {
  Loan loan = borrow(bytes, label);
  bytes_ += bytes;  // Beside the loan, which ends here.
  // What decoders freed between the blocks that an item keeps would else stay with the process: as much again.
  const std::int64_t before = std::exchange(kept_, kept_ + bytes);
  if (kept_ / kTrimBytes != before / kTrimBytes) ::malloc_trim(0);
}

bool Budget::refuses(std::int64_t pixels) const {
  return stop_.cancelled() || pixels > allowed_pixels_ - pixels_;
}

void Budget::work(std::int64_t pixels, const std::string& label) {
  require(pixels, label);
  pixels_ += pixels;
}

void Budget::require(std::int64_t pixels, const std::string& label) const {
  check_cancelled();
  if (pixels > allowed_pixels_ - pixels_) {
    throw InputError(fmt::format(
        "{} would have the decoder pass over {} pixels, over the limit of {} for an item of "
        "this size; convert it, take fewer images or frames, or raise max_item_pixels of MediaLimits.",
        label, pixels_ + pixels, allowed_pixels_));
  }
}

void Budget::check_cancelled() const {
  if (stop_.cancelled()) throw CancelledError("The call was left while its images and videos were read.");
}

}  // namespace tte::media
