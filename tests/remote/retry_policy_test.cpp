#include "remote/retry_policy.h"

#include <gtest/gtest.h>

#include <set>

namespace tte::remote {
namespace {

TEST(RetryPolicy, DoublesWithARandomPartTakenOff) {
  const RetryPolicy policy{0.5, 60, 7};
  std::set<double> seen;
  for (int retry = 1; retry <= 6; ++retry) {
    const double full = 0.5 * (1 << (retry - 1));
    for (std::uint64_t request = 0; request < 20; ++request) {
      const double delay = policy.delay(retry, request, {});
      EXPECT_LE(delay, full);
      EXPECT_GE(delay, full / 2);
      EXPECT_EQ(delay, policy.delay(retry, request, {}));
      seen.insert(delay / full);
    }
  }
  EXPECT_EQ(seen.size(), 120U);
  EXPECT_NE(policy.delay(1, 0, {}), (RetryPolicy{0.5, 60, 8}.delay(1, 0, {})));
}

TEST(RetryPolicy, WaitsAsLongAsTheServerAsksButNoLongerThanItsBound) {
  const RetryPolicy policy{0.5, 60, 7};
  EXPECT_EQ(policy.delay(1, 0, 12.0), 12);
  EXPECT_EQ(policy.delay(1, 0, 1e9), 60);
  EXPECT_GE(policy.delay(7, 0, 1.0), 16);
  EXPECT_EQ(policy.delay(100, 0, {}), 60);
  EXPECT_EQ((RetryPolicy{0, 0, 7}.delay(3, 0, 5.0)), 0);
}

TEST(RetryAfter, IsANumberOrADate) {
  constexpr std::time_t kNow = 784111777;  // Sun, 06 Nov 1994 08:49:37 GMT.
  EXPECT_EQ(parse_retry_after("0", kNow), 0);
  EXPECT_EQ(parse_retry_after("120", kNow), 120);
  EXPECT_EQ(parse_retry_after("99999999999999999999", kNow), 1e9);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:51:07 GMT", kNow), 90);
  EXPECT_EQ(parse_retry_after("Sunday, 06-Nov-94 08:49:47 GMT", kNow), 10);
  EXPECT_EQ(parse_retry_after("Sun Nov  6 08:49:38 1994", kNow), 1);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:00:00 GMT", kNow), 0);
  for (const char* none : {"", "soon", "-5", "1.5.2x", "NaN"})
    EXPECT_EQ(parse_retry_after(none, kNow), std::nullopt) << none;
}

}  // namespace
}  // namespace tte::remote
