// Where requests go, and the key that goes with them: checked before anything is sent.
#pragma once

#include <string>

#include "tte/remote.h"

namespace tte::remote {

struct Endpoint {
  std::string base_url;  // Without a slash at its end.
  std::string place;     // What tells servers apart: host in lower case, port, path.

  [[nodiscard]] std::string chat_url() const { return base_url + "/chat/completions"; }
};

// Throws InputError, which shows neither password nor query, for what is not http or https, has a user, a password, a
// query or a fragment, or is no URL.
Endpoint parse_endpoint(const std::string& base_url);

// The key of the options, else of the environment; empty: none. Throws InputError, which does not show it, for one that
// no header can have.
std::string find_key(const RemoteOptions& options);

// An address of a server's as far as it may be shown: scheme and host.
std::string shown_origin(const std::string& url);

}  // namespace tte::remote
