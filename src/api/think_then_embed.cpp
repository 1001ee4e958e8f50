#include "tte/think_then_embed.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>
#include <variant>

#include "api/call.h"
#include "api/handle.h"
#include "api/model_with_recipe.h"
#include "api/stages.h"
#include "api/token_sink.h"

namespace tte {
namespace {

using std::chrono::steady_clock;

double seconds_since(steady_clock::time_point begin) {
  return std::chrono::duration<double>(steady_clock::now() - begin).count();
}

// What an item is before either model has seen it.
struct Prompts {
  api::Question reason;                         // Empty if it is certain that nobody will think about it.
  std::shared_ptr<const models::Prompt> embed;  // Up to where the trace begins.
  std::int64_t bytes = 0;
};

// The margin of the best target over the second best, for vectors of any length.
class MarginRule {
 public:
  explicit MarginRule(const Embeddings& targets) : targets_(targets) {
    for (std::int64_t i = 0; i < targets.rows; ++i)
      norms_.push_back(norm(targets.row(static_cast<std::size_t>(i))));
  }

  [[nodiscard]] double margin(std::span<const float> vector) const {
    double best = -std::numeric_limits<double>::infinity();
    double second = best;
    const double own = norm(vector);
    for (std::size_t i = 0; i < norms_.size(); ++i) {
      const auto target = targets_.row(i);
      double dot = 0;
      for (std::size_t k = 0; k < target.size(); ++k) dot += static_cast<double>(target[k]) * vector[k];
      const double score = dot / std::max(own * norms_[i], 1e-12);
      if (std::isnan(score)) continue;  // A target that failed.
      second = std::max(second, std::min(best, score));
      best = std::max(best, score);
    }
    return best - second;
  }

 private:
  static double norm(std::span<const float> vector) {
    double sum = 0;
    for (const float value : vector) sum += static_cast<double>(value) * value;
    return std::sqrt(sum);
  }
  const Embeddings& targets_;
  std::vector<double> norms_;
};

// The layer whose hidden states an embedding head goes on from, if the reasoner is its base, which then keeps them.
std::optional<std::int64_t> kept_layer_of(const Reasoner::Impl& reasoner, const Embedder::Impl& embedder) {
  const std::optional<models::HeadInfo>& head = embedder.loaded->model().info().head;
  if (!head || reasoner.local() == nullptr) return std::nullopt;
  const bool is_base = reasoner.local()->loaded->model().info().fingerprint == head->base;
  return is_base ? std::optional(head->layer) : std::nullopt;
}

// One call. Every member is used on the calling thread only.
class Run {
 public:
  Run(const Reasoner::Impl& reasoner, const Embedder::Impl& embedder, const std::vector<Input>& inputs,
      const ThinkThenEmbedOptions& options)
      : reasoner_(reasoner),
        embedder_(embedder),
        inputs_(inputs),
        options_(options),
        one_engine_(reasoner.local() != nullptr && reasoner.local()->loaded == embedder.loaded),
        tapped_(kept_layer_of(reasoner, embedder)),
        one_media_(reasoner.local() != nullptr &&
                   reasoner.local()->builder->media().signature() == embedder.builder->media().signature()),
        prefilled_(embedder.loaded->replicas.size(), 0),
        items_(inputs.size()),
        sink_(embedder, options, inputs.size()),
        token_sink_(embedder, options, options.tokens.value_or(TokenOptions{}), inputs.size()),
        call_(options, inputs.size(), embedder.backend.impl()->media_pool(),
              std::max(reasoner.window(), embedder.window())) {
    if (options.auto_think.targets) margin_.emplace(*options.auto_think.targets);
    if (options.without_trace) plain_.emplace(embedder, options, inputs.size());
  }

  ThinkThenEmbedResult operator()() {
    check_latent();
    call_.name_of = [this](std::size_t i) { return api::item_name(inputs_[i], i); };
    call_.on_failed = [this](std::size_t i) { drop(i); };
    call_.run([this](std::size_t i) { begin(i); });
    ThinkThenEmbedResult result;
    result.embeddings = sink_.result(call_.errors());
    if (plain_) result.without_trace = plain_->result(call_.errors());
    if (options_.tokens) result.tokens = token_sink_.result();
    result.traces.resize(items_.size());
    for (std::size_t i = 0; i < items_.size(); ++i) result.traces[i] = std::move(items_[i].trace);
    result.timings = result.embeddings.timings;
    result.stats = stats_;
    result.stats.seconds = seconds_since(begin_);
    return result;
  }

