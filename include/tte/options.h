/// @file
/// Every knob of tte, as plain structs with defaults.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tte/export.h"
#include "tte/input.h"

namespace tte {

/// Where and how models run.
struct BackendOptions {
  /// "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1"; several GPUs, as in "cuda:0,cuda:1", or "cuda:all".
  std::string device = "auto";
  /// Replicas of each model, which run side by side: the items of a call are spread over them, each to the one with
  /// least work waiting. Unset: one on each device, which is all that a GPU can have. On a CPU they share the weights
  /// in memory, and divide `threads`, of which each has at least one, `state_bytes` and `vision_cache_bytes` evenly.
  std::optional<int> replicas;
  /// Devices that share the decoder layers of each replica (tensor parallelism), for models that do not fit one GPU.
  /// Each has as many of the heads, and as much of the MLP; embedding, head and vision tower are on the first. From 1
  /// to 8, and a divisor of the model's heads of keys and values. The GPUs of `device` are taken in groups of so many,
  /// each of which has a replica; a CPU computes the parts one after the other. Not for models with recurrent layers or
  /// mixtures of experts, nor with `cuda_graphs`. Not run on GPUs yet.
  int tensor_parallel = 1;
  static constexpr int kMostParts = 8;
  /// Threads inside an operation; 0: as many as the machine has cores; at most four a core, or 64. Only those
  /// of tte: the program's own use of torch keeps its number.
  int threads = 0;
  /// Threads that decode and patchify media beside the model; 0: a quarter of the cores, at least one.
  int media_threads = 0;
  /// Bytes that sequence states (KV caches) of one model may take on a device; 0: a quarter of the (smallest) device's
  /// memory, or an eighth of what a limit of address space (ulimit -v) leaves.
  std::int64_t state_bytes = 0;
  /// Tokens in one step: prefill chunks and decode tokens share this budget. Unset: 512 on a CPU, 2048 on a
  /// GPU. A step is how long running sequences wait for their next token and a cancelled call for its end.
  std::optional<int> max_step_tokens;
  /// Sequences running at the same time in one engine.
  int max_running = 256;
  /// Tokens that are guessed of a trace in one step, where its last tokens stood before in prompt or trace (speculative
  /// decoding by prompt lookup): a trace that quotes is written sooner, and no trace changes. 0: none; at most 64.
  int prompt_lookup_tokens = 8;
  static constexpr int kMostGuesses = 64;
  /// On a GPU, steps of at most 256 rows in which sequences go on are recorded as CUDA graphs, one for every number of
  /// rows there is, and replayed: less time goes by between their kernels. For models of attention in bfloat16 or
  /// float16 without recurrent layers and mixtures of experts; others, and CPUs, do as without. Not run on a GPU yet.
  bool cuda_graphs = false;
  /// Bytes of vision features kept for reuse on a device.
  std::int64_t vision_cache_bytes = std::int64_t{256} << 20;

  bool operator==(const BackendOptions&) const = default;
  /// Throws InputError naming the first option out of range.
  TTE_API void validate() const;
};

/// What the images and videos of one item may cost. A small file may unfold into much: what would go over a limit is
/// refused before it is spent, by an InputError that names the limit.
struct MediaLimits {
  /// Width times height of an image or of a video's frames. Pillow's default.
  std::int64_t max_pixels = kMaxImagePixels;
  /// Bytes of one file.
  std::int64_t max_file_bytes = std::int64_t{1} << 30;
  /// Bytes of memory that the item holds at a time: what decoders work in, pixels, and patches of all its
  /// images and videos.
  std::int64_t max_item_bytes = std::int64_t{2} << 30;
  /// Pixels that decoders pass over for the item, scans of a progressive JPEG and frames of a video each
  /// counted. Every byte of the item's images allows 1,000 more, of its videos 10,000 more.
  std::int64_t max_item_pixels = 4'000'000'000;

