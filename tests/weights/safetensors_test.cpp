#include "weights/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "expect_error.h"
#include "safetensors_file.h"
#include "tte/error.h"

namespace tte::weights {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::raw_safetensors;

std::vector<StoredTensor> read(std::string_view header, std::size_t data_bytes) {
  return read_safetensors(raw_safetensors(header, std::string(data_bytes, '\1')), "m.safetensors");
}

TEST(Safetensors, ListsTheTensorsInTheOrderOfTheirBytes) {
  const auto tensors = read(R"({"b":{"dtype":"F32","shape":[2,3],"data_offsets":[2,26]},)"
                            R"( "__metadata__":{"format":"pt","x":"y"},)"
                            R"( "a":{"shape":[],"dtype":"BF16","data_offsets":[0,2]}}   )",
                            26);
  ASSERT_EQ(tensors.size(), 2U);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].dtype, "BF16");
  EXPECT_TRUE(tensors[0].shape.empty());
  EXPECT_EQ(tensors[0].size, 2U);
  EXPECT_EQ(tensors[1].name, "b");
  EXPECT_EQ(tensors[1].shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(tensors[1].begin, tensors[0].begin + 2);
}

TEST(Safetensors, AcceptsWhatTheLibraryAccepts) {
  EXPECT_TRUE(read("{}", 0).empty());
  EXPECT_TRUE(read(R"({"__metadata__":null})", 0).empty());
  EXPECT_EQ(read(R"({"a":{"dtype":"F32","shape":[0,5],"data_offsets":[0,0]},)"
                 R"("b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                 R"("c":{"dtype":"U8","shape":[3,0],"data_offsets":[4,4]}})",
                 4)
                .size(),
            3U)
      << "tensors without elements, at the same place as others";
  EXPECT_EQ(
      read(
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"note":[{"deep":[1,"x",null,true]}],"n":1}})",
          4)
          .size(),
      1U)
      << "fields of later versions";
  EXPECT_EQ(read(R"({"a":{"dtype":"F4","shape":[2,3],"data_offsets":[0,3]}})", 3).size(), 1U);
  EXPECT_EQ(read(R"({"é\u0000\n":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]}})", 3).size(), 1U);
}

TEST(Safetensors, KnowsWhatItComputesWith) {
  EXPECT_EQ(scalar_type("F32"), at::kFloat);
  EXPECT_EQ(scalar_type("F16"), at::kHalf);
  EXPECT_EQ(scalar_type("BF16"), at::kBFloat16);
  for (const char* other : {"I64", "F64", "U8", "F8_E4M3", "", "f32"})
    EXPECT_FALSE(scalar_type(other)) << other;
}

struct Hostile {
  const char* what;
  std::string header;
  std::size_t data_bytes;
  const char* words;
};

std::string one_tensor(const std::string& info) {
  return R"({"layer.weight":{)" + info + "}}";
}