 private:
  using Prompt = std::shared_ptr<const models::Prompt>;
  using Pin = std::shared_ptr<engine::PrefixPin>;

  // The embedder's prompt, read while the reasoner writes, or hidden states on their way to a head: they take their
  // part of what a pool may hold as long as this lives.
  class Prefix {
   public:
    Prefix(std::int64_t& total, std::int64_t bytes) : total_(total), bytes_(bytes) { total_ += bytes_; }
    ~Prefix() { total_ -= bytes_; }
    Prefix(const Prefix&) = delete;
    Prefix& operator=(const Prefix&) = delete;

    std::shared_ptr<std::atomic<bool>> wanted;  // Null once it is read.

   private:
    std::int64_t& total_;
    std::int64_t bytes_;
  };

  // The stages of an item, in their order; each owns what the item needs from there on.
  struct Opening {};  // Media and text become prompts.
  struct Trying {     // Its vector without a trace is made,
    Prompts prompts;
    bool decides = false;  // which is to say whether it is reasoned about (ThinkMode::kAuto).
  };
  struct Thinking {
    Prompt embed;
    Pin pin;  // Holds the embedder's state of this prompt, where there is one.
    std::unique_ptr<Prefix> prefix;
  };
  struct Waiting {  // The trace is there, the embedder still reads what comes before it.
    Prompt embed;
    std::unique_ptr<Prefix> prefix;
  };
  struct Embedding {
    bool thought = false;  // A trace was written for it.
    std::unique_ptr<Prefix> prefix;
  };
  struct Done {};

  struct Item {
    std::optional<Trace> trace;
    Timings timings;
    std::variant<Opening, Trying, Thinking, Waiting, Embedding, Done> stage;
  };

  // States and pixels are for the items that follow.
  void drop(std::size_t i) { items_[i].stage = Done{}; }

  [[nodiscard]] bool has_preset(const Task& task) const {
    return reasoner_.recipe().presets.contains(task.family) ||
           embedder_.recipe().presets.contains(task.family);
  }

  // Refuses a family that neither recipe has, in the words of one that has some.
  void check_task(std::size_t i) const {
    const Task task = api::task_of(options_, i);
    const prompt::Recipe &reason = reasoner_.recipe(), &embed = embedder_.recipe();
    if (!has_preset(task)) (void)(embed.presets.empty() ? reason : embed).preset(task);
  }

  // Refuses traces for a model that thinks in latent steps: for the whole call, before any item is read.
  void check_latent() const {
    const prompt::Recipe &reason = reasoner_.recipe(), &embed = embedder_.recipe();
    if (!reason.latent && !embed.latent) return;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const bool is_given = !options_.traces.empty() && options_.traces[i].has_value();
      const Task task = api::task_of(options_, i);
      // What is wrong with the item's task is said of the item.
      const bool thinks =
          !is_given && (task.family.empty() || has_preset(task)) && mode_of(i) != ThinkMode::kNever;
      if (is_given || thinks) embed.check_reads_traces();
      if (thinks) reason.check_writes_traces();
    }
  }

  // The item's task as `own` takes it: a family that only the other recipe has leaves it with its default
  // instruction.
  [[nodiscard]] Task task_of(std::size_t i, const prompt::Recipe& own, const prompt::Recipe& other) const {
    Task task = api::task_of(options_, i);
    if (!own.presets.contains(task.family) && other.presets.contains(task.family)) task.family.clear();
    return task;
  }

  [[nodiscard]] ThinkMode mode_of(std::size_t i) const {
    // Such a checkpoint given as both thinks while it embeds.
    if (reasoner_.recipe().latent && embedder_.recipe().latent) return ThinkMode::kNever;
    const ThinkMode mode = options_.think_each.empty() ? options_.think : options_.think_each[i];
    const Task task = task_of(i, reasoner_.recipe(), embedder_.recipe());
    if (mode == ThinkMode::kQueries)
      return task.side == Side::kQuery ? ThinkMode::kAlways : ThinkMode::kNever;
    if (mode == ThinkMode::kRecipe) {
      return reasoner_.recipe().preset(task).think ? ThinkMode::kAlways : ThinkMode::kNever;
    }
    return mode;
  }

