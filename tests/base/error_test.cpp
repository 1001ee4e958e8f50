#include "tte/error.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace tte {
namespace {

template <typename E>
void expect_caught_as_base() {
  try {
    throw E("the sentence");
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "the sentence");
  }
  EXPECT_THROW(throw E("x"), std::runtime_error);
}

TEST(Error, EveryKindIsAnError) {
  expect_caught_as_base<InputError>();
  expect_caught_as_base<ModelError>();
  expect_caught_as_base<DeviceError>();
  expect_caught_as_base<OutOfMemoryError>();
  expect_caught_as_base<CancelledError>();
}

}  // namespace
}  // namespace tte
