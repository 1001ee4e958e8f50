#include "tte/reasoner.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "api/call.h"
#include "api/handle.h"
#include "api/local_reasoner.h"
#include "api/remote_reasoner.h"
#include "api/stages.h"
#include "api/tokenizer_impl.h"
#include "base/printable.h"

namespace tte {
namespace {

struct ReadyToScore {
  std::shared_ptr<const models::Prompt> prompt;
  std::int64_t bytes = 0;
};

// The model, where it is loaded here; else an Error about `what` is wanted of it.
const api::ModelWithRecipe& loaded_here(const Reasoner::Impl& impl, const char* what) {
  if (const api::ModelWithRecipe* local = impl.local()) return *local;
  throw Error(fmt::format(
      "The reasoner {} is behind the server {} and has no {} here: load a checkpoint of it for that.",
      base::printable(impl.description().path.string(), 80), base::printable(impl.description().server, 120),
      what));
}

using Ids = std::vector<std::int64_t>;

// Labels as tokens, and what has to be asked for all of them: after each beginning of a label, how likely the tokens
// are that go on.
struct Labels {
  std::vector<Ids> ids;
  std::map<Ids, Ids> next;  // In the order of their beginnings: the empty one is first.
};

constexpr std::size_t kLongestLabel = 1024;  // Tokens; each beginning is read by itself, and kept.

Labels labels_of(const std::vector<std::string>& labels, const text::Tokenizer& tokenizer) {
  if (labels.empty())
    throw InputError("There are no labels: give at least one text that the model may write.");
  Labels out;
  std::map<Ids, std::size_t> seen;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    Ids ids = tokenizer.encode(labels[i]);
    const std::string shown = base::printable(labels[i], 40);
    if (ids.empty())
      throw InputError(
          fmt::format("Label {} (\"{}\") is empty: give a text that the model may write.", i, shown));
    if (ids.size() > kLongestLabel)
      throw InputError(fmt::format(
          "Label {} (\"{}\") has {} tokens, over the limit of {}: give a word, or a few sentences.", i, shown,
          ids.size(), kLongestLabel));
    const auto [other, is_new] = seen.emplace(ids, i);
    if (!is_new) {
      throw InputError(fmt::format("Labels {} and {} are the same tokens (\"{}\"): give each once.",
                                   other->second, i, shown));
    }
    for (std::size_t length = 0; length < ids.size(); ++length) {
      Ids& next = out.next[Ids(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(length))];
      if (std::find(next.begin(), next.end(), ids[length]) == next.end()) next.push_back(ids[length]);
    }
    out.ids.push_back(std::move(ids));
  }
  return out;
}

// One item: the beginnings of labels are asked one after the other, each going on from the state of the prompt.
class Scoring : public std::enable_shared_from_this<Scoring> {
 public:
  Scoring(api::Call& call, const api::ModelWithRecipe& reasoner, std::size_t item, const Labels& labels,
          std::shared_ptr<const models::Prompt> prompt, std::span<float> out)
      : call_(call),
        reasoner_(reasoner),
        item_(item),
        labels_(labels),
        prompt_(std::move(prompt)),
        out_(out) {
    std::fill(out_.begin(), out_.end(), 0.0F);
  }

  void ask(std::map<Ids, Ids>::const_iterator next, const std::shared_ptr<engine::PrefixPin>& state) {
    if (next == labels_.next.end()) return call_.finish(item_);
    engine::EncodeRequest request;
    request.prompt = prompt::PromptBuilder::continued(prompt_, next->first);
    request.output = engine::Output::kLogProbs;
    request.candidates = next->second;
    request.pin_state = next->first.empty() && labels_.next.size() > 1;
    request.continues = state;
    call_.submit<engine::EncodeResult>(
        item_, reasoner_.engine(call_.replica(item_, reasoner_.router(), *prompt_)), std::move(request),
        [self = shared_from_this(), next, state](const engine::EncodeResult& result) {
          self->add(*next, result.hidden);
          self->ask(std::next(next), result.pin ? result.pin : state);
        });
  }

 private:
  void add(const std::pair<const Ids, Ids>& asked, const at::Tensor& log_probs) {
    const auto& [beginning, candidates] = asked;
    for (std::size_t label = 0; label < labels_.ids.size(); ++label) {
      const Ids& ids = labels_.ids[label];
      if (ids.size() <= beginning.size() || !std::equal(beginning.begin(), beginning.end(), ids.begin()))
        continue;
      const auto place = std::find(candidates.begin(), candidates.end(), ids[beginning.size()]);
      out_[label] += log_probs.const_data_ptr<float>()[place - candidates.begin()];
    }
  }

  api::Call& call_;
  const api::ModelWithRecipe& reasoner_;
  std::size_t item_;
  const Labels& labels_;
  std::shared_ptr<const models::Prompt> prompt_;
  std::span<float> out_;
};

}  // namespace

