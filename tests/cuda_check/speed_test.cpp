// How fast a decoder of Qwen2-VL-2B's sizes is: a table. It only fails where something is not finite.
#include <ATen/ATen.h>
#include <ATen/record_function.h>
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cuda_check/device.h"
#include "cuda_check/random_decoder.h"
#include "kernels/kernels.h"
#include "temp_dir.h"
#include "weights/state_dict.h"

namespace tte::testing {
namespace {

using base::LinearFormat;
using models::LanguageModel;

constexpr DecoderSizes kLarge =
    kIsShim ? DecoderSizes{1, 64, 64, 2, 1, 32, 66} : DecoderSizes{28, 1536, 8960, 12, 2, 128, 151936};
constexpr std::int64_t kPrompt = kIsShim ? 20 : 2000;  // Of the step that is timed.
constexpr std::int64_t kContext = kIsShim ? 2 : 300;   // Before sequences go on.
constexpr int kTimedSteps = kIsShim ? 1 : 64, kWarmUp = kIsShim ? 1 : 8, kPrefills = kIsShim ? 1 : 5;
constexpr std::int64_t kBatches[] = {1, 8, 32};

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Sequences that go on with their most probable tokens.
class Writers {
 public:
  Writers(const LanguageModel& model, std::int64_t count) : model_(model) {
    for (std::int64_t i = 0; i < count; ++i) states_.push_back(model.start(kPrompt + kTimedSteps + kWarmUp));
  }

  // Reads `tokens` of each, the next ones [count * tokens]; returns what follows each.
  at::Tensor step(const at::Tensor& ids, std::int64_t tokens) {
    models::RaggedBatch batch;
    std::vector<at::Tensor> positions;
    for (const auto& state : states_) {
      batch.segments.push_back({state.get(), tokens});
      positions.push_back(
          at::arange(state->length(), state->length() + tokens, at::kLong).expand({3, tokens}));
      batch.output_rows.push_back(static_cast<std::int64_t>(batch.segments.size()) * tokens - 1);
    }
    batch.ids = ids;
    batch.positions = at::cat(positions, 1).contiguous();
    logits_ = model_.logits(model_.forward(batch));
    return logits_.argmax(1).cpu();  // Waits for all of the step.
  }
  // Whether what the last step gave is.
  [[nodiscard]] bool finite() const {
    return logits_.sizes() == at::IntArrayRef({std::ssize(states_), kLarge.vocab}) &&
           at::isfinite(logits_).all().item<bool>();
  }