  void begin(std::size_t i) {
    Item& item = items_[i];
    api::check_input(inputs_[i]);
    check_task(i);
    if (!options_.traces.empty()) item.trace = options_.traces[i];
    const ThinkMode mode = item.trace ? ThinkMode::kNever : mode_of(i);
    prompt::PromptRequest request{Stage::kEmbed, options_.instruction,
                                  task_of(i, embedder_.recipe(), reasoner_.recipe())};
    const Task reason_task = task_of(i, reasoner_.recipe(), embedder_.recipe());
    // The job owns what it reads: it may still run when the call has been left.
    std::function<Prompts()> job = [ask = ask_, embed = embedder_.builder, input = inputs_[i],
                                    trace = item.trace, request, reason_task, one_media = one_media_,
                                    think = mode != ThinkMode::kNever, plain = options_.without_trace,
                                    stop = call_.stopped()]() mutable {
      Prompts out;
      if (think) embed->check_takes_trace(input);
      const models::Visuals visuals = embed->media().read(input, stop);
      out.embed = embed->begin(input, request, visuals, trace && !plain ? &*trace : nullptr, stop);
      out.bytes = api::bytes_of(out.embed->visuals);
      if (think) {
        request.stage = Stage::kReason;
        request.task = reason_task;
        out.reason = ask(input, request, one_media ? &visuals : nullptr, stop);
        out.bytes += out.reason.bytes;
      }
      return out;
    };
    call_.prepare<Prompts>(i, std::move(job), [this, i, mode](Prompts begun, double seconds) {
      Item& ready = items_[i];
      ready.timings.media = seconds;
      call_.reserve_bytes(i, begun.bytes);
      const bool decides = mode == ThinkMode::kAuto;
      if (mode == ThinkMode::kAlways && !plain_) return think(i, std::move(begun), nullptr);
      const Prompt embed_prompt = begun.embed;
      if (decides || (plain_ && (ready.trace || mode == ThinkMode::kAlways))) {
        ready.stage = Trying{std::move(begun), decides};
      } else {
        ready.stage = Embedding{};
      }
      embed(i, embed_prompt, nullptr);
    });
  }

  // Where both models read the item: a pin of one of its requests is a state there.
  [[nodiscard]] std::size_t replica_of(std::size_t i, const models::Prompt& prompt) {
    return call_.replica(i, embedder_.router(), prompt);
  }

  // `pin`: of the embedder's state of the prompt.
  void think(std::size_t i, Prompts prompts, Pin pin) {
    Item& item = items_[i];
    api::ThinkJob job;
    job.item = i;
    job.question = std::move(prompts.reason);
    job.options = api::generate_options_of(options_, i);
    job.on_token = &options_.on_token;
    // One set of weights: the vector continues from the state that the trace left.
    // A head goes on from what it keeps.
    job.pin_state = one_engine_ || tapped_.has_value();
    job.kept_layer = tapped_;
    if (one_engine_) job.continues = std::exchange(pin, nullptr);
    // A state is no help where the states of all tokens are wanted.
    const bool in_pieces = !embedder_.loaded->model().info().whole_prompts;
    if (!job.pin_state && in_pieces && embedder_.builder->appends_trace() && !options_.tokens)
      job.on_begin = [this, i] { prefill(i); };
    job.media_seconds = item.timings.media;
    item.stage = Thinking{std::move(prompts.embed), std::move(pin), nullptr};
    reasoner_.think(call_, job,
                    [this, i](Trace trace, Pin state) { thought(i, std::move(trace), std::move(state)); });
  }

