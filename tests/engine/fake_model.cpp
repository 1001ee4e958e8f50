#include "engine/fake_model.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <bit>
#include <map>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "kernels/kernels.h"
#include "tte/error.h"

namespace tte::engine::testing {
namespace {

std::uint64_t scramble(std::uint64_t x) {
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

std::uint64_t combine(std::uint64_t hash, std::uint64_t value) {
  return scramble(hash * 31 + scramble(value + 1));
}

void require(bool condition, const char* what) {
  if (!condition) throw std::logic_error(std::string("fake model: ") + what);
}

std::uint64_t token_hash(std::uint64_t hash, std::int64_t id, const std::array<std::int64_t, 3>& position,
                         const float* feature) {
  hash = combine(hash, static_cast<std::uint64_t>(id));
  for (const std::int64_t axis : position) hash = combine(hash, static_cast<std::uint64_t>(axis));
  for (std::int64_t i = 0; feature != nullptr && i < kHidden; ++i) {
    hash = combine(hash, std::bit_cast<std::uint32_t>(feature[i]));
  }
  return hash;
}

// The hash itself in four exact pieces, then four numbers that look like hidden states.
void write_hidden(std::uint64_t hash, float* out) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<float>((hash >> (16 * i)) & 0xffff);
  for (int i = 4; i < kHidden; ++i) {
    out[i] = static_cast<float>(scramble(hash + static_cast<std::uint64_t>(i)) % 4096) / 4096.0F - 0.5F;
  }
}

std::uint64_t read_hash(const float* hidden) {
  std::uint64_t hash = 0;
  for (int i = 0; i < 4; ++i) hash |= static_cast<std::uint64_t>(hidden[i]) << (16 * i);
  return hash;
}

at::Tensor features_of(const models::Visual& visual) {
  const auto& patches = visual.patches;
  const std::int64_t tokens = patches.t * patches.h * patches.w / 4;
  at::Tensor features = at::empty({tokens, kHidden}, at::kFloat);
  for (std::int64_t i = 0; i < tokens; ++i) {
    write_hidden(combine(patches.digest.low, static_cast<std::uint64_t>(i)),
                 features[i].mutable_data_ptr<float>());
  }
  return features;
}

// What is read in a latent step.
void write_latent(const float* state, const float* context, std::int64_t step, float* out) {
  std::uint64_t hash = combine(17, static_cast<std::uint64_t>(step));
  for (std::int64_t i = 0; i < kHidden; ++i) {
    hash = combine(hash, std::bit_cast<std::uint32_t>(state[i]));
    hash = combine(hash, std::bit_cast<std::uint32_t>(context[i]));
  }
  write_hidden(hash, out);
}

// What tokens say that see all of a prompt.
void see_all(std::span<std::uint64_t> hashes) {
  const std::uint64_t last = hashes.back();
  for (std::uint64_t& hash : hashes) hash = combine(hash, last);
}

// A head of a made-up format, which keeps no numbers at all: logits are pseudo-random functions of the hash that
// hidden states carry.
at::Tensor hashed_logits(const at::Tensor& x, const kernels::Weight& weight) {
  const at::Tensor rows = x.contiguous();
  at::Tensor result = at::empty({rows.size(0), weight.outputs()}, at::kFloat);
  for (std::int64_t i = 0; i < rows.size(0); ++i) {
    const std::uint64_t hash = read_hash(rows.const_data_ptr<float>() + i * kHidden);
    float* out = result.mutable_data_ptr<float>() + i * weight.outputs();
    for (std::int64_t id = 0; id < weight.outputs(); ++id) {
      out[id] =
          static_cast<float>(scramble(hash + static_cast<std::uint64_t>(id) * 7919) % 100003) / 20000.0F;
    }
  }
  return result;
}
constexpr kernels::WeightFormat kHashed{.linear = nullptr, .linear_float = hashed_logits, .part = nullptr};

}  // namespace

struct FakeModel::Pool {
  std::mutex mutex;
  std::int64_t capacity = 0, slot = 0, used = 0, peak = 0;
  std::vector<Step> steps;
  std::vector<std::vector<std::int64_t>> vision_calls;
  std::map<std::uint64_t, std::vector<std::int64_t>> read;  // What was read, by hash; for scripts.
  std::atomic<bool> busy = false;

