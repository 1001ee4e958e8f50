#include "tte/processor.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "api/call.h"
#include "api/handle.h"
#include "api/model_with_recipe.h"
#include "api/tokenizer_impl.h"
#include "base/plain_error.h"
#include "prompt/find_recipe.h"
#include "prompt/prompt_builder.h"
#include "tte/error.h"

namespace tte {

class Processor::Impl {
 public:
  Impl(const base::Checkpoint& checkpoint, const LoadOptions& options)
      : files(prompt::load_checkpoint_files(checkpoint)),
        builder(files, prompt::find_recipe(checkpoint, *files, options.recipe, options.template_options),
                options.parse_control_tokens, options.media_limits) {}

  std::shared_ptr<const prompt::CheckpointFiles> files;
  prompt::PromptBuilder builder;
};

namespace {

void append(std::vector<float>& out, const at::Tensor& values) {
  const at::Tensor flat = values.to(at::kCPU, at::kFloat).contiguous();
  const float* data = flat.data_ptr<float>();
  out.insert(out.end(), data, data + flat.numel());
}

ProcessedInput unpack(const prompt::EmbedPrompt& built) {
  const models::Prompt& prompt = *built.prompt;
  ProcessedInput out;
  out.input_ids = prompt.ids;
  out.next_position = prompt.next_position;
  out.pooled_row = built.pooled_row;
  if (prompt.latent.count > 0) out.latent_rows = {prompt.latent.begin, prompt.latent.end()};
  out.mm_token_type_ids.reserve(prompt.ids.size());
  for (const base::Modality kind : prompt.kinds)
    out.mm_token_type_ids.push_back(static_cast<std::int64_t>(kind));
  out.position_ids.resize(3 * prompt.ids.size());
  for (std::size_t axis = 0; axis < 3; ++axis) {
    for (std::size_t i = 0; i < prompt.ids.size(); ++i) {
      out.position_ids[axis * prompt.ids.size() + i] = prompt.positions[i][axis];
    }
  }
  for (const auto& visual : prompt.visuals) {
    const media::Patches& patches = visual->patches;
    append(visual->video ? out.pixel_values_videos : out.pixel_values, patches.values);
    (visual->video ? out.video_grid_thw : out.image_grid_thw).push_back({patches.t, patches.h, patches.w});
    out.patch_dim = patches.values.size(1);
  }
  return out;
}

}  // namespace

Processor::Processor(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

Processor Processor::load(const std::filesystem::path& checkpoint, const LoadOptions& options) {
  return base::in_plain_words(checkpoint.string(), api::kLessOfACheckpoint, [&] {
    return Processor(std::make_shared<Impl>(prompt::find_checkpoint(checkpoint, options.adapter), options));
  });
}

ProcessedInput Processor::process(const Input& input, const ProcessOptions& options) const {
  if (options.trace && options.stage == Stage::kReason) {
    throw InputError(
        "A trace is given with the stage of reasoning, whose prompt has none: take that of embedding, or "
        "leave the trace out.");
  }
  const prompt::PromptBuilder& builder = api::held(impl_, "Processor")->builder;
  prompt::PromptRequest request;
  request.stage = options.stage;
  request.instruction = options.instruction;
  request.task = options.task;
  const Trace* trace = options.trace ? &*options.trace : nullptr;
  return base::with_name(api::item_name(input, 0), api::kLessOfAnItem, [&] {
    api::check_input(input);
    prompt::EmbedPrompt built;
    built.prompt = builder.begin(input, request, builder.media().read(input), trace);
    if (options.stage == Stage::kEmbed) built = builder.with_trace(built.prompt, trace);
    return unpack(built);
  });
}

std::string Processor::recipe() const {
  return api::held(impl_, "Processor")->builder.recipe().source.dump(2);
}

std::string Processor::recipe_reason() const {
  return api::held(impl_, "Processor")->builder.recipe().reason;
}

Tokenizer Processor::tokenizer() const {
  return api::tokenizer_of(*api::held(impl_, "Processor")->files);
}

}  // namespace tte
