#include "models/config_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "expect_error.h"
#include "tte/error.h"

namespace tte::models {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

ConfigReader reader(const char* json) {
  return {base::parse_json(json, "config.json"), "config.json"};
}

TEST(ConfigReader, AbsentAndNullGiveTheDefault) {
  const ConfigReader config = reader(R"({"a": null})");
  EXPECT_EQ(config.integer("a", 7, 0, 9), 7);
  EXPECT_EQ(config.number("b", 0.5, 0, 1), 0.5);
  EXPECT_TRUE(config.flag("a", true));
  EXPECT_EQ(config.text("b", "x"), "x");
  EXPECT_EQ(config.integers("a", {1, 2}), (std::vector<std::int64_t>{1, 2}));
  EXPECT_TRUE(config.texts("b").empty());
  EXPECT_FALSE(config.has("a"));
  EXPECT_FALSE(config.object("a").has("b"));
}

TEST(ConfigReader, ReadsWhatIsThere) {
  const ConfigReader config =
      reader(R"({"i": 3, "n": 1e-6, "f": true, "t": "silu", "l": [1, 2], "s": ["a"], "o": {"i": 4}})");
  EXPECT_EQ(config.integer("i", 7, 0, 9), 3);
  EXPECT_EQ(config.number("n", 0.5, 0, 1), 1e-6);
  EXPECT_EQ(config.number("i", 0.5, 0, 9), 3.0);
  EXPECT_TRUE(config.flag("f", false));
  EXPECT_EQ(config.text("t", "x"), "silu");
  EXPECT_EQ(config.integers("l", {}), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(config.texts("s"), std::vector<std::string>{"a"});
  EXPECT_EQ(config.object("o").integer("i", 0, 0, 9), 4);
}

TEST(ConfigReader, NonsenseNamesFileKeyAndValue) {
  const ConfigReader config = reader(
      R"({"half": 3.5, "flag": true, "text": "many", "big": 18446744073709551615, "list": [1, "x"], "o": {"n": -2}})");
  EXPECT_THAT(message_of<ModelError>([&] { (void)config.integer("half", 0, 0, 9); }),
              AllOf(HasSubstr("config.json"), HasSubstr("half"), HasSubstr("3.5")));
  EXPECT_THAT(message_of<ModelError>([&] { (void)config.integer("flag", 0, 0, 9); }), HasSubstr("true"));
  EXPECT_THAT(message_of<ModelError>([&] { (void)config.integer("big", 0, 0, 9); }),
              HasSubstr("18446744073709551615"));
  EXPECT_THAT(message_of<ModelError>([&] { (void)config.number("text", 0, 0, 9); }), HasSubstr("many"));
  EXPECT_THAT(message_of<ModelError>([&] { (void)config.flag("text", false); }), HasSubstr("true or false"));
  EXPECT_THAT(message_of<ModelError>([&] { (void)config.text("half", ""); }), HasSubstr("string"));
  EXPECT_THAT(message_of<ModelError>([&] { (void)config.integers("list", {}); }), HasSubstr("whole numbers"));
  EXPECT_THAT(message_of<ModelError>([&] { (void)config.texts("list"); }), HasSubstr("strings"));
  EXPECT_THAT(message_of<ModelError>([&] { (void)config.object("o").number("n", 1, 0, 9); }),
              AllOf(HasSubstr("o.n"), HasSubstr("-2")));
  EXPECT_THAT(message_of<ModelError>([&] { (void)config.object("text"); }),
              AllOf(HasSubstr("text"), HasSubstr("object")));
}

}  // namespace
}  // namespace tte::models
