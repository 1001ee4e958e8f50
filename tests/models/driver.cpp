#include "models/driver.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>
#include <utility>

namespace tte::testing {

std::map<std::string, Item> load_items(const std::filesystem::path& file) {
  const auto tensors = weights::StateDict::open(file, {});
  std::map<std::string, Item> items;
  for (const std::string& name : tensors.names()) {
    if (!name.ends_with(".ids")) continue;
    const std::string item_name = name.substr(0, name.size() - 4);
    Item& item = items[item_name];
    const at::Tensor ids = tensors.get(name, tensors.shape(name)).to(at::kLong);
    item.ids.assign(ids.const_data_ptr<std::int64_t>(), ids.const_data_ptr<std::int64_t>() + ids.numel());
    for (int i = 0; tensors.has(fmt::format("{}.visual{}.grid", item_name, i)); ++i) {
      const std::string prefix = fmt::format("{}.visual{}.", item_name, i);
      const at::Tensor grid = tensors.get(prefix + "grid", {4}).to(at::kLong);
      auto visual = std::make_shared<models::Visual>();
      visual->video = grid[0].item<std::int64_t>() != 0;
      visual->patches.t = grid[1].item<std::int64_t>();
      visual->patches.h = grid[2].item<std::int64_t>();
      visual->patches.w = grid[3].item<std::int64_t>();
      visual->patches.values = tensors.get(prefix + "patches", tensors.shape(prefix + "patches"));
      item.visuals.push_back(std::move(visual));
    }
  }
  return items;
}

std::shared_ptr<const models::Model> open_model(const std::filesystem::path& checkpoint,
                                                std::optional<at::ScalarType> dtype,
                                                std::int64_t state_bytes) {
  models::ModelOptions options;
  options.placement.dtype = dtype;
  options.state_bytes = state_bytes;
  return models::load_model(checkpoint, options);
}

Sequence::Sequence(std::shared_ptr<const models::Model> model, models::Prompt prompt)
    : model_(std::move(model)), prompt_(std::move(prompt)), state_(model_->start(prompt_.size())) {
  if (state_ == nullptr) throw std::runtime_error("no room for the prompt");
  if (!prompt_.visuals.empty()) features_ = at::cat(model_->encode_vision(prompt_.visuals));
  std::int64_t row = 0;
  for (const base::Modality kind : prompt_.kinds) {
    feature_rows_.push_back(kind == base::Modality::kText ? -1 : row++);
  }
}

Sequence::Sequence(const Sequence& other, std::unique_ptr<models::SequenceState> state)
    : model_(other.model_),
      prompt_(other.prompt_),
      features_(other.features_),
      feature_rows_(other.feature_rows_),
      state_(std::move(state)) {}

void Sequence::push(std::int64_t id) {
  prompt_.ids.push_back(id);
  prompt_.kinds.push_back(base::Modality::kText);
  prompt_.positions.push_back({prompt_.next_position, prompt_.next_position, prompt_.next_position});
  ++prompt_.next_position;
  feature_rows_.push_back(-1);
}

void Batch::add(Sequence& run, std::int64_t tokens) {
  const std::int64_t begin = run.state_->length();
  for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(begin + tokens); ++i) {
    if (run.feature_rows_[i] >= 0) {
      visual_rows_.push_back(static_cast<std::int64_t>(ids_.size()));
      features_.push_back(run.features_.narrow(0, run.feature_rows_[i], 1));
    }
    ids_.push_back(run.prompt_.ids[i]);
    positions_.insert(positions_.end(), run.prompt_.positions[i].begin(), run.prompt_.positions[i].end());
  }
  batch_.segments.push_back({run.state_.get(), tokens});
}

at::Tensor Batch::forward(const models::Model& model, bool every_row,
                          const std::vector<std::int64_t>& output_rows) {
  batch_.ids = at::tensor(ids_, at::kLong);
  batch_.positions = at::tensor(positions_, at::kLong).view({-1, 3}).t().contiguous();
  if (!visual_rows_.empty()) {
    batch_.visual_rows = at::tensor(visual_rows_, at::kLong);
    batch_.visual_features = at::cat(features_);
  }
  batch_.output_rows = output_rows;
  for (std::size_t row = 0; every_row && row < ids_.size(); ++row) {
    batch_.output_rows.push_back(static_cast<std::int64_t>(row));
  }
  return model.forward(batch_);
}

at::Tensor hidden_states(const models::Model& model, Sequence& run, const std::vector<std::int64_t>& steps) {
  std::vector<at::Tensor> hidden;
  for (std::size_t step = 0; run.left() > 0; ++step) {
    Batch batch;
    batch.add(run, std::min(run.left(), steps[std::min(step, steps.size() - 1)]));
    hidden.push_back(batch.forward(model).to(at::kFloat));
  }
  return at::cat(hidden);
}

std::vector<std::int64_t> greedy(const models::Model& model, Sequence& run, std::int64_t count) {
  std::vector<std::int64_t> tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    Batch batch;
    const std::int64_t rows = run.left();
    batch.add(run, rows);
    const at::Tensor hidden = batch.forward(model, /*every_row=*/false, {rows - 1});
    tokens.push_back(model.logits(hidden).argmax(-1).item<std::int64_t>());
    run.push(tokens.back());
  }
  return tokens;
}

}  // namespace tte::testing