  bool take(std::int64_t bytes) {
    const std::lock_guard lock(mutex);
    if (used + bytes > capacity) return false;
    used += bytes;
    peak = std::max(peak, used);
    return true;
  }
  void give(std::int64_t bytes) {
    const std::lock_guard lock(mutex);
    used -= bytes;
  }
};

namespace {

// Pages that grow with the tokens and, if the model has one, a recurrent slot that can only be copied as it is.
class FakeState : public models::SequenceState {
 public:
  explicit FakeState(std::shared_ptr<FakeModel::Pool> pool) : pool_(std::move(pool)) {}
  ~FakeState() override { pool_->give(bytes_); }

  std::int64_t length() const override { return static_cast<std::int64_t>(ids.size()); }
  std::int64_t bytes() const override { return bytes_; }
  bool reserve(std::int64_t tokens) override {
    const std::int64_t wanted = pool_->slot + tokens;
    if (wanted <= bytes_) return true;
    if (!pool_->take(wanted - bytes_)) return false;
    bytes_ = wanted;
    return true;
  }
  void trim() override {
    pool_->give(bytes_ - pool_->slot - length());
    bytes_ = pool_->slot + length();
  }
  bool cuttable() const override { return pool_->slot == 0; }
  void cut(std::int64_t length) override {
    require(cuttable() && length > 0 && length <= this->length(), "cut outside the state");
    ids.resize(static_cast<std::size_t>(length));
    hashes.resize(static_cast<std::size_t>(length));
  }
  std::unique_ptr<models::SequenceState> fork(std::int64_t length) const override {
    require(length > 0 && length <= this->length(), "fork outside the state");
    if (!can_fork(length)) return nullptr;
    auto copy = std::make_unique<FakeState>(pool_);
    if (!copy->reserve(length)) return nullptr;
    copy->ids.assign(ids.begin(), ids.begin() + length);
    copy->hashes.assign(hashes.begin(), hashes.begin() + length);
    return copy;
  }
  std::uint64_t append(std::int64_t id, const std::array<std::int64_t, 3>& position, const float* feature) {
    require(pool_->slot + length() < bytes_, "append past the reserved room");
    ids.push_back(id);
    hashes.push_back(token_hash(hashes.empty() ? 7 : hashes.back(), id, position, feature));
    return hashes.back();
  }

  std::vector<std::int64_t> ids;
  std::vector<std::uint64_t> hashes;

