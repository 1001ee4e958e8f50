#include "tte/reasoner.h"

#include <algorithm>
#include <utility>

#include "api/call.h"
#include "api/model_with_recipe.h"
#include "api/stages.h"

namespace tte {
namespace {

struct Opened {
  std::shared_ptr<const models::Prompt> prompt;
  std::int64_t bytes = 0;
};

}  // namespace

Reasoner::Reasoner(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Reasoner Reasoner::load(const std::filesystem::path& checkpoint, const LoadOptions& options,
                        const Backend& backend) {
  auto impl = std::make_shared<const Impl>(checkpoint, options, backend);
  impl->engine().model().check_generates();
  return Reasoner(std::move(impl));
}

std::vector<Trace> Reasoner::think(const std::vector<Input>& inputs, const ThinkOptions& options) const {
  api::check_generate_options(options, inputs.size());
  const Impl& self = *impl_;
  std::vector<Trace> traces(inputs.size());
  api::Call call(options, inputs.size(), self.backend.impl()->media_pool(), self.window());
  call.name_of = [&](std::size_t i) { return api::item_name(inputs[i], i); };
  call.run([&](std::size_t i) {
    api::check_input(inputs[i]);
    prompt::PromptRequest request{Stage::kReason, options.instruction, api::task_of(options, i)};
    // The job owns what it reads: it may still run when the call has been left.
    std::function<Opened()> job = [builder = self.builder, input = inputs[i], request,
                                   stop = call.stopped()] {
      const models::Visuals visuals = builder->media().read(input, stop);
      return Opened{builder->open(input, request, visuals), api::bytes_of(visuals)};
    };
    call.prepare<Opened>(i, std::move(job), [&, i](const Opened& opened, double seconds) {
      call.reserve_bytes(i, opened.bytes);
      api::ThinkJob think;
      think.item = i;
      think.prompt = opened.prompt;
      think.options = api::generate_options_of(options, i);
      think.on_token = &options.on_token;
      think.media_seconds = seconds;
      api::think(call, self, think, [&, i](Trace trace, const auto&) {
        traces[i] = std::move(trace);
        if (options.on_result) base::as_it_is([&] { options.on_result(i, traces[i]); });
        call.finish(i);
      });
    });
  });
  for (const ItemError& error : call.errors()) {
    traces[error.index].finish = FinishReason::kError;
    traces[error.index].error = error.message;
  }
  return traces;
}

Trace Reasoner::think(const Input& input, const ThinkOptions& options) const {
  return think(std::vector<Input>{input}, options).front();
}

bool Reasoner::thinks(const Task& task) const {
  const prompt::Recipe& recipe = impl_->recipe();
  return (recipe.presets.contains(task.family) ? recipe.preset(task) : recipe.instruction).think;
}

const ModelDescription& Reasoner::model() const {
  return impl_->description;
}

Backend Reasoner::backend() const {
  return impl_->backend;
}

Tokenizer Reasoner::tokenizer() const {
  return api::tokenizer_of(*impl_->loaded->files);
}

}  // namespace tte