  // Input comes before trace, so the embedder reads the prompt while the reasoner writes. Asked for when the
  // trace begins, which is an event before the one of its end: the order is the same on every machine, and
  // the vector always continues from what was read. States that wait for traces take half of the pool at
  // most; an item beyond that is read when its trace is there.
  void prefill(std::size_t i) {
    Item& item = items_[i];
    auto& stage = std::get<Thinking>(item.stage);
    const models::Model& model = embedder_.loaded->model();
    const std::int64_t bytes = model.state_bytes(stage.embed->size());
    const std::size_t replica = replica_of(i, *stage.embed);
    if (stage.pin || prefilled_[replica] + bytes > model.state_capacity() / 2) return;
    engine::EncodeRequest request;
    request.prompt = stage.embed;
    request.output = engine::Output::kNothing;
    request.pin_state = true;
    const auto wanted = std::make_shared<std::atomic<bool>>(false);
    request.wanted = wanted;
    try {
      call_.submit<engine::EncodeResult>(
          i, embedder_.engine(replica), std::move(request),
          [this, i](const engine::EncodeResult& result) { prefilled(i, result.pin); });
    } catch (const InputError&) {
      return;  // What is too long is said by embed(), once the trace has been handed out.
    }
    stage.prefix = std::make_unique<Prefix>(prefilled_[replica], bytes);
    stage.prefix->wanted = wanted;
  }

  void prefilled(std::size_t i, Pin pin) {
    Item& item = items_[i];
    if (auto* thinking = std::get_if<Thinking>(&item.stage)) {
      thinking->prefix->wanted.reset();
      thinking->pin = std::move(pin);
    } else {
      Waiting waiting = std::move(std::get<Waiting>(item.stage));
      item.stage = Embedding{true, std::move(waiting.prefix)};
      embed(i, waiting.embed, std::move(pin));
    }
  }

  void thought(std::size_t i, Trace trace, Pin state) {
    Item& item = items_[i];
    ++stats_.thought;
    stats_.generated_tokens += trace.generated_tokens;
    stats_.prompt_tokens += trace.prompt_tokens;
    stats_.reused_tokens += trace.reused_tokens;
    item.timings.queue = trace.timings.queue;
    item.timings.prefill = trace.timings.prefill;
    item.timings.decode = trace.timings.decode;
    item.trace = std::move(trace);
    if (options_.on_trace) base::as_it_is([&] { options_.on_trace(i, *item.trace); });
    Thinking thinking = std::move(std::get<Thinking>(item.stage));
    if (!embedder_.builder->appends_trace())
      return begin_with_trace(i, thinking.embed, true, state ? std::move(state) : std::move(thinking.pin));
    if (thinking.prefix && thinking.prefix->wanted) {
      thinking.prefix->wanted->store(true);
      item.stage = Waiting{std::move(thinking.embed), std::move(thinking.prefix)};
    } else {
      item.stage = Embedding{true, std::move(thinking.prefix)};
      embed(i, thinking.embed, state ? std::move(state) : std::move(thinking.pin));
    }
  }

  // The prompt anew, with the trace that stands in it and the images that it points at; then its vector.
  void begin_with_trace(std::size_t i, const Prompt& without, bool thought, Pin pin) {
    const prompt::PromptRequest request{Stage::kEmbed, options_.instruction,
                                        task_of(i, embedder_.recipe(), reasoner_.recipe())};
    items_[i].stage = Embedding{thought, nullptr};
    // The job owns what it reads: it may still run when the call has been left.
    std::function<Prompt()> job = [builder = embedder_.builder, input = inputs_[i], request,
                                   visuals = without->visuals, trace = *items_[i].trace,
                                   stop = call_.stopped()] {
      return builder->begin(input, request, visuals, &trace, stop);
    };
    call_.prepare<Prompt>(i, std::move(job),
                          [this, i, pin = std::move(pin), without_bytes = api::bytes_of(without->visuals)](
                              const Prompt& prompt, double seconds) {
                            items_[i].timings.media += seconds;
                            call_.reserve_bytes(i, api::bytes_of(prompt->visuals) - without_bytes);
                            embed(i, prompt, pin);
                          });
  }

  // `pin`: of a state that the prompt begins with.
  void embed(std::size_t i, const Prompt& prompt, Pin pin) {
    Item& item = items_[i];
    const bool plain = !item.trace || std::holds_alternative<Trying>(item.stage);
    const prompt::EmbedPrompt closed = embedder_.builder->with_trace(prompt, plain ? nullptr : &*item.trace);
    if (tapped_ && pin && reserve_hidden(i, *closed.prompt)) return fetch_hidden(i, closed, std::move(pin));
    engine::EncodeRequest request;
    // If this turns out to be a question worth reasoning about, its prompt need not be read again.
    request.pin_state = std::holds_alternative<Trying>(item.stage);
    request.continues = std::move(pin);
    encode(i, closed, std::move(request), std::nullopt);
  }

