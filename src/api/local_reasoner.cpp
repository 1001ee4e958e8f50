#include "api/local_reasoner.h"

#include <utility>

#include "api/stages.h"
#include "base/plain_error.h"
#include "base/threads.h"
#include "engine/output_text.h"
#include "prompt/decoding.h"
#include "prompt/trace_text.h"

namespace tte::api {
namespace {

// The result as it was when the callback had seen `kept` tokens: the engine hears of it while it writes on.
void cut(engine::GenerateResult& result, std::size_t kept, std::shared_ptr<const text::Tokenizer> tokenizer,
         std::vector<std::string> stop) {
  if (kept >= result.ids.size()) return;
  result.ids.resize(kept);
  engine::OutputText text(std::move(tokenizer), std::move(stop));
  for (const std::int64_t id : result.ids) text.push(id);
  text.finish();
  result.text = text.text();
  result.finish = FinishReason::kCallback;
}

}  // namespace

LocalReasoner::LocalReasoner(const std::filesystem::path& checkpoint, const LoadOptions& options,
                             const Backend& backend)
    : model_(checkpoint, options, backend) {
  model_.loaded->model().check_generates();
  if (!options.draft) return;
  const base::AvailableThreads threads;
  drafts_ = base::in_plain_words(options.draft->checkpoint.string(), kLessOfACheckpoint,
                                 [&] { return backend.impl()->load_draft(*model_.loaded, *options.draft); });
}

ReadQuestion LocalReasoner::question_reader() const {
  return [builder = model_.builder](const Input& input, const prompt::PromptRequest& request,
                                    const models::Visuals* visuals, const CancelToken& stop) {
    if (visuals != nullptr) return Question{builder->begin(input, request, *visuals), 0};
    const models::Visuals own = builder->media().read(input, stop);
    return Question{builder->begin(input, request, own), bytes_of(own)};
  };
}

void LocalReasoner::think(Call& call, const ThinkJob& job, Thought then) const {
  const prompt::Recipe& recipe = model_.recipe();
  const prompt::GenerationConfig& config = model_.loaded->files->generation;
  engine::GenerateRequest request;
  request.prompt = std::get<std::shared_ptr<const models::Prompt>>(job.question.prompt);
  request.options = prompt::resolve(job.options, recipe.decoding, config);
  prompt::end_at_length(request.options, config, request.prompt->size());
  request.end_ids = config.end_ids;
  request.think_open = recipe.trace.open;
  request.think_close = recipe.trace.close;
  request.pin_state = job.pin_state;
  request.kept_layer = job.kept_layer;
  request.continues = job.continues;
  const std::size_t replica = call.replica(job.item, model_.router(), *request.prompt);
  if (!drafts_.empty()) request.draft = drafts_[replica];
  auto stream = std::make_shared<Stream>();
  request.on_token = token_callback(call, job, stream);
  auto finish = [this, stream, stop = request.options.stop, prompt_tokens = request.prompt->size(),
                 is_open = model_.builder->opens_thinking(*request.prompt), media = job.media_seconds,
                 then = std::move(then)](engine::GenerateResult result) {
    if (stream->kept) cut(result, *stream->kept, model_.loaded->files->tokenizer, stop);
    const prompt::TraceFormat& format = model_.recipe().trace;
    Trace trace;
    trace.text = std::move(result.text);
    prompt::split_trace(trace, format.open, format.close, is_open);
    trace.token_ids = std::move(result.ids);
    trace.vocabulary = model_.builder->vocabulary();
    trace.finish = result.finish;
    trace.prompt_tokens = prompt_tokens;
    trace.generated_tokens = static_cast<std::int64_t>(trace.token_ids.size());
    trace.reused_tokens = result.reused_tokens;
    trace.timings.media = media;
    trace.timings.queue = result.queue_seconds;
    trace.timings.prefill = result.prefill_seconds;
    trace.timings.decode = result.decode_seconds;
    then(std::move(trace), std::move(result.pin));
  };
  call.submit<engine::GenerateResult>(job.item, model_.engine(replica), std::move(request),
                                      std::move(finish));
}

}  // namespace tte::api
