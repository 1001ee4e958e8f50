// The fields of a chat completions request.
#pragma once

#include <string>

#include "base/json.h"
#include "remote/chat.h"
#include "tte/options.h"
#include "tte/remote.h"

namespace tte::remote {

// The object of RemoteOptions::extra. Throws InputError for anything else, and for fields that are tte's own.
base::Json parse_extra(const std::string& extra);

// The fields that are the same for every item of these settings. `decoding` holds what the caller and the recipe set;
// what neither does is left to the server, but for max_tokens and (without checkpoint_sampling) temperature. What the
// recipe and the caller tell the chat template becomes chat_template_kwargs. A field of `extra` wins over one of these,
// and one that is null takes it out.
base::Json request_fields(const RemoteOptions& options, const GenerateOptions& decoding,
                          const TemplateOptions& template_options = {});

// The whole body, as JSON.
std::string request_body(base::Json fields, const Chat& chat);

}  // namespace tte::remote
