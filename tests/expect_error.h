// Expectations about what tte throws: the type, and the words that a reader of the message needs.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <exception>
#include <string>
#include <typeinfo>

namespace tte::testing {

// The message of the E that `call` throws; a test failure (and an empty string) if it throws anything else.
template <typename E, typename F>
std::string message_of(F&& call) {
  try {
    call();
  } catch (const E& error) {
    if (typeid(error) != typeid(E))
      ADD_FAILURE() << "a derived " << typeid(error).name() << ": " << error.what();
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another exception, " << typeid(error).name() << ": " << error.what();
    return "";
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

}  // namespace tte::testing