  // Whether there is room for the hidden states of the prompt, which then are counted; else the embedder reads it
  // itself.
  bool reserve_hidden(std::size_t i, const models::Prompt& prompt) {
    const models::Model& base = reasoner_.local()->loaded->model();
    const models::ModelInfo& info = base.info();
    const std::int64_t bytes =
        prompt.size() * info.hidden_size * static_cast<std::int64_t>(c10::elementSize(info.dtype));
    std::int64_t& held = prefilled_[replica_of(i, prompt)];
    if (held + bytes > base.state_capacity() / 2) return false;
    std::get<Embedding>(items_[i].stage).prefix = std::make_unique<Prefix>(held, bytes);
    return true;
  }

  // The reasoner is the base of the embedder's head: it has the hidden states of prompt and trace, and reads what
  // stands behind them.
  void fetch_hidden(std::size_t i, const prompt::EmbedPrompt& closed, Pin pin) {
    engine::EncodeRequest request;
    request.prompt = closed.prompt;
    request.output = engine::Output::kKept;
    request.kept_layer = tapped_;
    if (closed.pooled_row >= 0 && !options_.tokens) request.row = closed.pooled_row;
    request.continues = std::move(pin);
    const auto begin = steady_clock::now();
    call_.submit<engine::EncodeResult>(i, reasoner_.local()->engine(replica_of(i, *closed.prompt)),
                                       std::move(request),
                                       [this, i, begin, closed](const engine::EncodeResult& result) {
                                         items_[i].timings.embed += seconds_since(begin);
                                         engine::EncodeRequest next;
                                         next.hidden = result.hidden;
                                         encode(i, closed, std::move(next), result.reused_tokens);
                                       });
  }

  // `reused`: tokens that were not read again, where that is known before.
  void encode(std::size_t i, const prompt::EmbedPrompt& closed, engine::EncodeRequest request,
              std::optional<std::int64_t> reused) {
    request.prompt = closed.prompt;
    request.output = options_.tokens ? engine::Output::kAllRows : api::output_of(embedder_.recipe().pooling);
    if (closed.pooled_row >= 0) request.row = closed.pooled_row;
    const auto begin = steady_clock::now();
    call_.submit<engine::EncodeResult>(i, embedder_.engine(replica_of(i, *closed.prompt)), std::move(request),
                                       [this, i, begin, closed, reused](engine::EncodeResult result) {
                                         items_[i].timings.embed += seconds_since(begin);
                                         result.reused_tokens = reused.value_or(result.reused_tokens);
                                         embedded(i, closed, result);
                                       });
  }

  void embedded(std::size_t i, const prompt::EmbedPrompt& closed, const engine::EncodeResult& result) {
    Item& item = items_[i];
    auto* trying = std::get_if<Trying>(&item.stage);
    if (trying != nullptr || !std::get<Embedding>(item.stage).thought)
      item.timings.queue = result.queue_seconds;
    const at::Tensor state = options_.tokens
                                 ? api::pooled_state(result.hidden, closed, embedder_.recipe().pooling)
                                 : result.hidden;
    const auto vector = sink_.store(i, state, item.timings, closed.prompt->size());
    stats_.prompt_tokens += closed.prompt->size();
    stats_.reused_tokens += result.reused_tokens;
    if (plain_ && (trying != nullptr || !item.trace))
      plain_->store(i, state, item.timings, closed.prompt->size());
    if (trying != nullptr && item.trace) {
      const Prompt prompt = trying->prompts.embed;
      const Pin pin = tapped_ ? nullptr : result.pin;
      if (!embedder_.builder->appends_trace()) return begin_with_trace(i, prompt, false, pin);
      item.stage = Embedding{};
      return embed(i, prompt, pin);
    }
    if (trying != nullptr && (!trying->decides || worth_thinking(i, vector)))
      return think(i, std::move(trying->prompts), result.pin);
    if (item.trace) item.trace->timings.embed = item.timings.embed;
    drop(i);
    const auto end = [this, i, vector] {
      if (options_.on_vector) base::as_it_is([&] { options_.on_vector(i, vector); });
      call_.finish(i);
    };
    if (!options_.tokens) return end();
    token_sink_.store(call_, i, closed, result.hidden, vector, end);
  }