  bool operator==(const MediaLimits&) const = default;
  /// Throws InputError naming the first limit out of range: from 1 to 2^40.
  TTE_API void validate() const;
};

/// A smaller model that guesses what a reasoner writes next (speculative decoding). The reasoner's tokens are its own,
/// whatever is guessed: it reads guesses in the step of its last token, and drops what it would not have written.
struct DraftOptions {
  /// Folder of the checkpoint, and of its adapter if it has one. Its tokenizer must have the same tokens with the same
  /// ids as the reasoner's, and neither model recurrent layers, whose states cannot forget a wrong guess. It reads the
  /// text of prompts, no images and videos.
  std::filesystem::path checkpoint, adapter;
  /// As of LoadOptions.
  std::string dtype = "auto", quantization = "none";
  /// Tokens that are guessed of a trace in one step, from 1 to 64; fewer where fewer were right.
  int tokens = 8;
};

/// What a checkpoint's chat template reads beside the messages, such as {{"enable_thinking", false}}.
using TemplateOptions = std::map<std::string, std::variant<bool, std::int64_t, std::string>>;

/// How a checkpoint is loaded.
struct LoadOptions {
  /// "auto" (the checkpoint's own), "float32", "bfloat16", "float16".
  std::string dtype = "auto";
  /// How the matrices of linear layers are kept: "none" (in the dtype), "int8" or "int4". They are rounded while the
  /// checkpoint is loaded: int8 with a scale for each output, int4 with one for each 128 inputs of an output and a
  /// factor from -15 to 15 for each 32 of these; matrices with fewer than 64 inputs or outputs stay as they are. On
  /// a CPU their inputs are rounded to 8 bits in every call, with a scale for each 128 values of a row; on a GPU they
  /// stay as they are. What quantize() wrote is rounded already: "none" takes it as it is, and the other format is an
  /// InputError. Published codes of compressed-tensors that are such (symmetric; int4 in groups of a multiple of 128)
  /// are taken as they are where their format is asked for.
  std::string quantization = "none";
  /// A recipe file, or the name of a bundled recipe; empty: the checkpoint's recipe.json, else found.
  std::string recipe;
  /// On top of the recipe's "template_options"; a name that the template does not read is a ModelError.
  TemplateOptions template_options;
  /// Folder of a PEFT adapter (LoRA or DoRA; adapter_config.json, adapter_model.safetensors) that is merged into the
  /// checkpoint's tensors while they are loaded. Its own config.json, tokenizer, template, preprocessor and recipe
  /// replace the checkpoint's. Empty: none, unless the checkpoint is itself an adapter's folder, whose base is then the
  /// folder that adapter_config.json names (adapter_base()).
  std::filesystem::path adapter;
  /// True: strings such as <|im_end|> in the text of inputs act as control tokens, which is transformers'
  /// default. False: they stay text (transformers' sanitize_control_tokens).
  bool parse_control_tokens = false;
  /// What the media of one item may cost.
  MediaLimits media_limits;
  /// Reasoner only: what guesses its tokens where prompt lookup finds nothing. Its weights are shared with other models
  /// of the backend; its states come out of the reasoner's BackendOptions::state_bytes, as far as that has room.
  std::optional<DraftOptions> draft;
};

/// A cancellation flag shared between the caller and a running call. Copies share the flag.
class CancelToken {
 public:
  void cancel() const noexcept { flag_->store(true, std::memory_order_relaxed); }
  [[nodiscard]] bool cancelled() const noexcept { return flag_->load(std::memory_order_relaxed); }

 private:
  std::shared_ptr<std::atomic<bool>> flag_ = std::make_shared<std::atomic<bool>>(false);
};

/// Decoding settings of one sequence. What the caller leaves unset is as the recipe says, else as the checkpoint's
/// generation_config.json says (temperature, top_k, top_p and min_p only with `checkpoint_sampling`), else the value in
/// the comment, which is greedy. A ModelError tells what the file asks for and tte does not have.
struct GenerateOptions {
  static constexpr int kUsualNewTokens = 512;
  std::optional<int> max_new_tokens;  ///< Unset: 512, or as many as the model has positions for.
  std::optional<int> min_new_tokens;  ///< No end token before. Unset: 0.
  std::optional<double> temperature;  ///< 0: greedy (unset).
  std::optional<int> top_k;           ///< 0: off (unset).
  std::optional<double> top_p;        ///< 1: off (unset).
  std::optional<double> min_p;        ///< 0: off (unset).
  /// 1: off (unset). As transformers: of prompt and generated tokens.
  std::optional<double> repetition_penalty;
  std::optional<std::uint64_t> seed;         ///< Unset: drawn at random when sampling.
  std::vector<std::string> stop;             ///< Strings that end the text; they are cut off.
  std::vector<std::int64_t> stop_token_ids;  ///< In addition to the checkpoint's end tokens.
  bool ignore_eos = false;                   ///< Go on past the checkpoint's end tokens.
  std::optional<int> max_think_tokens;  ///< When spent inside <think>, the close tag is forced. Unset: never.
  /// Sample where generation_config.json says so, like transformers' generate(): do_sample, temperature, top_k, top_p
  /// and min_p.
  bool checkpoint_sampling = false;

  /// Throws InputError naming the first option out of range.
  TTE_API void validate() const;

