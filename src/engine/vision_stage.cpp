#include "engine/vision_stage.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>

#include "tte/error.h"

namespace tte::engine {

std::int64_t VisionStage::request(Sequence& sequence, std::int64_t tokens) {
  const VisualRows& rows = sequence.visual_rows();
  auto [ordinal, end] = rows.ordinals(sequence.done, sequence.done + tokens);
  while (ordinal < end) {
    const std::size_t visual = rows.visual_of(ordinal);
    if (!provide(sequence, visual)) return rows.row(ordinal) - sequence.done;
    ordinal = rows.first_ordinal(visual) + rows.count(visual);
  }
  return tokens;
}

bool VisionStage::provide(Sequence& sequence, std::size_t visual) {
  at::Tensor& features = sequence.features[visual];
  if (features.defined()) return true;
  const auto& wanted = sequence.prompt().visuals[visual];
  const base::Digest& digest = wanted->patches.digest;
  if (auto found = cache_.find(model_.info().vision_identity, digest);
      found && found->size(0) == sequence.visual_rows().count(visual)) {
    features = std::move(*found);
    ++reused_;
    return true;
  }
  const auto same = std::find_if(jobs_.begin(), jobs_.end(),
                                 [&](const Job& job) { return job.visual->patches.digest == digest; });
  if (same != jobs_.end()) {
    same->users.emplace_back(&sequence, visual);
    ++reused_;
    return true;
  }
  const std::int64_t patches = wanted->patches.t * wanted->patches.h * wanted->patches.w;
  if (!jobs_.empty() && patches_ + patches > max_patches_) return false;
  patches_ += patches;
  jobs_.push_back({wanted, {{&sequence, visual}}});
  return true;
}

std::vector<VisionStage::Failure> VisionStage::encode() {
  const std::vector<Job> jobs = std::exchange(jobs_, {});
  patches_ = 0;
  if (jobs.empty()) return {};
  std::vector<Failure> failures;
  const auto attempt = [&](std::span<const Job> part, bool last) {
    try {
      encode_jobs(part);
      return true;
    } catch (...) {
      if (!last) return false;
      for (const auto& [sequence, visual] : part.front().users) {
        failures.push_back({sequence, std::current_exception()});
      }
      return true;
    }
  };
  if (attempt(jobs, jobs.size() == 1)) return failures;
  // One of them may be at fault (too large for the memory that is left): the others go on without it.
  for (const Job& job : jobs) attempt({&job, 1}, true);
  return failures;
}

void VisionStage::encode_jobs(std::span<const Job> jobs) {
  std::vector<std::shared_ptr<const models::Visual>> visuals;
  for (const Job& job : jobs) visuals.push_back(job.visual);
  const std::vector<at::Tensor> features = model_.encode_vision(visuals);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    for (const auto& [sequence, visual] : jobs[i].users) {
      const std::int64_t tokens = sequence->visual_rows().count(visual);
      if (features.at(i).size(0) != tokens) {
        throw ModelError(
            fmt::format("The vision tower gives {} feature rows for visual {}, whose placeholder has {} "
                        "tokens: layout and tower of this checkpoint do not fit together.",
                        features[i].size(0), visual, tokens));
      }
      sequence->features[visual] = features[i];
    }
    cache_.insert(model_.info().vision_identity, jobs[i].visual->patches.digest, features[i]);
    ++encoded_;
  }
}

}  // namespace tte::engine
