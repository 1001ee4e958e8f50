#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "api/fixture.h"
#include "expect_error.h"
#include "remote/loopback.h"
#include "tte/tte.h"

namespace tte {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Loopback;

std::string answer(const std::string& body) {
  return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + body;
}

// "<think>so</think> a", in two pieces.
std::string good() {
  return answer(
      "data: {\"choices\": [{\"delta\": {\"reasoning\": \"so\"}}]}\n\n"
      "data: {\"choices\": [{\"delta\": {\"content\": \" a\"}, \"finish_reason\": \"stop\"}]}\n\n"
      "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 4, \"completion_tokens\": 2}}\n\ndata: "
      "[DONE]\n\n");
}

std::string refused(const std::string& message) {
  return "HTTP/1.1 400 x\r\nConnection: close\r\n\r\n{\"error\": {\"message\": \"" + message + "\"}}";
}

class RemoteReasonerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"}) ::unsetenv(name);
  }

  static Reasoner reasoner(const Loopback& server, RemoteOptions options = {}) {
    options.base_url = server.url();
    options.model = std::string("m");  // GCC 12 warns of an assigned literal where it inlines this.
    options.max_concurrent = 1;
    options.max_retries = 1;
    options.retry_delay = options.max_retry_delay = 0;
    return Reasoner::remote(options);
  }
};

TEST_F(RemoteReasonerTest, WritesTraces) {
  Loopback server({good()});
  std::vector<std::string> pieces;
  ThinkOptions options;
  options.on_token = [&](std::size_t, std::string_view text, std::int64_t id) {
    EXPECT_EQ(id, -1);
    pieces.emplace_back(text);
    return OnToken::kContinue;
  };
  const Trace trace = reasoner(server).think("x", options);
  EXPECT_EQ(trace.text, "<think>so</think> a");
  EXPECT_EQ(trace.thinking, "so");
  EXPECT_EQ(trace.conclusion, "a");
  EXPECT_EQ(trace.finish, FinishReason::kStop);
  EXPECT_EQ(trace.prompt_tokens, 4);
  EXPECT_EQ(trace.generated_tokens, 2);
  EXPECT_THAT(pieces, ElementsAre("<think>so", "</think> a"));
}

TEST_F(RemoteReasonerTest, SendsWhatTheTemplateReads) {
  Loopback server({good()});
  RemoteOptions options;
  options.template_options = {{"enable_thinking", false}, {"level", std::int64_t{2}}};
  static_cast<void>(reasoner(server, options).think("x"));
  ASSERT_EQ(server.requests().size(), 1U);
  EXPECT_THAT(server.requests()[0],
              HasSubstr(R"("chat_template_kwargs":{"enable_thinking":false,"level":2})"));
  options.template_options = {{"messages", "x"}};
  EXPECT_THROW(static_cast<void>(reasoner(server, options)), ModelError);
}

TEST_F(RemoteReasonerTest, ThinksForAnEmbedderThatIsLoadedHere) {
  Loopback server({good()});
  const std::vector<Input> inputs = {"x", testing::parts({testing::pattern(30, 40), "y"})};
  const auto result = ThinkThenEmbed(reasoner(server), testing::embedder()).run(inputs);
  const Trace trace = Trace::from_text("<think>so</think> a");
  EmbedCallOptions options;
  const Embeddings expected = testing::embedder().embed(inputs, {trace, trace}, options);
  ASSERT_EQ(result.embeddings.data.size(), expected.data.size());
  for (std::size_t i = 0; i < expected.data.size(); ++i) {
    EXPECT_NEAR(result.embeddings.data[i], expected.data[i], testing::kSame);
  }
  EXPECT_EQ(result.stats.generated_tokens, 4);
}

TEST_F(RemoteReasonerTest, ThinksForReplicas) {
  Loopback server({good()});
  BackendOptions options = testing::small_backend();
  options.threads = options.replicas.emplace(2);
  const Embedder embedder = Embedder::load(testing::kEmbedder, testing::float32(), Backend::make(options));
  const std::vector<Input> inputs = testing::questions();
  const auto result = ThinkThenEmbed(reasoner(server), embedder).run(inputs);
  const std::vector<std::optional<Trace>> traces(inputs.size(), Trace::from_text("<think>so</think> a"));
  EXPECT_EQ(result.embeddings.data, testing::embedder().embed(inputs, traces).data);
  for (const BackendStats& stats : embedder.backend().replica_stats()) EXPECT_GT(stats.prefill_tokens, 0);
}

TEST_F(RemoteReasonerTest, ARefusedItemIsOneItemsError) {
  Loopback server({refused("not this"), good()});
  ThinkOptions options;
  options.on_error = OnError::kSkip;
  const auto traces = reasoner(server).think({"x", "y"}, options);
  EXPECT_EQ(traces[0].finish, FinishReason::kError);
  EXPECT_THAT(traces[0].error, HasSubstr("item 0: the server"));
  EXPECT_EQ(traces[1].finish, FinishReason::kStop);
}

TEST_F(RemoteReasonerTest, ADeadServerEndsTheCall) {
  Loopback server({good(), ""});
  ThinkOptions options;
  options.on_error = OnError::kSkip;
  std::vector<std::size_t> finished;
  options.on_result = [&](std::size_t i, const Trace&) { finished.push_back(i); };
  EXPECT_THROW((void)reasoner(server).think(std::vector<Input>(20, "x"), options), RemoteError);
  EXPECT_THAT(finished, ElementsAre(0));
}

TEST_F(RemoteReasonerTest, SaysWhatItHasNot) {
  Loopback server({good()});
  const Reasoner remote = reasoner(server);
  EXPECT_EQ(remote.model().server, server.url());
  EXPECT_EQ(remote.model().path, "m");
  EXPECT_THAT(testing::message_of<Error>([&] { (void)remote.tokenizer(); }),
              HasSubstr("has no tokenizer here"));
  EXPECT_THAT(testing::message_of<Error>([&] { (void)remote.backend(); }), HasSubstr("has no backend here"));
}

}  // namespace
}  // namespace tte