 private:
  std::shared_ptr<FakeModel::Pool> pool_;
  std::int64_t bytes_ = 0;
};

}  // namespace

FakeTokenizer::FakeTokenizer() {
  added_ = {{"<eos>", kEos, true}, {"<think>", kThink, false}, {"</think>", kThinkEnd, false}};
  eos_id_ = kEos;
}

std::vector<std::int64_t> FakeTokenizer::encode(std::string_view text, bool) const {
  if (const auto id = id_of(text)) return {*id};
  return bytes_of(text);
}

std::string FakeTokenizer::token_bytes(std::int64_t id, bool) const {
  if (id < 256) return std::string(1, static_cast<char>(id));
  for (const auto& token : added_) {
    if (token.id == id) return token.content;
  }
  return "";
}

std::optional<std::int64_t> FakeTokenizer::id_of(std::string_view token) const {
  for (const auto& added : added_) {
    if (added.content == token) return added.id;
  }
  return std::nullopt;
}

FakeModel::FakeModel() : FakeModel(Options()) {}

FakeModel::FakeModel(Options options) : options_(std::move(options)), pool_(std::make_shared<Pool>()) {
  pool_->capacity = options_.capacity;
  pool_->slot = options_.slot;
  info_.family = "fake";
  info_.hidden_size = kHidden;
  info_.vocab_size = options_.vocab;
  info_.num_layers = 1;
  info_.max_positions = options_.max_positions;
  info_.fingerprint = {1, 2};
  info_.vision_fingerprint = {3, 4};
  info_.vision_identity = {3, 4};
  info_.whole_prompts = options_.whole;
  info_.latent = options_.latent;
}

FakeModel::~FakeModel() = default;

void FakeModel::check_generates() const {
  if (options_.whole) throw ModelError("fake model: it writes nothing.");
}

std::int64_t FakeModel::state_capacity() const {
  return options_.capacity;
}

std::unique_ptr<models::SequenceState> FakeModel::start(std::int64_t reserve) const {
  auto state = std::make_unique<FakeState>(pool_);
  if (!state->reserve(reserve)) return nullptr;
  return state;
}

std::vector<at::Tensor> FakeModel::encode_vision(
    std::span<const std::shared_ptr<const models::Visual>> visuals) const {
  if (on_vision) on_vision(visuals);
  std::vector<at::Tensor> result;
  std::vector<std::int64_t> patches;
  for (const auto& visual : visuals) {
    result.push_back(features_of(*visual));
    patches.push_back(visual->patches.t * visual->patches.h * visual->patches.w);
  }
  const std::lock_guard lock(pool_->mutex);
  pool_->vision_calls.push_back(std::move(patches));
  return result;
}

at::Tensor FakeModel::forward(const models::RaggedBatch& batch) const {
  require(!pool_->busy.exchange(true), "two forward calls at once");
  const std::shared_ptr<void> leave(nullptr, [this](void*) { pool_->busy = false; });
  if (on_forward) on_forward(batch);

  Step step;
  const std::int64_t total = batch.ids.size(0);
  require(batch.positions.size(0) == 3 && batch.positions.size(1) == total, "positions are not [3, tokens]");
  const auto* ids = batch.ids.const_data_ptr<std::int64_t>();
  const auto* positions = batch.positions.const_data_ptr<std::int64_t>();
  std::map<std::int64_t, const float*> features;
  if (batch.visual_rows.defined()) {
    step.visual_rows = batch.visual_rows.size(0);
    require(batch.visual_features.size(0) == step.visual_rows, "visual rows and features differ");
    require(batch.visual_features.is_contiguous(), "features are not contiguous");
    for (std::int64_t i = 0; i < step.visual_rows; ++i) {
      const auto row = batch.visual_rows.const_data_ptr<std::int64_t>()[i];
      require(ids[row] == kImagePad, "a visual row that is not a placeholder");
      features[row] = batch.visual_features.const_data_ptr<float>() + i * kHidden;
    }
  }
  if (batch.given_rows.defined()) {
    step.given_rows = batch.given_rows.size(0);
    require(batch.given.sizes() == at::IntArrayRef{step.given_rows, kHidden}, "given rows do not fit");
    require(batch.given.is_contiguous(), "given rows are not contiguous");
    for (std::int64_t i = 0; i < step.given_rows; ++i) {
      const auto given_row = batch.given_rows.const_data_ptr<std::int64_t>()[i];
      require(!features.contains(given_row), "a row of a visual that is given");
      features[given_row] = batch.given.const_data_ptr<float>() + i * kHidden;
    }
  }
  std::vector<std::uint64_t> hashes;
  std::int64_t row = 0;
  for (const auto& segment : batch.segments) {
    auto& state = dynamic_cast<FakeState&>(*segment.state);
    require(segment.tokens > 0, "an empty segment");
    step.tokens.push_back(segment.tokens);
    step.lengths.push_back(state.length());
    require(!options_.whole || state.length() == 0, "a prompt in two pieces");
    for (std::int64_t i = 0; i < segment.tokens; ++i, ++row) {
      require(row < total, "more segment tokens than ids");
      require(ids[row] < options_.vocab, "an id that is no token");
      const auto feature = features.find(row);
      hashes.push_back(state.append(ids[row],
                                    {positions[row], positions[total + row], positions[2 * total + row]},
                                    feature == features.end() ? nullptr : feature->second));
      if (options_.next) {
        const std::lock_guard lock(pool_->mutex);
        pool_->read[hashes.back()] = state.ids;
      }
    }
    if (options_.whole) see_all(std::span(hashes).last(static_cast<std::size_t>(segment.tokens)));
  }
  require(row == total, "fewer segment tokens than ids");
  at::Tensor hidden = at::empty({static_cast<std::int64_t>(batch.output_rows.size()), kHidden}, at::kFloat);
  std::int64_t before = -1;
  for (std::size_t i = 0; i < batch.output_rows.size(); ++i) {
    require(batch.output_rows[i] > before && batch.output_rows[i] < total, "output rows are not ascending");
    before = batch.output_rows[i];
    write_hidden(hashes[static_cast<std::size_t>(before)],
                 hidden.mutable_data_ptr<float>() + static_cast<std::int64_t>(i) * kHidden);
  }
  const std::lock_guard lock(pool_->mutex);
  pool_->steps.push_back(std::move(step));
  return hidden;
}

at::Tensor FakeModel::logits(const at::Tensor& hidden) const {
  at::Tensor result =
      kernels::linear_float(hidden, kernels::Weight(kHashed, {}, kModelVocab, kHidden, at::kFloat, at::kCPU));
  if (options_.next) {
    for (std::int64_t i = 0; i < hidden.size(0); ++i) {
      const std::uint64_t hash = read_hash(hidden[i].contiguous().const_data_ptr<float>());
      const std::lock_guard lock(pool_->mutex);
      result[i][options_.next(pool_->read.at(hash))] = 100.0F;
    }
  }
  if (on_logits) on_logits(result);
  return result;
}

at::Tensor FakeModel::next_latent(const at::Tensor& states, const at::Tensor& contexts,
                                  const std::vector<std::int64_t>& steps) const {
  const auto rows = static_cast<std::int64_t>(steps.size());
  require(rows > 0 && states.sizes() == at::IntArrayRef{rows, kHidden}, "states are not one for each step");
  require(contexts.sizes() == states.sizes(), "contexts are not one for each step");
  at::Tensor out = at::empty({rows, kHidden}, at::kFloat);
  for (std::int64_t i = 0; i < rows; ++i) {
    write_latent(states.const_data_ptr<float>() + i * kHidden, contexts.const_data_ptr<float>() + i * kHidden,
                 steps[static_cast<std::size_t>(i)], out.mutable_data_ptr<float>() + i * kHidden);
  }
  if (on_latent) on_latent(rows);
  return out;
}

at::Tensor FakeModel::reference(const models::Prompt& prompt) const {
  at::Tensor result = at::empty({prompt.size(), kHidden}, at::kFloat);
  std::vector<at::Tensor> features;
  for (const auto& visual : prompt.visuals) features.push_back(features_of(*visual));
  std::uint64_t hash = 7;
  std::vector<std::uint64_t> hashes;
  std::size_t visual = 0;
  std::int64_t row = 0;
  for (std::size_t i = 0; i < prompt.ids.size(); ++i) {
    const float* feature = nullptr;
    if (prompt.kinds[i] != base::Modality::kText) {
      if (row == features[visual].size(0)) {
        ++visual;
        row = 0;
      }
      feature = features[visual].const_data_ptr<float>() + kHidden * row++;
    }
    std::array<float, kHidden> state{}, context{}, given{};
    const models::LatentRows& latent = prompt.latent;
    if (const auto at = static_cast<std::int64_t>(i); latent.has(at)) {
      write_hidden(hash, state.data());
      if (latent.context >= 0) write_hidden(hashes[static_cast<std::size_t>(latent.context)], context.data());
      write_latent(state.data(), context.data(), at - latent.begin, given.data());
      feature = given.data();
    }
    hash = token_hash(hash, prompt.ids[i], prompt.positions[i], feature);
    hashes.push_back(hash);
  }
  if (options_.whole) see_all(hashes);
  for (std::size_t i = 0; i < hashes.size(); ++i)
    write_hidden(hashes[i], result.mutable_data_ptr<float>() + static_cast<std::int64_t>(i) * kHidden);
  return result;
}

std::int64_t FakeModel::Step::total() const {
  return std::accumulate(tokens.begin(), tokens.end(), std::int64_t{0});
}

std::vector<FakeModel::Step> FakeModel::steps() const {
  const std::lock_guard lock(pool_->mutex);
  return pool_->steps;
}

std::vector<std::vector<std::int64_t>> FakeModel::vision_calls() const {
  const std::lock_guard lock(pool_->mutex);
  return pool_->vision_calls;
}

std::int64_t FakeModel::used() const {
  const std::lock_guard lock(pool_->mutex);
  return pool_->used;
}

std::int64_t FakeModel::peak_used() const {
  const std::lock_guard lock(pool_->mutex);
  return pool_->peak;
}

std::shared_ptr<const models::Prompt> make_prompt(const std::vector<PromptPart>& parts) {
  auto prompt = std::make_shared<models::Prompt>();
  const auto add = [&](std::int64_t id, base::Modality kind, std::array<std::int64_t, 3> position) {
    prompt->ids.push_back(id);
    prompt->kinds.push_back(kind);
    prompt->positions.push_back(position);
  };
  std::int64_t next = 0;
  for (const PromptPart& part : parts) {
    if (const auto* text = std::get_if<std::string>(&part)) {
      for (const std::int64_t id : bytes_of(*text)) {
        add(id, base::Modality::kText, {next, next, next});
        ++next;
      }
      continue;
    }
    const auto& visual = std::get<1>(part);
    const std::int64_t h = visual->patches.h / 2;
    const std::int64_t w = visual->patches.w / 2;
    for (std::int64_t i = 0; i < h * w; ++i) {
      add(kImagePad, base::Modality::kImage, {next, next + i / w, next + i % w});
    }
    next += std::max(h, w);
    prompt->visuals.push_back(visual);
    prompt->visual_tokens.push_back(h * w);
  }
  prompt->next_position = next;
  return prompt;
}

std::shared_ptr<const models::Prompt> text_prompt(std::int64_t tokens, std::uint64_t seed) {
  std::string text;
  for (std::int64_t i = 0; i < tokens; ++i) {
    text += static_cast<char>(scramble(seed * 1000003 + static_cast<std::uint64_t>(i)) % 256);
  }
  return make_prompt({text});
}

std::shared_ptr<const models::Prompt> with_latent(const models::Prompt& prompt, std::int64_t steps,
                                                  std::int64_t context, const std::string& behind) {
  auto out = std::make_shared<models::Prompt>(prompt);
  out->latent = {out->size(), steps, context};
  std::vector<std::int64_t> ids(static_cast<std::size_t>(steps), '.');
  for (const std::int64_t id : bytes_of(behind)) ids.push_back(id);
  for (const std::int64_t id : ids) {
    const std::int64_t position = out->size();
    out->ids.push_back(id);
    out->kinds.push_back(base::Modality::kText);
    out->positions.push_back({position, position, position});
  }
  out->next_position = std::max(out->next_position, out->size());
  return out;
}

std::shared_ptr<const models::Visual> make_visual(std::uint64_t seed, std::int64_t h, std::int64_t w) {
  auto visual = std::make_shared<models::Visual>();
  visual->patches.t = 1;
  visual->patches.h = h;
  visual->patches.w = w;
  visual->patches.values = at::full({h * w, 1}, static_cast<double>(seed), at::kFloat);
  visual->patches.digest =
      base::Digester().number(static_cast<std::int64_t>(seed)).number(h).number(w).finish();
  return visual;
}

std::shared_ptr<Hold> Hold::on(Executor& executor) {
  auto hold = std::make_shared<Hold>();
  executor.add(hold);
  hold->standing_.get_future().wait();
  return hold;
}

bool Hold::step() {
  if (std::exchange(done_, true)) return false;
  standing_.set_value();
  released_.get_future().wait();
  return false;
}

Bench::Bench(FakeModel::Options model_options, EngineOptions options)
    : model(std::make_shared<FakeModel>(std::move(model_options))),
      tokenizer(std::make_shared<FakeTokenizer>()),
      executor(std::make_shared<Executor>(1, std::int64_t{1} << 20)),
      engine(std::make_unique<Engine>(model, tokenizer, executor, options)) {}

std::future<GenerateResult> Bench::generate(std::shared_ptr<const models::Prompt> prompt,
                                            int max_new_tokens) {
  return engine->submit(generate_request(std::move(prompt), max_new_tokens));
}

std::future<EncodeResult> Bench::encode(std::shared_ptr<const models::Prompt> prompt, Output output) {
  return engine->submit(encode_request(std::move(prompt), output));
}

GenerateRequest generate_request(std::shared_ptr<const models::Prompt> prompt, int max_new_tokens) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.options.max_new_tokens = max_new_tokens;
  request.end_ids = {kEos};
  request.think_open = "<think>";
  request.think_close = "</think>";
  return request;
}

