#include "text/check_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "expect_error.h"
#include "tte/error.h"

namespace tte::text {
namespace {

using ::testing::HasSubstr;
using tte::testing::message_of;

TEST(CheckText, NamesTheByteThatIsNotUtf8) {
  EXPECT_THAT(message_of<InputError>([] { require_utf8("ab\xFF"); }), HasSubstr("0xFF at offset 2"));
  EXPECT_NO_THROW(require_utf8("ab\xC3\xA9"));
}

TEST(CheckText, RefusesATextOfTooManyBytes) {
  EXPECT_NO_THROW(require_size(std::string(kMostTextBytes, 'a')));
  EXPECT_THAT(message_of<InputError>([] { require_size(std::string(kMostTextBytes + 1, 'a')); }),
              HasSubstr(std::to_string(kMostTextBytes + 1)));
}

}  // namespace
}  // namespace tte::text
