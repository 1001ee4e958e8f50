#include "remote/request.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

#include "expect_error.h"
#include "tte/error.h"

namespace tte::remote {
namespace {

RemoteOptions options(const std::string& extra = "", bool stream = false) {
  RemoteOptions out;
  out.model = std::string(1, 'm');  // GCC 12 takes the plain assignment for an overflow.
  out.extra = extra;
  out.stream = stream;
  return out;
}

TEST(Request, HasWhatWasSetAndTheTwoThatAlwaysHold) {
  EXPECT_EQ(request_fields(options(), {}).dump(),
            R"({"model":"m","max_tokens":512,"temperature":0,"stream":false})");
  GenerateOptions decoding;
  decoding.max_new_tokens = 3;
  decoding.top_p = 0.5;
  decoding.stop = {"x"};
  EXPECT_EQ(request_fields(options("", true), decoding).dump(),
            R"({"model":"m","max_tokens":3,"top_p":0.5,"temperature":0,"stop":["x"],"stream":true,)"
            R"("stream_options":{"include_usage":true}})");
  EXPECT_EQ(
      request_fields(options(), {}, {{"enable_thinking", true}, {"effort", "low"}})["chat_template_kwargs"]
          .dump(),
      R"({"effort":"low","enable_thinking":true})");
  decoding.seed = std::uint64_t{std::numeric_limits<std::int64_t>::max()};
  EXPECT_EQ(request_fields(options(), decoding)["seed"], std::numeric_limits<std::int64_t>::max());
  ++*decoding.seed;
  EXPECT_EQ(
      testing::message_of<InputError>([&] { (void)request_fields(options(), decoding); }),
      "seed is 9223372036854775808, which a server cannot be sent: give one of at most 9223372036854775807 "
      "(2^63 - 1).");
  GenerateOptions servers;
  servers.checkpoint_sampling = true;
  EXPECT_FALSE(request_fields(options(), servers).contains("temperature"));
}

TEST(Request, FurtherFieldsWin) {
  EXPECT_EQ(request_fields(options(R"({"temperature": 1, "max_tokens": null, "x": {"y": []}})"), {}).dump(),
            R"({"model":"m","stream":false,"temperature":1,"x":{"y":[]}})");
  for (const char* bad : {"[]", "3", "{", R"({"model": "x"})", R"({"messages": []})", R"({"n": 2})"}) {
    EXPECT_THROW((void)parse_extra(bad), InputError) << bad;
  }
}

TEST(Request, MessagesComeLast) {
  base::Json fields = base::Json::object();
  fields["model"] = "m";
  Chat chat;
  chat.messages = R"([{"role":"user"}])";
  EXPECT_EQ(request_body(fields, chat), R"({"model":"m","messages":[{"role":"user"}]})");
  chat.continues = true;
  EXPECT_EQ(base::parse_json(request_body(fields, chat), "body").at("continue_final_message"), true);
}

}  // namespace
}  // namespace tte::remote
