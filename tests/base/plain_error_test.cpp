#include "base/plain_error.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <new>
#include <stdexcept>
#include <system_error>

#include "base/not_finite.h"
#include "expect_error.h"
#include "tte/error.h"

namespace tte::base {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Lt;
using ::testing::SizeIs;
using ::tte::testing::message_of;

template <typename E>
std::string plain(const std::function<void()>& call) {
  return message_of<E>([&] { in_plain_words("item 3", "lower it", call); });
}

TEST(PlainError, AMessageThatMemoryCutShortIsOfMemory) {
  for (const char* words : {"", "[enforce fail a", "[enforce fail at alloc_cpu.cpp:127] . posix_memalign"}) {
    EXPECT_TRUE(is_out_of_memory(c10::Error(c10::SourceLocation{"", "", 0}, words)));
  }
  EXPECT_FALSE(
      is_out_of_memory(c10::Error(c10::SourceLocation{"", "", 0}, "[enforce fail at inline_container.cc")));
}

TEST(PlainError, MemoryThatRanOutSaysHowMuchWasWantedAndWhatToLower) {
  EXPECT_EQ(plain<OutOfMemoryError>([] { throw std::bad_alloc(); }), "item 3: memory ran out: lower it.");
  EXPECT_EQ(plain<OutOfMemoryError>([] { std::vector<char>().reserve(std::size_t(-1)); }),
            "item 3: memory ran out: lower it.");
  EXPECT_EQ(plain<OutOfMemoryError>([] { at::empty({std::int64_t{1} << 59}, at::kByte); }),
            "item 3: memory ran out where 576460752303423488 bytes were wanted: lower it.");
  EXPECT_EQ(plain<OutOfMemoryError>([] {
              TORCH_CHECK_WITH(
                  OutOfMemoryError, false,
                  "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 1 GiB.");
            }),
            "item 3: memory ran out where 20.00 MiB were wanted: lower it.");
}

TEST(PlainError, ErrorsOfTorchLoseTheirBacktrace) {
  EXPECT_EQ(plain<Error>([] { TORCH_CHECK(false, "shapes do not match"); }), "item 3: shapes do not match");
  EXPECT_THAT(plain<Error>([] { TORCH_CHECK(false, std::string(100'000, 'x')); }), SizeIs(Lt(400)));
}

TEST(PlainError, ThreadsThatTheSystemDoesNotGiveAreToldSo) {
  EXPECT_THAT(plain<DeviceError>([] {
                throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again));
              }),
              AllOf(HasSubstr("item 3"), HasSubstr("lower threads")));
}

TEST(PlainError, EverythingElseStaysAsItIs) {
  EXPECT_EQ(plain<InputError>([] { throw InputError("mine"); }), "mine");
  EXPECT_EQ(plain<std::logic_error>([] { throw std::logic_error("mine"); }), "mine");
  EXPECT_EQ(in_plain_words("a", "b", [] { return 5; }), 5);
}

TEST(NamedError, BeginsWithTheNameAndKeepsItsType) {
  const auto named = [](auto error) {
    return named_error(std::make_exception_ptr(error), "item 4", "lower it");
  };
  const auto message = [&]<typename E>(E error) {
    return message_of<E>([&] { std::rethrow_exception(named(error)); });
  };
  EXPECT_EQ(message(InputError("bad.")), "item 4: bad.");
  EXPECT_EQ(message(ModelError("bad.")), "item 4: bad.");
  EXPECT_EQ(message(NotFiniteError("bad.")), "item 4: bad.");
  EXPECT_EQ(message(DeviceError("bad.")), "item 4: bad.");
  EXPECT_EQ(message(OutOfMemoryError("bad.")), "item 4: bad.");
  EXPECT_EQ(message(Error("bad.")), "item 4: bad.");
  EXPECT_EQ(message(CancelledError("Stopped.")), "Stopped.");
  EXPECT_EQ(message(std::logic_error("mine")), "mine");
  EXPECT_EQ(message_of<OutOfMemoryError>([&] { std::rethrow_exception(named(std::bad_alloc())); }),
            "item 4: memory ran out: lower it.");
}

TEST(AsItIs, KeepsTheException) {
  try {
    as_it_is([] { throw InputError("mine"); });
    FAIL() << "nothing was thrown";
  } catch (const AsItIs& thrown) {
    EXPECT_EQ(message_of<InputError>([&] { std::rethrow_exception(thrown.error); }), "mine");
  }
}

}  // namespace
}  // namespace tte::base