  /// Who may set a number: each of these, and those before it.
  enum class Setter { kCaller, kRecipe, kCheckpoint };

  template <typename T>
  struct Number {
    const char* name;
    std::optional<T> GenerateOptions::*member;
    T least, most;               ///< Its range, inclusive.
    std::optional<T> otherwise;  ///< What it is where nobody sets it.
    Setter setter = Setter::kCheckpoint;
    bool sampling = false;  ///< Does nothing at temperature 0.
  };

  /// The one table of numbers: calls number(Number<T>) with each.
  template <typename Visit>
  static void numbers(Visit&& number) {
    using Self = GenerateOptions;
    constexpr int kMost = std::numeric_limits<int>::max();
    // Logits, which are float32, are divided by both: far beyond any use, and no quotient overflows.
    constexpr double kLeast = 1e-30, kLargest = 1e30;
    constexpr auto kMostSeed = std::numeric_limits<std::uint64_t>::max();
    number(Number<int>{"max_new_tokens", &Self::max_new_tokens, 1, kMost, kUsualNewTokens});
    number(Number<int>{"min_new_tokens", &Self::min_new_tokens, 0, kMost, 0});
    number(Number<double>{"temperature", &Self::temperature, 0, kLargest, 0});
    number(Number<int>{"top_k", &Self::top_k, 0, kMost, 0, Setter::kCheckpoint, true});
    number(Number<double>{"top_p", &Self::top_p, 0, 1, 1, Setter::kCheckpoint, true});
    number(Number<double>{"min_p", &Self::min_p, 0, 1, 0, Setter::kCheckpoint, true});
    number(Number<double>{"repetition_penalty", &Self::repetition_penalty, kLeast, kLargest, 1});
    number(Number<std::uint64_t>{"seed", &Self::seed, 0, kMostSeed, {}, Setter::kCaller, true});
    number(Number<int>{"max_think_tokens", &Self::max_think_tokens, 0, kMost, {}, Setter::kRecipe});
  }

  /// The same of what is no number: calls other(name, member); empty and false are as good as unset.
  template <typename Visit>
  static void others(Visit&& other) {
    other("stop", &GenerateOptions::stop);
    other("stop_token_ids", &GenerateOptions::stop_token_ids);
    other("ignore_eos", &GenerateOptions::ignore_eos);
    other("checkpoint_sampling", &GenerateOptions::checkpoint_sampling);
  }
};

/// What to do with the pooled hidden state.
struct EmbedOptions {
  /// Divide by the L2 norm; unset: as the recipe says (yes, unless it says no).
  std::optional<bool> normalize;
  /// Keep the first dimensions only (Matryoshka), before normalising; unset: all.
  std::optional<int> truncate_dim;
};

/// What a token callback answers.
enum class OnToken { kContinue, kStop };

/// The model whose prompt an item is written into: the reasoner's or the embedder's.
enum class Stage { kReason, kEmbed };

/// The two sides of a retrieval pair.
enum class Side { kQuery, kTarget };

/// A task family's name ("image_qa", "visdoc", ...) and the side of the pair; an empty family: the recipe's
/// default prompt.
struct Task {
  std::string family;
  Side side = Side::kQuery;
};

/// What a bad item does to the call it is in.
enum class OnError {
  /// The call throws the first error, which names its item, and stops the others. What had finished by then
  /// was handed to `on_result`, if there is one.
  kThrow,
  /// The item gets its error in the result, and the others go on. Only errors of the item itself (InputError, a
  /// server's refusal) are kept so; a broken model, a lost device, a dead server and a cancelled call still throw.
  kSkip,
};

/// An item that could not be used.
struct ItemError {
  std::size_t index = 0;  ///< Position of the item in the call.
  std::string message;
};

/// What every call over a list of items takes.
struct CallOptions {
  OnError on_error = OnError::kThrow;
  /// Items whose pixels and states are held at the same time; 0: twice what the engine runs at once. Bounds
  /// memory however long the list is.
  int max_in_flight = 0;
  /// Called on the calling thread after every finished item with the number of finished items and their total.
  std::function<void(std::size_t done, std::size_t total)> progress;
  /// Stops the call, from any thread: it throws CancelledError within a step.
  CancelToken cancel;
  /// Called on the calling thread at least every 50 ms while the call waits; what it throws stops the call
  /// and comes out of it.
  std::function<void()> poll;
  /// Called on the calling thread with a function that hands the tokens that have come since the last time to the
  /// token callback: where callbacks need a lock, it is taken once for all of them. Unset: the function is called.
  std::function<void(const std::function<void()>& hand_over)> around_tokens;
};

}  // namespace tte
