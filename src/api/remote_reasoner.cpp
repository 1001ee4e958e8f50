#include "api/remote_reasoner.h"

#include <algorithm>
#include <string>
#include <utility>

#include "api/stages.h"
#include "base/digest.h"
#include "base/threads.h"
#include "prompt/decoding.h"
#include "prompt/find_recipe.h"
#include "prompt/trace_text.h"
#include "remote/endpoint.h"
#include "remote/request.h"

namespace tte::api {
namespace {

prompt::Recipe recipe_of(const RemoteOptions& options) {
  options.validate();
  return prompt::named_recipe(options.recipe.empty() ? "raw" : options.recipe, options.template_options);
}

ModelDescription describe(const RemoteOptions& options, const prompt::Recipe& recipe) {
  const remote::Endpoint endpoint = remote::parse_endpoint(options.base_url);
  ModelDescription out;
  out.path = options.model;
  out.server = endpoint.base_url;
  out.family = "remote";
  base::Digester hash;
  hash.text(endpoint.place).text(options.model).text(remote::parse_extra(options.extra).dump());
  out.fingerprint = hash.finish().hex();
  out.recipe = recipe.source.dump(2);
  out.recipe_reason = recipe.reason;
  return out;
}

}  // namespace

RemoteReasoner::RemoteReasoner(const RemoteOptions& options)
    : builder_(std::make_shared<remote::ChatBuilder>(recipe_of(options), options.media_limits)),
      client_(std::make_unique<remote::Client>(options)),
      media_pool_(std::make_unique<base::ThreadPool>(base::media_threads(options.media_threads))),
      description_(describe(options, builder_->recipe())),
      window_(2 * options.max_concurrent) {}

ReadQuestion RemoteReasoner::question_reader() const {
  return [builder = builder_](const Input& input, const prompt::PromptRequest& request,
                              const models::Visuals* /*visuals*/, const CancelToken& stop) {
    Question out;
    auto chat = builder->build(input, request, stop);
    out.bytes = static_cast<std::int64_t>(chat->messages.size());
    out.prompt = std::move(chat);
    return out;
  };
}

void RemoteReasoner::think(Call& call, const ThinkJob& job, Thought then) const {
  const prompt::TraceFormat& format = recipe().trace;
  remote::ChatRequest request;
  request.chat = std::get<std::shared_ptr<const remote::Chat>>(job.question.prompt);
  request.options = prompt::combined(job.options, recipe().decoding);
  request.template_options = recipe().prompt.template_options;
  request.open = format.open;
  request.close = format.close;
  request.watched = job.on_token != nullptr && *job.on_token;
  auto stream = std::make_shared<Stream>();
  request.on_token = token_callback(call, job, stream);
  auto finish = [&format, stream, media = job.media_seconds,
                 then = std::move(then)](remote::ChatResult result) {
    Trace trace;
    trace.text = std::move(result.reply.text);
    trace.finish = *result.reply.finish;
    // The server hears of a callback's wish while it writes on.
    if (stream->kept && *stream->kept < result.ends.size()) {
      trace.text.resize(result.ends[*stream->kept - 1]);
      trace.finish = FinishReason::kCallback;
    }
    prompt::split_trace(trace, format.open, format.close);
    trace.prompt_tokens = result.reply.prompt_tokens;
    trace.generated_tokens = result.reply.generated_tokens;
    trace.reused_tokens = result.reply.reused_tokens;
    trace.timings.media = media;
    trace.timings.queue = result.queue_seconds;
    trace.timings.prefill = result.first_seconds;
    trace.timings.decode = result.rest_seconds;
    then(std::move(trace), nullptr);
  };
  call.submit<remote::ChatResult>(job.item, *client_, std::move(request), std::move(finish));
}

}  // namespace tte::api
