#include "remote/sse_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "remote/failure.h"

namespace tte::remote {
namespace {

using ::testing::ElementsAre;

// The data of a stream that comes in pieces of `size` bytes.
std::vector<std::string> read(const std::string& bytes, std::size_t size, std::size_t most = 1000) {
  std::vector<std::string> out;
  const auto take = [&](std::string_view data) { out.emplace_back(data); };
  SseReader reader(most);
  for (std::size_t i = 0; i < bytes.size(); i += size)
    reader.push(std::string_view(bytes).substr(i, size), take);
  reader.finish(take);
  return out;
}

struct Case {
  std::string bytes;
  std::vector<std::string> data;
};

TEST(SseReader, ReadsAsTheStandardSays) {
  const Case cases[] = {
      {"", {}},
      {"\n\n\n", {}},
      {"data: a\n\ndata: b\n\n", {"a", "b"}},
      {"data: a\r\n\r\ndata: b\r\n\r\n", {"a", "b"}},
      {"data: a\r\rdata: b\r\r", {"a", "b"}},
      {"data: a\r\n\rdata: b\n\r\n", {"a", "b"}},
      {"data:a\ndata:  b\ndata\ndata:\n\n", {"a\n b\n\n"}},
      {": comment\n:\n\ndata: a\n: in between\ndata: b\n\n", {"a\nb"}},
      {"event: x\nid: 1\nretry: 5\ndata: a\nnonsense\ndatax: c\n\n", {"a"}},
      {"event: x\n\nid: 1\n\n", {}},
      {"\xEF\xBB\xBF"
       "data: a\n\n",
       {"a"}},
      {"data: \xEF\xBB\xBF"
       "a\n\n\xEF\xBB\xBF"
       "data: b\n\n",
       {"\xEF\xBB\xBF"
        "a"}},
      {"data: Gr\xC3\xBC\xC3\x9F"
       "e \xF0\x9F\x98\x80\n\n",
       {"Gr\xC3\xBC\xC3\x9F"
        "e \xF0\x9F\x98\x80"}},
      {"data: a\n\ndata: b\ndata: c", {"a", "b\nc"}},
      {std::string("data: a\0b\n\n", 11), {std::string("a\0b", 3)}},
  };
  for (const Case& each : cases) {
    for (const std::size_t size : {1, 2, 3, 5, 100}) {
      EXPECT_EQ(read(each.bytes, size), each.data) << each.bytes << " in pieces of " << size;
    }
  }
}

TEST(SseReader, RefusesEndlessLinesAndEvents) {
  EXPECT_THAT(read("data: " + std::string(94, 'x') + "\n\n", 7, 100), ElementsAre(std::string(94, 'x')));
  EXPECT_THROW(read("data: " + std::string(95, 'x') + "\n\n", 7, 100), Failure);
  EXPECT_THROW(read(":" + std::string(100, 'x'), 7, 100), Failure);
  std::string lines;
  for (int i = 0; i < 20; ++i) lines += "data: 123456789\n";
  EXPECT_THROW(read(lines, 7, 100), Failure);
}

}  // namespace
}  // namespace tte::remote
