#include "remote/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "remote/loopback.h"
#include "tte/error.h"

namespace tte::remote {
namespace {

using ::testing::HasSubstr;
using testing::Loopback;
using ::testing::Not;

std::string streamed(const std::string& events) {
  return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + events;
}

std::string refused(int status, const std::string& message, const std::string& headers = "") {
  return "HTTP/1.1 " + std::to_string(status) + " x\r\n" + headers +
         "Connection: close\r\n\r\n{\"error\": {\"message\": \"" + message + "\"}}";
}

std::string good(const std::string& text) {
  return streamed(R"(data: {"choices": [{"delta": {"content": ")" + text +
                  R"("}, "finish_reason": "stop"}]})"
                  "\n\ndata: [DONE]\n\n");
}

class ClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"}) ::unsetenv(name);
    options_.model = std::string("m");
    options_.max_concurrent = 1;
    options_.retry_delay = options_.max_retry_delay = 0;
    options_.retry_seed = 1;
  }

  ChatResult ask(Loopback& server, ChatRequest request = {}) {
    options_.base_url = server.url();
    auto chat = std::make_shared<Chat>();
    chat->messages = R"([{"role":"user","content":"x"}])";
    request.chat = chat;
    return Client(options_).submit(std::move(request)).get();
  }

  RemoteOptions options_;
};

TEST_F(ClientTest, SendsTheMessagesAndTheKey) {
  Loopback server({good("a b")});
  options_.api_key = "secret";
  const ChatResult result = ask(server);
  EXPECT_EQ(result.reply.text, "a b");
  EXPECT_EQ(result.reply.finish, FinishReason::kStop);
  ASSERT_EQ(server.requests().size(), 1U);
  EXPECT_THAT(server.requests()[0], HasSubstr("POST /v1/chat/completions HTTP/1.1\r\n"));
  EXPECT_THAT(server.requests()[0], HasSubstr("\r\nAuthorization: Bearer secret\r\n"));
  EXPECT_THAT(server.requests()[0], HasSubstr(R"("messages":[{"role":"user","content":"x"}]})"));
}

TEST_F(ClientTest, TriesAgainWhatMayPass) {
  Loopback server({refused(429, "slow", "Retry-After: 100\r\n"), "", streamed("data: {\"choices\": []}\n\n"),
                   "nonsense\r\n\r\n", good("fine")});
  EXPECT_EQ(ask(server).reply.text, "fine");
  EXPECT_EQ(server.requests().size(), 5U);
}

TEST_F(ClientTest, GivesUpWithWhatTheServerSaidAndWithoutTheKey) {
  Loopback server({refused(503, "busy with secret")});
  options_.api_key = "secret";
  options_.max_retries = 2;
  try {
    (void)ask(server);
    FAIL();
  } catch (const RemoteError& error) {
    EXPECT_THAT(error.what(), HasSubstr("answers 503 (busy with ***), asked 3 times"));
    EXPECT_EQ(error.status(), 503);
    EXPECT_FALSE(error.of_item());
  }
}

TEST_F(ClientTest, DoesNotFollowARedirect) {
  Loopback other({good("stolen")});
  Loopback server({refused(307, "", "Location: " + other.url() + "/chat/completions?token=hidden\r\n")});
  options_.api_key = "secret";
  try {
    (void)ask(server);
    FAIL();
  } catch (const RemoteError& error) {
    EXPECT_THAT(error.what(), HasSubstr("a redirect to http://127.0.0.1:"));
    EXPECT_THAT(error.what(), Not(HasSubstr("hidden")));
  }
  EXPECT_TRUE(other.requests().empty());
}

TEST_F(ClientTest, ACancelledRequestIsNotMade) {
  Loopback server({good("a")});
  ChatRequest request;
  request.cancel.cancel();
  EXPECT_THROW((void)ask(server, std::move(request)), CancelledError);
  EXPECT_TRUE(server.requests().empty());
}

TEST_F(ClientTest, ACallbackStopsTheText) {
  Loopback server(
      {streamed("data: {\"choices\": [{\"delta\": {\"content\": \"a\"}}]}\n\n"
                "data: {\"choices\": [{\"delta\": {\"content\": \"b\"}}]}\n\n")});
  ChatRequest request;
  request.watched = true;
  request.on_token = [](std::int64_t id, const std::string&) {
    EXPECT_EQ(id, -1);
    return OnToken::kStop;
  };
  const ChatResult result = ask(server, std::move(request));
  EXPECT_EQ(result.reply.finish, FinishReason::kCallback);
}

}  // namespace
}  // namespace tte::remote