  [[nodiscard]] bool worth_thinking(std::size_t i, std::span<const float> vector) const {
    if (options_.auto_think.decide) {
      return base::as_it_is([&] { return options_.auto_think.decide(i, vector); });
    }
    return margin_->margin(vector) < options_.auto_think.margin;
  }

  const Reasoner::Impl& reasoner_;
  const Embedder::Impl& embedder_;
  const std::vector<Input>& inputs_;
  const ThinkThenEmbedOptions& options_;
  bool one_engine_;
  std::optional<std::int64_t> tapped_;  // See kept_layer_of().
  bool one_media_;
  const api::ReadQuestion ask_ = reasoner_.question_reader();
  steady_clock::time_point begin_ = steady_clock::now();
  CallStats stats_;
  std::vector<std::int64_t> prefilled_;  // Bytes of all prefixes that wait for their traces, at each replica.
  std::vector<Item> items_;
  std::optional<MarginRule> margin_;
  api::VectorSink sink_;
  std::optional<api::VectorSink> plain_;  // Vectors without traces, where they are wanted.
  api::TokenSink token_sink_;
  api::Call call_;  // Last: left first, so that nothing arrives at members that are gone.
};

void check(const ThinkThenEmbedOptions& options, std::size_t items, std::int64_t dim) {
  api::check_generate_options(options, items);
  api::check_each("think_each", options.think_each.size(), items);
  api::check_each("traces", options.traces.size(), items);
  const auto is_auto = [](ThinkMode mode) { return mode == ThinkMode::kAuto; };
  const bool decides = options.think_each.empty()
                           ? is_auto(options.think)
                           : std::any_of(options.think_each.begin(), options.think_each.end(), is_auto);
  if (!decides) return;
  const AutoThink& rule = options.auto_think;
  if (static_cast<bool>(rule.decide) == static_cast<bool>(rule.targets)) {
    throw InputError(
        "ThinkMode::kAuto needs a rule: set exactly one of AutoThink.decide and AutoThink.targets.");
  }
  if (rule.targets && (rule.targets->dim != dim || rule.targets->rows < 2)) {
    throw InputError(
        fmt::format("AutoThink.targets has {} vectors of {} dimensions: it must have at least 2, of the {} "
                    "dimensions that this "
                    "call makes.",
                    rule.targets->rows, rule.targets->dim, dim));
  }
  if (rule.targets) api::check_rows(*rule.targets, "AutoThink.targets");
  if (rule.targets && !(rule.margin >= 0)) {
    throw InputError(fmt::format("AutoThink.margin is {}: it must be 0 or more.", rule.margin));
  }
}

}  // namespace

ThinkThenEmbed::ThinkThenEmbed(Reasoner reasoner, Embedder embedder)
    : reasoner_(std::move(reasoner)), embedder_(std::move(embedder)) {
  const api::ModelWithRecipe* local = api::held(reasoner_.impl(), "Reasoner")->local();
  const Backend backend = embedder_.backend();
  if (local != nullptr && local->backend.impl() != backend.impl()) {
    throw InputError(
        fmt::format("The reasoner {} and the embedder {} are on two backends: load both with the same "
                    "Backend, so that they can "
                    "share weights and states.",
                    reasoner_.model().path.string(), embedder_.model().path.string()));
  }
}

ThinkThenEmbedResult ThinkThenEmbed::run(const std::vector<Input>& inputs,
                                         const ThinkThenEmbedOptions& options) const {
  const auto reasoner = api::held(reasoner_.impl(), "ThinkThenEmbed");
  const auto embedder = api::held(embedder_.impl(), "ThinkThenEmbed");
  (options.tokens ? api::check_has_tokens : api::check_pools)(*embedder);
  check(options, inputs.size(), api::checked_dim(*embedder, options));
  return Run(*reasoner, *embedder, inputs, options)();
}

}  // namespace tte