 private:
  const LanguageModel& model_;
  std::vector<std::unique_ptr<models::SequenceState>> states_;
  at::Tensor logits_;
};

struct Copies {
  int to_device = 0, waited_for = 0, to_host = 0;  // Of those to the device: the ones that are waited for.
};

// Counts the copies between host and device that this thread makes while it lives.
class CopyCounter {
 public:
  CopyCounter() {
    counted_ = {};
    handle_ = at::addThreadLocalCallback(
        at::RecordFunctionCallback(count).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
  }
  ~CopyCounter() { at::removeCallback(handle_); }
  CopyCounter(const CopyCounter&) = delete;
  CopyCounter& operator=(const CopyCounter&) = delete;

  [[nodiscard]] static Copies copies() { return counted_; }

 private:
  static std::unique_ptr<at::ObserverContext> count(const at::RecordFunction& function) {
    const auto inputs = function.inputs();
    const std::string_view name = function.name();
    if (name == "aten::_local_scalar_dense" && inputs[0].toTensor().is_cuda()) ++counted_.to_host;
    if (name != "aten::copy_") return nullptr;
    const bool to_cuda = inputs[0].toTensor().is_cuda(), from_cuda = inputs[1].toTensor().is_cuda();
    if (from_cuda && !to_cuda) ++counted_.to_host;
    if (!to_cuda || from_cuda) return nullptr;
    ++counted_.to_device;
    if (!inputs[2].toBool()) ++counted_.waited_for;
    return nullptr;
  }
  static inline Copies counted_;
  at::CallbackHandle handle_ = 0;
};

at::Tensor random_ids(std::int64_t count) {
  return at::randint(kLarge.vocab, {count}, at::kLong);
}

double tokens_per_second(const LanguageModel& model, std::int64_t batch) {
  Writers writers(model, batch);
  at::Tensor ids = writers.step(random_ids(batch * kContext), kContext);
  for (int i = 0; i < kWarmUp; ++i) ids = writers.step(ids, 1);
  const double begin = seconds();
  for (int i = 0; i < kTimedSteps; ++i) ids = writers.step(ids, 1);
  const double taken = seconds() - begin;
  EXPECT_TRUE(writers.finite());
  return static_cast<double>(batch * kTimedSteps) / taken;
}

// Of a step in which sequences go on.
Copies copies_of_a_step(const LanguageModel& model) {
  Writers writers(model, 2);
  const at::Tensor ids = writers.step(random_ids(2 * kContext), kContext);
  const CopyCounter counter;
  writers.step(ids, 1);
  return CopyCounter::copies();
}

double prefill_seconds(const LanguageModel& model) {
  std::vector<double> taken;
  for (int i = 0; i <= kPrefills; ++i) {
    Writers writer(model, 1);
    const at::Tensor ids = random_ids(kPrompt);
    const double begin = seconds();
    writer.step(ids, kPrompt);
    if (i > 0) taken.push_back(seconds() - begin);  // The first finds nothing prepared.
    EXPECT_TRUE(writer.finite());
  }
  std::sort(taken.begin(), taken.end());
  return taken[taken.size() / 2];
}

TEST(Speed, OfADecoderOfTwoBillion) {
  kernels::load_cuda();
  const TempDir folder;
  const auto file = folder.path() / "model.safetensors";
  write_large_decoder(file, kLarge);
  std::string copies, table = fmt::format(
                          "A decoder of {} layers, {} wide, bfloat16, greedy, without an engine around it:\n"
                          "{:12} {:>10} {:>16} {:>16} {:>16} {:>22}\n",
                          kLarge.layers, kLarge.hidden, "weights", "loaded in", "1 sequence", "8 sequences",
                          "32 sequences", fmt::format("prompt of {} tokens", kPrompt));
  for (const auto& [format, graphs] : {std::pair{LinearFormat::kPlain, false},
                                       {LinearFormat::kPlain, true},
                                       {LinearFormat::kInt8, false},
                                       {LinearFormat::kInt8, true},
                                       {LinearFormat::kInt4, false},
                                       {LinearFormat::kInt4, true}}) {
    weights::Placement placement;
    placement.device = cuda_device();
    placement.linears = format;
    constexpr std::int64_t kStateBytes = std::int64_t{kIsShim ? 64 : 4096} << 20;
    const double begin = seconds();
    const LanguageModel model(decoder_config(DecoderKind::kAttention, kLarge),
                              weights::StateDict::open(base::Checkpoint(file), placement), kStateBytes,
                              /*deepstack=*/0, /*ending=*/std::nullopt, graphs);
    const double loaded = seconds() - begin;
    const std::string name = base::quantization_name(format);
    table += fmt::format("{:12} {:8.1f} s", name + (graphs ? ", graphs" : ""), loaded);
    for (const std::int64_t batch : kBatches)
      table += fmt::format(" {:8.0f} token/s", tokens_per_second(model, batch));
    table += fmt::format(" {:19.1f} ms\n", 1000 * prefill_seconds(model));
    if (format != LinearFormat::kPlain || graphs) continue;
    const auto [to_device, waited_for, to_host] = copies_of_a_step(model);
    EXPECT_EQ(to_device, kIsShim ? 0 : 1);  // The processor has no other memory.
    EXPECT_EQ(waited_for, 0);
    EXPECT_EQ(to_host, kIsShim ? 0 : 1);
    copies =
        fmt::format("A step copies to the device {} times, {} of which it waits for, and back {} times.\n",
                    to_device, waited_for, to_host);
  }
  fmt::print("{}{}", table, copies);
}

}  // namespace
}  // namespace tte::testing
