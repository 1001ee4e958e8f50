#include "models/pooler.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <string>

#include "nn/linear.h"
#include "nn/mlp.h"
#include "nn/norm.h"
#include "tte/error.h"

namespace tte::models {
namespace {

// A tensor of rows of `columns` values, however many.
at::Tensor rows_of(const weights::StateDict& weights, const std::string& name, std::int64_t columns) {
  const std::vector<std::int64_t> shape = weights.shape(name);
  return weights.get(name, {shape.empty() ? 0 : shape.front(), columns});
}

// q [m, hidden] attends to k and v [n, hidden] in `heads` parts.
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, std::int64_t heads) {
  const auto parts = [&](const at::Tensor& x) { return x.view({x.size(0), heads, -1}).transpose(0, 1); };
  return at::scaled_dot_product_attention(parts(q), parts(k), parts(v)).transpose(0, 1).reshape(q.sizes());
}

// The mean of norm_out(out_proj(attention)), in which learned queries attend to the normed states: CoCa's pooler.
class AttentionPooler final : public Pooler {
 public:
  AttentionPooler(const weights::StateDict& weights, std::int64_t hidden, std::int64_t heads)
      : heads_(heads),
        norm_in_(weights, "norm_in", hidden),
        norm_out_(weights, "norm_out", hidden),
        k_(weights, "k_proj", hidden, hidden),
        v_(weights, "v_proj", hidden, hidden),
        out_(weights, "out_proj", hidden, hidden),
        queries_(nn::Linear(weights, "q_proj", hidden, hidden)(rows_of(weights, "queries", hidden))) {}

  [[nodiscard]] at::Tensor operator()(const at::Tensor& states) const override {
    const at::Tensor x = norm_in_(states);
    return norm_out_(out_(attend(queries_, k_(x), v_(x), heads_))).mean(0);
  }

 private:
  std::int64_t heads_;
  nn::LayerNorm norm_in_, norm_out_;
  nn::Linear k_, v_, out_;
  at::Tensor queries_;  // [queries, hidden], projected.
};

// The mean over the rows of y + mlp(norm(y)), with y = x + out_proj(attention), in which the normed states x attend to
// learned latents: NV-Embed's latent attention layer.
class LatentAttention final : public Pooler {
 public:
  LatentAttention(const weights::StateDict& weights, std::int64_t hidden, std::int64_t heads)
      : heads_(heads),
        norm_in_(weights, "norm_in", hidden),
        norm_mlp_(weights, "norm_mlp", hidden),
        q_(weights, "q_proj", hidden, hidden),
        out_(weights, "out_proj", hidden, hidden),
        mlp_(weights, "fc1", "fc2", hidden, first_size(weights), hidden, kernels::Activation::kGelu) {
    const std::vector<std::int64_t> shape = weights.shape("latents");
    const std::int64_t width = shape.empty() ? 0 : shape.back();
    const at::Tensor latents =
        nn::LayerNorm(weights, "norm_latents", width)(rows_of(weights, "latents", width));
    keys_ = nn::Linear(weights, "k_proj", width, hidden)(latents);
    values_ = nn::Linear(weights, "v_proj", width, hidden)(latents);
  }

  [[nodiscard]] at::Tensor operator()(const at::Tensor& states) const override {
    const at::Tensor y = states + out_(attend(q_(norm_in_(states)), keys_, values_, heads_));
    return (y + mlp_(norm_mlp_(y))).mean(0);
  }

 private:
  static std::int64_t first_size(const weights::StateDict& weights) {
    const std::vector<std::int64_t> shape = weights.shape("fc1.weight");
    return shape.empty() ? 0 : shape.front();
  }

  std::int64_t heads_;
  nn::LayerNorm norm_in_, norm_mlp_;
  nn::Linear q_, out_;
  nn::Mlp mlp_;
  at::Tensor keys_, values_;  // [latents, hidden]
};

}  // namespace

std::unique_ptr<const Pooler> make_pooler(const HeadConfig& head, const weights::StateDict& weights,
                                          std::int64_t hidden) {
  if (hidden % head.attention_heads != 0) {
    throw ModelError(
        fmt::format("{}: \"attention_heads\" is {}: it must divide the base's hidden size of {}.", head.where,
                    head.attention_heads, hidden));
  }
  if (head.kind == HeadKind::kAttentionPooler)
    return std::make_unique<AttentionPooler>(weights, hidden, head.attention_heads);
  return std::make_unique<LatentAttention>(weights, hidden, head.attention_heads);
}

}  // namespace tte::models