GenerateRequest trace_request(std::int64_t prompt, int tokens, std::uint64_t seed) {
  auto request = generate_request(text_prompt(prompt, seed), tokens);
  request.options.ignore_eos = true;
  return request;
}

EngineOptions limits(int max_step_tokens, int max_running, int prompt_lookup_tokens) {
  EngineOptions options;
  options.max_step_tokens = max_step_tokens;
  options.max_running = max_running;
  options.prompt_lookup_tokens = prompt_lookup_tokens;
  return options;
}

std::string outcomes(const std::function<std::future<GenerateResult>(GenerateRequest)>& submit,
                     bool with_images) {
  std::vector<std::future<GenerateResult>> futures;
  std::vector<std::vector<std::int64_t>> heard(12);
  for (int i = 0; i < 12; ++i) {
    auto prompt =
        with_images && i % 4 == 3
            ? make_prompt({fmt::format("{}b", i), make_visual(static_cast<std::uint64_t>(i), 4, 4), "cd"})
            : text_prompt(5 + 7 * i, static_cast<std::uint64_t>(i));
    auto request = generate_request(std::move(prompt), 40 + 9 * i);
    if (i % 4 == 1) request.options.stop = {"abc"};
    if (i % 4 == 2) request.options.max_think_tokens = 6;
    if (i % 3 == 1) request.options.repetition_penalty = 1.0001;
    if (i % 6 == 3) request.options.min_new_tokens = 20;
    if (i % 5 == 2) {
      request.options.temperature = 30.0;
      request.options.top_k = 4;
      request.options.seed = 7;
    }
    const std::size_t most = i == 7 ? 13 : 1000;
    request.on_token = [&heard, i, most](std::int64_t id, const std::string&) {
      heard[static_cast<std::size_t>(i)].push_back(id);
      return heard[static_cast<std::size_t>(i)].size() < most ? OnToken::kContinue : OnToken::kStop;
    };
    futures.push_back(submit(std::move(request)));
  }
  std::string all;
  for (std::size_t i = 0; i < futures.size(); ++i) {
    const GenerateResult result = futures[i].get();
    EXPECT_EQ(result.ids, heard[i]);
    all +=
        fmt::format("{} {} {}\n", fmt::join(result.ids, ","), result.text, static_cast<int>(result.finish));
  }
  return all;
}

EncodeRequest encode_request(std::shared_ptr<const models::Prompt> prompt, Output output) {
  EncodeRequest request;
  request.prompt = std::move(prompt);
  request.output = output;
  return request;
}

FakeModel::Options scripted(std::int64_t prompt_tokens, std::vector<std::int64_t> script) {
  FakeModel::Options options;
  options.next = [prompt_tokens, script = std::move(script)](const std::vector<std::int64_t>& ids) {
    const auto written = ids.size() - static_cast<std::size_t>(prompt_tokens);
    return written < script.size() ? script[written] : kEos;
  };
  return options;
}

std::vector<std::int64_t> bytes_of(std::string_view text) {
  std::vector<std::int64_t> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

}  // namespace tte::engine::testing
