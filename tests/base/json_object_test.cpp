#include "base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "expect_error.h"
#include "tte/error.h"

namespace tte::base {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

JsonObject reader(const char* json) {
  return {parse_json(json, "config.json"), "config.json"};
}

TEST(JsonObject, AbsentAndNullGiveTheDefault) {
  const JsonObject config = reader(R"({"a": null})");
  EXPECT_EQ(config.integer("a", 7, 0, 9), 7);
  EXPECT_EQ(config.number("b", 0.5, 0, 1), 0.5);
  EXPECT_TRUE(config.flag("a", true));
  EXPECT_EQ(config.text("b", "x"), "x");
  EXPECT_EQ(config.integers("a", {1, 2}), (std::vector<std::int64_t>{1, 2}));
  EXPECT_TRUE(config.texts("b").empty());
  EXPECT_FALSE(config.has("a"));
  EXPECT_FALSE(config.object("a").has("b"));
}

TEST(JsonObject, ReadsWhatIsThere) {
  const JsonObject config =
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

TEST(JsonObject, NonsenseNamesFileKeyAndValue) {
  const JsonObject config = reader(
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

// 4294967310 is 14 in 32 bits.
TEST(JsonObject, NumbersAreNeverCut) {
  const JsonObject json(
      parse_json(
          R"({"wrap": 4294967310, "half": 14.5, "whole": 14.0, "flag": true, "big": 9223372036854775808,
          "least": -9223372036854775808, "list": [1, 2.0], "flags": [true]})",
          "here"),
      "here");
  for (const char* key : {"wrap", "half", "whole", "flag", "big"}) {
    EXPECT_THAT(message_of<ModelError>([&] { require<int>(json, key); }),
                AllOf(HasSubstr("here"), HasSubstr(key)));
    EXPECT_THROW(get_or<int>(json, key, 1), ModelError);
  }
  for (const char* key : {"half", "whole", "flag", "big"})
    EXPECT_THROW(require<std::int64_t>(json, key), ModelError) << key;
  EXPECT_EQ(require<std::int64_t>(json, "wrap"), 4294967310);
  EXPECT_EQ(require<std::int64_t>(json, "least"), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(require<double>(json, "wrap"), 4294967310.0);
  EXPECT_THROW(require<double>(json, "flag"), ModelError);
  EXPECT_THROW(require<bool>(json, "wrap"), ModelError);
  EXPECT_THROW(require<std::vector<std::int64_t>>(json, "list"), ModelError);
  EXPECT_THROW(require<std::vector<double>>(json, "flags"), ModelError);
  EXPECT_THROW(require<std::string>(json, "half"), ModelError);
}

TEST(JsonObject, OnlyKnownKeysAndChoices) {
  const JsonObject config = reader(R"({"mode": "fast", "n": 1})");
  EXPECT_NO_THROW(config.allow_only({"mode", "n"}));
  EXPECT_THAT(message_of<ModelError>([&] {
                config.allow_only({"mode", "m"});
              }),
              AllOf(HasSubstr("\"n\""), HasSubstr("mode, m")));
  EXPECT_EQ(config.choice("mode", {"slow", "fast"}), 1U);
  EXPECT_FALSE(config.choice("absent", {"slow"}));
  EXPECT_THAT(message_of<ModelError>([&] {
                (void)config.choice("mode", {"slow", "slower"});
              }),
              HasSubstr("slow, slower"));
}

TEST(JsonObject, AMessageStaysShort) {
  const std::string text = R"({"k": ")" + std::string(100'000, 'x') + R"(", "l": [1)" + [] {
    std::string list;
    for (int i = 0; i < 5000; ++i) list += ",1";
    return list;
  }() + "]}";
  const JsonObject config(parse_json(text, "here"), "here");
  for (const char* key : {"k", "l"})
    EXPECT_LT(message_of<ModelError>([&] { (void)config.flag(key, true); }).size(), 500U);
}

TEST(Json, KeysKeepTheirOrder) {
  const Json json = parse_json(R"({"z": 1, "a": 2, "m": 3, "z": 4})", "here");
  std::string keys;
  for (const auto& [key, value] : json.items()) keys += key;
  EXPECT_EQ(keys, "zam");
  EXPECT_EQ(json["z"], 4);
}

TEST(Json, ManyKeysAreFoundInTheirOrder) {
  std::string text = "{";
  for (int i = 200'000; i-- > 0;) text += fmt::format("\"{}\":{}{}", i, i, i > 0 ? "," : "}");
  const Json json = parse_json(text, "here");
  EXPECT_EQ(json.size(), 200'000U);
  EXPECT_EQ(json.begin().key(), "199999");
  for (const int i : {0, 17, 199'999}) EXPECT_EQ(json[std::to_string(i)], i);
  EXPECT_FALSE(json.contains("-1"));
  Json copy = json;
  copy.erase("17");
  EXPECT_FALSE(copy.contains("17"));
  EXPECT_EQ(copy["18"], 18);
  EXPECT_EQ(copy.size(), 199'999U);
}

}  // namespace
}  // namespace tte::base
