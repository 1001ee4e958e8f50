#include "remote/endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "expect_error.h"
#include "tte/error.h"

namespace tte::remote {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Endpoint, IsReadFromWhatPeopleWrite) {
  for (const char* url : {"http://Host:8000/v1", "http://Host:8000/v1/",
                          "http://Host:8000/v1/chat/completions", "http://Host:8000/v1/chat/completions/"}) {
    const Endpoint endpoint = parse_endpoint(url);
    EXPECT_EQ(endpoint.chat_url(), "http://Host:8000/v1/chat/completions") << url;
    EXPECT_EQ(endpoint.place, "host:8000/v1") << url;
  }
  EXPECT_EQ(parse_endpoint("https://[::1]:8000").place, "[::1]:8000");
}

TEST(Endpoint, RefusesWhatIsNoPlainHttpAddressAndShowsNoSecret) {
  for (const char* url :
       {"", "host", "//host", "ftp://host", "http:///v1", "http://u:secret@host", "http://secret@host/v1",
        "http://host/?secret", "http://host/#secret", "http://host/\n", "http://ho st", "http://host:0x1"}) {
    try {
      (void)parse_endpoint(url);
      ADD_FAILURE() << url;
    } catch (const InputError& error) {
      EXPECT_THAT(error.what(), Not(HasSubstr("secret"))) << url;
      EXPECT_THAT(error.what(), HasSubstr("base_url is")) << url;
    }
  }
}

TEST(Endpoint, AnAddressIsShownByItsHostAlone) {
  EXPECT_EQ(shown_origin("https://u:secret@host:1/path?secret#secret"), "https://host:1");
  EXPECT_EQ(shown_origin("/elsewhere?secret"), "another address");
}

TEST(Key, IsTheGivenOneBeforeTheEnvironments) {
  RemoteOptions options;
  options.api_key_env = "TTE_TEST_KEY";
  ::unsetenv("TTE_TEST_KEY");
  EXPECT_EQ(find_key(options), "");
  ::setenv("TTE_TEST_KEY", "from-environment", 1);
  EXPECT_EQ(find_key(options), "from-environment");
  options.api_key = "given";
  EXPECT_EQ(find_key(options), "given");
  options.api_key = "a\r\nX-Evil: b";
  EXPECT_THROW((void)find_key(options), InputError);
  ::unsetenv("TTE_TEST_KEY");
}

}  // namespace
}  // namespace tte::remote