std::vector<Hostile> hostile_headers() {
  const std::string rest = R"("dtype":"F32","data_offsets":[0,4],"shape":)";
  return {
      {"empty header", "", 0, "does not begin with"},
      {"an array", "[]", 0, "does not begin with"},
      {"blank before the brace", " {}", 0, "does not begin with"},
      {"cut JSON", R"({"a":{"dtype":"F32")", 0, "not valid JSON at byte"},
      {"two values", "{}{}", 0, "not valid JSON at byte"},
      {"not UTF-8", "{\"\xff\xfe\":1}", 0, "not valid JSON at byte"},
      {"NaN", R"({"a":NaN})", 0, "not valid JSON at byte"},
      {"deep arrays", "{\"a\":" + std::string(1'000'000, '['), 0, "an array where"},
      {"deep arrays in a field that is skipped", one_tensor("\"x\":" + std::string(1'000'000, '[')), 0,
       "not valid JSON"},
      {"deep objects",
       [] {
         std::string text = "{";
         for (int i = 0; i < 1'000'000; ++i) text += "\"a\":{";
         return text;
       }(),
       0, "not valid JSON at byte"},
      {"a number for a tensor", R"({"layer.weight":7})", 0, "7 where"},
      {"null for a tensor", R"({"layer.weight":null})", 0, "null where"},
      {"metadata that is not strings", R"({"__metadata__":{"a":1}})", 0, "may only hold strings"},
      {"metadata that nests", R"({"__metadata__":{"a":{"b":"c"}}})", 0, "may only hold strings"},
      {"metadata that is a string", R"({"__metadata__":"pt"})", 0, "may only hold strings"},
      {"no fields", one_tensor(""), 0, "lacks"},
      {"no dtype", one_tensor(R"("shape":[1],"data_offsets":[0,4])"), 4, "lacks"},
      {"no shape", one_tensor(R"("dtype":"F32","data_offsets":[0,4])"), 4, "lacks"},
      {"no offsets", one_tensor(R"("dtype":"F32","shape":[1])"), 4, "lacks"},
      {"one offset", one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0])"), 4, "lacks"},
      {"three offsets", one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0,4,4])"), 4,
       "more than two"},
      {"two dtypes", one_tensor(R"("dtype":"F32","dtype":"F32")"), 4, "two fields \"dtype\""},
      {"unknown dtype", one_tensor(R"("dtype":"F33","shape":[1],"data_offsets":[0,4])"), 4,
       "unknown dtype \"F33\""},
      {"dtype is a number", one_tensor(R"("dtype":32)"), 4, "32 where"},
      {"negative dimension", one_tensor(rest + "[-1]"), 4, "-1 where"},
      {"fractional dimension", one_tensor(rest + "[1.0]"), 4, "1.0 where"},
      {"dimension in quotes", one_tensor(rest + "[\"1\"]"), 4, "\"1\" where"},
      {"dimension past int64", one_tensor(rest + "[9223372036854775808]"), 4,
       "a dimension of 9223372036854775808"},
      {"dimension past uint64", one_tensor(rest + "[18446744073709551617]"), 4, "where"},
      {"nested shape", one_tensor(rest + "[[1]]"), 4, "an array where"},
      {"65 dimensions",
       one_tensor(rest + "[1" +
                  [] {
                    std::string ones;
                    for (int i = 0; i < 64; ++i) ones += ",1";
                    return ones;
                  }() +
                  "]"),
       4, "more than 64 dimensions"},
      {"elements overflow to 4 bytes", one_tensor(rest + "[4294967297,4294967297,4294967297]"), 4,
       "impossible shape"},
      {"elements overflow to 0",
       one_tensor(R"("dtype":"F32","data_offsets":[0,0],"shape":[4294967296,4294967296])"), 0,
       "impossible shape"},
      {"bits overflow", one_tensor(R"("dtype":"F64","data_offsets":[0,0],"shape":[4611686018427387904])"), 0,
       "impossible shape"},
      {"strides overflow beside a zero",
       one_tensor(R"("dtype":"F32","data_offsets":[0,0],"shape":[0,4294967296,4294967296])"), 0,
       "impossible shape"},
      {"half a byte", one_tensor(R"("dtype":"F4","data_offsets":[0,1],"shape":[3])"), 1, "whole bytes"},
      {"shape larger than its bytes", one_tensor(rest + "[2]"), 4,
       "takes 4 bytes, but F32 of shape [2] needs 8"},
      {"shape smaller than its bytes", one_tensor(rest + "[0]"), 4, "needs 0"},
      {"negative offset", one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[-4,0])"), 4, "-4 where"},
      {"offsets reversed", one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])"), 4,
       "lies at bytes 4 to 0"},
      {"offsets past the end", one_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), 7,
       "lies at bytes 0 to 8 of 7"},
      {"huge offsets",
       one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,18446744073709551615])"),
       4, "lies at bytes"},
      {"bytes left over", one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])"), 5,
       "tensors end at byte"},
      {"data without tensors", "{}", 1, "tensors end at byte"},
      {"a hole in front", one_tensor(R"("dtype":"F32","shape":[1],"data_offsets":[1,5])"), 5,
       "leaving a hole"},
      {"a hole between",
       R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
       3, "leaving a hole"},
      {"overlap",
       R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "inside the one before it"},
      {"the same bytes twice",
       R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
       2, "inside the one before it"},
      {"a name twice",
       R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       4, "\"a\" appears twice"},
  };
}

TEST(Safetensors, HostileHeadersAreErrorsThatSayWhy) {
  for (const auto& hostile : hostile_headers()) {
    SCOPED_TRACE(hostile.what);
    EXPECT_THAT(message_of<ModelError>([&] { read(hostile.header, hostile.data_bytes); }),
                AllOf(HasSubstr("m.safetensors"), HasSubstr(hostile.words)));
  }
}

TEST(Safetensors, ErrorsNameTheTensor) {
  EXPECT_THAT(message_of<ModelError>(
                  [] { read(one_tensor(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), 4); }),
              HasSubstr("\"layer.weight\""));
}

TEST(Safetensors, EveryPrefixOfAGoodFileIsAnError) {
  const std::string file =
      testing::safetensors({{"a", testing::numbered({3, 2})}, {"b", testing::numbered({5})}});
  EXPECT_NO_THROW(read_safetensors(file, "whole"));
  for (std::size_t size = 0; size < file.size(); ++size) {
    EXPECT_THROW(read_safetensors(std::string_view(file).substr(0, size), "cut"), ModelError)
        << size << " bytes";
  }
}

TEST(Safetensors, FilesThatAreSomethingElseAreNamedSo) {
  const auto error = [](std::string_view file) {
    return message_of<ModelError>([&] { read_safetensors(file, "m.safetensors"); });
  };
  EXPECT_THAT(error("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
              AllOf(HasSubstr("Git LFS pointer"), HasSubstr("git lfs pull")));
  EXPECT_THAT(error(""), HasSubstr("only 0 bytes"));
  EXPECT_THAT(error("\x02"), HasSubstr("only 1 bytes"));
  EXPECT_THAT(error("<!DOCTYPE html><html></html>"), HasSubstr("not a safetensors file"));
  EXPECT_THAT(error("\xff\xff\xff\xff\xff\xff\xff\xff{}"), HasSubstr("header of 18446744073709551615 bytes"));
  EXPECT_THAT(error(std::string_view("\x03\0\0\0\0\0\0\0{}", 10)), HasSubstr("cut short"));
  EXPECT_THAT(error(std::string_view("\0\xe1\xf5\x05\0\0\0\0{}", 10)), HasSubstr("cut short"))
      << "100 MB: the limit";
  EXPECT_THAT(error(std::string_view("\1\xe1\xf5\x05\0\0\0\0{}", 10)), HasSubstr("more than the 100000000"));
}

}  // namespace
}  // namespace tte::weights
