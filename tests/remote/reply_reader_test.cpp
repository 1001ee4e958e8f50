#include "remote/reply_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "remote/failure.h"
#include "remote/status.h"

namespace tte::remote {
namespace {

using ::testing::HasSubstr;

Reply read(const std::vector<std::string>& chunks) {
  ReplyReader reader("<t>", "</t>");
  for (const std::string& chunk : chunks) reader.chunk(chunk);
  reader.finish();
  return reader.reply();
}

std::string delta(const std::string& fields, const std::string& finish = "null") {
  return R"({"choices": [{"index": 0, "delta": {)" + fields + R"(}, "finish_reason": )" + finish + "}]}";
}

TEST(ReplyReader, PutsThinkingThatWasSplitOffBetweenTheTags) {
  EXPECT_EQ(read({delta(R"("content": "a")"), delta(R"("content": "b")", R"("stop")")}).text, "ab");
  EXPECT_EQ(read({delta(R"("reasoning": "a")"), delta(R"("reasoning": "b", "content": null)"),
                  delta(R"("content": "c")", R"("stop")")})
                .text,
            "<t>ab</t>c");
  EXPECT_EQ(read({delta(R"("reasoning": "a", "reasoning_content": "a", "content": "b")", R"("stop")")}).text,
            "<t>a</t>b");
  EXPECT_EQ(read({delta(R"("reasoning": "a")", R"("length")")}).text, "<t>a");
  EXPECT_EQ(read({delta(R"("reasoning": "a")", R"("stop")")}).text, "<t>a</t>");
}

TEST(ReplyReader, CountsAsTheServerDoes) {
  const Reply reply = read({delta(R"("content": "a")", R"("length")"),
                            R"({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2,
                               "prompt_tokens_details": {"cached_tokens": 4}}})",
                            "[DONE]"});
  EXPECT_EQ(reply.prompt_tokens, 5);
  EXPECT_EQ(reply.generated_tokens, 2);
  EXPECT_EQ(reply.reused_tokens, 4);
  EXPECT_EQ(reply.finish, FinishReason::kLength);
  EXPECT_EQ(read({delta(R"("content": "a")"), R"({"usage": {"prompt_tokens": -5, "completion_tokens": "x"}})",
                  "[DONE]"})
                .prompt_tokens,
            0);
}

TEST(ReplyReader, RefusesWhatIsNoWholeText) {
  for (const std::vector<std::string>& chunks : std::vector<std::vector<std::string>>{
           {},
           {"[DONE]"},
           {"x"},
           {"3"},
           {"null"},
           {"[]"},
           {"{}"},
           {R"({"choices": 1})"},
           {R"({"choices": []})", "[DONE]"},
           {delta(R"("content": "a")")},
           {delta(R"("content": "a")", R"("abort")")},
           {R"({"choices": [1, null, {}]})", "[DONE]"},
           {delta(R"("content": "a")", R"("")")},
           {delta(R"("content": 7)", R"("stop")")},
           {delta(R"("reasoning": [7])", R"("stop")")},
           {R"({"choices": [{"index": 1, "delta": {"content": "a"}}]})", "[DONE]"}}) {
    try {
      (void)read(chunks);
      ADD_FAILURE() << (chunks.empty() ? "nothing" : chunks.front());
    } catch (const Failure& failure) {
      EXPECT_TRUE(failure.again) << failure.what();
    }
  }
}

TEST(ReplyReader, AnAnswerWithoutATextIsTheItems) {
  const std::pair<std::string, const char*> answers[] = {
      {delta(R"("content": null)", R"("stop")"), "wrote no text (finish_reason \"stop\")"},
      {delta(R"("content": "")", R"("length")"), "wrote no text (finish_reason \"length\")"},
      {R"({"choices": [{"delta": null, "finish_reason": "stop"}]})", "wrote no text"},
      {delta(R"("content": null, "refusal": "I will not")", R"("stop")"), "refuses (\"I will not\")"},
      {delta(R"("content": "half", "tool_calls": [{}])", R"("tool_calls")"), "called a tool"},
      {delta(R"("content": "half")", R"("content_filter")"), "content filter"},
  };
  for (const auto& [json, words] : answers) {
    try {
      (void)read({json});
      ADD_FAILURE() << json;
    } catch (const Failure& failure) {
      EXPECT_THAT(failure.what(), HasSubstr(words)) << json;
      EXPECT_EQ(failure.fault, Fault::kItem) << json;
      EXPECT_FALSE(failure.again) << json;
    }
  }
}

TEST(ReplyReader, AnErrorInPlaceOfTextIsToldWithItsStatus) {
  const std::pair<const char*, int> errors[] = {
      {R"({"error": {"message": "too long", "code": 400}})", 400},
      {R"({"error": "too long", "code": 429})", 429},
      {R"({"object": "error", "error": {"message": "too long"}})", 500},
      {R"({"error": {"message": "too long", "code": "bad_request"}})", 500},
  };
  for (const auto& [json, status] : errors) {
    ReplyReader reader("", "");
    try {
      reader.chunk(json);
      ADD_FAILURE() << json;
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.status, status) << json;
      EXPECT_THAT(failure.what(), HasSubstr("too long")) << json;
      EXPECT_EQ(failure.again, status != 400) << json;
    }
  }
}

TEST(ErrorMessage, IsFoundWhereServersPutIt) {
  EXPECT_EQ(error_message(R"({"error": {"message": "a"}})"), "a");
  EXPECT_EQ(error_message(R"({"error": "a"})"), "a");
  EXPECT_EQ(error_message(R"({"object": "error", "message": "a"})"), "a");
  EXPECT_EQ(error_message(R"({"detail": "a"})"), "a");
  EXPECT_EQ(error_message("<html>\n"), "<html>\\x0a");
  EXPECT_EQ(error_message(""), "");
  EXPECT_LE(error_message(std::string(100'000, 'x')).size(), 200U);
}

TEST(Status, SaysWhoIsToBlameAndWhetherToTryAgain) {
  for (const int status : {408, 409, 425, 429, 500, 502, 503, 504, 529})
    EXPECT_TRUE(answered(status, "").again) << status;
  for (const int status : {301, 400, 401, 403, 404, 413, 418, 422})
    EXPECT_FALSE(answered(status, "").again) << status;
  for (const int status : {400, 413, 415, 422}) EXPECT_EQ(answered(status, "").fault, Fault::kItem) << status;
  for (const int status : {301, 401, 404, 429, 503})
    EXPECT_EQ(answered(status, "").fault, Fault::kServer) << status;
  for (const int status : {403, 418, 500, 502})
    EXPECT_EQ(answered(status, "").fault, Fault::kEither) << status;
}

}  // namespace
}  // namespace tte::remote