Reasoner::Reasoner(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Reasoner Reasoner::load(const std::filesystem::path& checkpoint, const LoadOptions& options,
                        const Backend& backend) {
  return Reasoner(std::make_shared<const api::LocalReasoner>(checkpoint, options, backend));
}

Reasoner Reasoner::remote(const RemoteOptions& options) {
  return Reasoner(std::make_shared<const api::RemoteReasoner>(options));
}

std::vector<Trace> Reasoner::think(const std::vector<Input>& inputs, const ThinkOptions& options) const {
  api::check_generate_options(options, inputs.size());
  const Impl& self = *api::held(impl_, "Reasoner");
  self.recipe().check_writes_traces();
  std::vector<Trace> traces(inputs.size());
  api::Call call(options, inputs.size(), self.media_pool(), self.window());
  call.name_of = [&](std::size_t i) { return api::item_name(inputs[i], i); };
  const api::ReadQuestion read = self.question_reader();
  call.run([&](std::size_t i) {
    api::check_input(inputs[i]);
    prompt::PromptRequest request{Stage::kReason, options.instruction, api::task_of(options, i)};
    // The job owns what it reads: it may still run when the call has been left.
    std::function<api::Question()> job = [read, input = inputs[i], request, stop = call.stopped()] {
      return read(input, request, nullptr, stop);
    };
    call.prepare<api::Question>(i, std::move(job), [&, i](api::Question question, double seconds) {
      call.reserve_bytes(i, question.bytes);
      api::ThinkJob think;
      think.item = i;
      think.question = std::move(question);
      think.options = api::generate_options_of(options, i);
      think.on_token = &options.on_token;
      think.media_seconds = seconds;
      self.think(call, think, [&, i](Trace trace, const auto&) {
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

LabelScores Reasoner::score(const std::vector<Input>& inputs, const std::vector<std::string>& labels,
                            const std::vector<std::optional<Trace>>& traces,
                            const ScoreOptions& options) const {
  api::check_each("traces", traces.size(), inputs.size());
  api::check_each("tasks", options.tasks.size(), inputs.size());
  const api::ModelWithRecipe& self = loaded_here(*api::held(impl_, "Reasoner"), "label scores");
  self.recipe().check_writes_traces();
  const Labels tokens = labels_of(labels, *self.loaded->files->tokenizer);
  LabelScores out;
  out.rows = static_cast<std::int64_t>(inputs.size());
  out.data.assign(inputs.size() * labels.size(), std::numeric_limits<float>::quiet_NaN());
  api::Call call(options, inputs.size(), self.backend.impl()->media_pool(), self.window());
  call.name_of = [&](std::size_t i) { return api::item_name(inputs[i], i); };
  const auto row = [&](std::size_t i) {
    return std::span(out.data).subspan(i * labels.size(), labels.size());
  };
  call.run([&](std::size_t i) {
    api::check_input(inputs[i]);
    prompt::PromptRequest request{Stage::kReason, options.instruction, api::task_of(options, i)};
    std::function<ReadyToScore()> job = [builder = self.builder, input = inputs[i], request,
                                         trace = traces.empty() ? std::nullopt : traces[i],
                                         stop = call.stopped()] {
      const models::Visuals visuals = builder->media().read(input, stop);
      auto prompt = builder->begin(input, request, visuals);
      if (trace) prompt = prompt::PromptBuilder::continued(prompt, builder->trace_ids(*trace));
      return ReadyToScore{std::move(prompt), api::bytes_of(visuals)};
    };
    call.prepare<ReadyToScore>(i, std::move(job), [&, i](const ReadyToScore& begun, double) {
      call.reserve_bytes(i, begun.bytes);
      std::make_shared<Scoring>(call, self, i, tokens, begun.prompt, row(i))
          ->ask(tokens.next.begin(), nullptr);
    });
  });
  out.errors = call.errors();
  std::sort(out.errors.begin(), out.errors.end(),
            [](const ItemError& a, const ItemError& b) { return a.index < b.index; });
  for (const ItemError& error : out.errors) {
    std::fill(row(error.index).begin(), row(error.index).end(), std::numeric_limits<float>::quiet_NaN());
  }
  return out;
}

bool Reasoner::thinks(const Task& task) const {
  const prompt::Recipe& recipe = api::held(impl_, "Reasoner")->recipe();
  return (recipe.presets.contains(task.family) ? recipe.preset(task) : recipe.instruction).think;
}

const ModelDescription& Reasoner::model() const {
  return api::held(impl_, "Reasoner")->description();
}

Backend Reasoner::backend() const {
  return loaded_here(*api::held(impl_, "Reasoner"), "backend").backend;
}

Tokenizer Reasoner::tokenizer() const {
  return api::tokenizer_of(*loaded_here(*api::held(impl_, "Reasoner"), "tokenizer").loaded->files);
}

}  // namespace tte
