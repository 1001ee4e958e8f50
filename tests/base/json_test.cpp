#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <limits>
#include <new>
#include <string>

#include "expect_error.h"
#include "temp_dir.h"

namespace {
// How often this thread can still allocate.
thread_local std::size_t allocations_left = std::numeric_limits<std::size_t>::max();
}  // namespace

void* operator new(std::size_t size) {
  if (allocations_left == 0) throw std::bad_alloc();
  --allocations_left;
  void* const block = std::malloc(size);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}
void operator delete(void* block) noexcept {
  std::free(block);
}
void operator delete(void* block, std::size_t) noexcept {
  std::free(block);
}

namespace tte::base {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;

class JsonFile : public ::testing::Test {
 protected:
  std::string error(std::string_view content) {
    const auto file = folder_.write("config.json", content);
    return message_of<ModelError>([&] { read_json(file); });
  }
  testing::TempDir folder_;
};

TEST_F(JsonFile, IsRead) {
  const Json json = read_json(folder_.write("a.json", R"({"a": [1, 2.5, "\u00e9é"], "b": null})"));
  EXPECT_EQ(json["a"][0], 1);
  EXPECT_EQ(json["a"][2], "éé");
  EXPECT_TRUE(json["b"].is_null());
}

// As in Python: editors of Windows write it.
TEST_F(JsonFile, MayBeginWithAByteOrderMark) {
  EXPECT_EQ(read_json(folder_.write("a.json", "\xEF\xBB\xBF{\"a\": 1}"))["a"], 1);
  EXPECT_THAT(error("{\xEF\xBB\xBF}"), HasSubstr("config.json is not valid JSON at line 1, column 2"));
}

TEST_F(JsonFile, TheLastOfTwoEqualKeysCounts) {
  EXPECT_EQ(read_json(folder_.write("a.json", R"({"a": 1, "b": 0, "a": {"c": 2}})"))["a"]["c"], 2);
}

TEST_F(JsonFile, AnErrorNamesFileLineAndColumn) {
  EXPECT_THAT(error("{\n  \"a\": 1,\n  \"b\": oops\n}"),
              AllOf(HasSubstr("config.json is not valid JSON at line 3, column 8"),
                    Not(HasSubstr("json.exception"))));
  EXPECT_THAT(error(""), HasSubstr("line 1, column 1"));
  EXPECT_THAT(error("{\"a\": 1"), HasSubstr("line 1, column 8"));
  EXPECT_THAT(error("{} {}"), HasSubstr("line 1, column 4"));
  EXPECT_THAT(error("{\"a\": NaN}"), HasSubstr("line 1"));
  EXPECT_THAT(error("{\"a\": 1e999}"), HasSubstr("config.json"));
}

TEST_F(JsonFile, InvalidUtf8IsAnErrorInValidUtf8) {
  const std::string message = error("{\"a\": \"\xff\xfe\"}");
  EXPECT_THAT(message, HasSubstr("config.json is not valid JSON at line 1, column 8"));
  EXPECT_TRUE(std::all_of(message.begin(), message.end(), [](char c) { return c > 0; })) << message;
}

// nlohmann's own destructor allocates, and ends the process where it cannot.
TEST_F(JsonFile, MemoryThatRunsOutAtAnyPlaceIsAnError) {
  const std::string text =
      R"({"a": [1, [2, {"b": ["a string that is long enough to be allocated"]}]], "c": {"d": {}}})";
  std::size_t allowed = 0;
  bool read = false;
  for (; !read; ++allowed) {
    allocations_left = allowed;
    try {
      const JsonObject object(parse_json(text, ""), "");
      read = true;
      allocations_left = 0;  // It is destroyed without any.
    } catch (const std::bad_alloc&) {
    }
    allocations_left = std::numeric_limits<std::size_t>::max();
  }
  EXPECT_GT(allowed, 10U);
}

TEST_F(JsonFile, DeepNestingIsAnError) {
  EXPECT_THAT(error(std::string(1'000'000, '[')),
              HasSubstr("nests deeper than 512 levels at line 1, column 513"));
  EXPECT_THAT(error("{\"a\":\n" + std::string(1000, '[') + std::string(1000, ']') + "}"),
              HasSubstr("line 2, column 512"));
  const std::string brackets_in_text = "{\"a\": \"\\\"" + std::string(1000, '[') + "\"}";
  EXPECT_NO_THROW(read_json(folder_.write("text.json", brackets_in_text)));
  EXPECT_NO_THROW(read_json(folder_.write("deep.json", std::string(512, '[') + std::string(512, ']'))));
  EXPECT_NO_THROW(parse_json("[[],[],{}]", "many"));
}

TEST_F(JsonFile, WhatIsNotAFileIsNamed) {
  EXPECT_THAT(message_of<ModelError>([&] { read_json(folder_.path() / "none.json"); }),
              AllOf(HasSubstr("none.json"), HasSubstr("does not exist")));
  EXPECT_THAT(message_of<ModelError>([&] { read_json(folder_.path()); }), HasSubstr("is not a file"));
}

TEST_F(JsonFile, TooLargeIsRefusedUnread) {
  const auto file = folder_.write("big.json", "{}");
  std::filesystem::resize_file(file, (std::uintmax_t{256} << 20) + 1);  // Sparse.
  EXPECT_THAT(message_of<ModelError>([&] { read_json(file); }),
              AllOf(HasSubstr("big.json"), HasSubstr("at most")));
}

TEST(Json, RequireNamesWhereAndKey) {
  const JsonObject json(parse_json(R"({"n": 3, "s": "x"})", "here"), "here");
  EXPECT_EQ(require<int>(json, "n"), 3);
  EXPECT_THAT(message_of<ModelError>([&] { require<int>(json, "m"); }),
              AllOf(HasSubstr("here"), HasSubstr("\"m\"")));
  EXPECT_THAT(message_of<ModelError>([&] { require<int>(json, "s"); }),
              AllOf(HasSubstr("here"), HasSubstr("\"s\""), HasSubstr("x")));
}

TEST(Json, GetOrFallsBackOnlyWhenAbsentOrNull) {
  const JsonObject json(parse_json(R"({"n": 3, "z": null, "s": "x"})", "here"), "here");
  EXPECT_EQ(get_or<int>(json, "n", 7), 3);
  EXPECT_EQ(get_or<int>(json, "z", 7), 7);
  EXPECT_EQ(get_or<int>(json, "absent", 7), 7);
  EXPECT_THROW(get_or<int>(json, "s", 7), ModelError);
}

}  // namespace
}  // namespace tte::base
