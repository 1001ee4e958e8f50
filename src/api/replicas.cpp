#include "api/replicas.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <tuple>

#include "tte/error.h"

namespace tte::api {
namespace {

constexpr std::int64_t kBlock = 256;           // Tokens of a text whose beginning is compared.
constexpr std::size_t kRemembered = 1U << 14;  // Images and blocks, of each replica; then it begins anew.

// A part of a prompt that a replica need not read again.
struct Piece {
  base::Digest digest;
  std::int64_t tokens = 0;
};

std::vector<Piece> pieces_of(const models::Prompt& prompt) {
  std::vector<Piece> out;
  out.reserve(prompt.visuals.size());
  for (std::size_t i = 0; i < prompt.visuals.size(); ++i)
    out.push_back({prompt.visuals[i]->patches.digest, prompt.visual_tokens[i]});
  const auto text = std::distance(
      prompt.kinds.begin(), std::find_if(prompt.kinds.begin(), prompt.kinds.end(),
                                         [](base::Modality kind) { return kind != base::Modality::kText; }));
  base::Digester beginning;
  for (std::int64_t begin = 0; begin + kBlock <= text; begin += kBlock) {
    beginning.bytes(prompt.ids.data() + begin, kBlock * sizeof(std::int64_t));
    out.push_back({beginning.finish(), kBlock});
  }
  return out;
}

// Groups of devices that have a replica each; on a CPU there is one, for all of them.
std::vector<std::vector<DeviceInfo>> groups_of(const std::vector<DeviceInfo>& devices,
                                               const BackendOptions& options) {
  const auto parts = static_cast<std::size_t>(options.tensor_parallel);
  if (devices.front().name == "cpu") return {std::vector(parts, devices.front())};
  if (devices.size() % parts != 0) {
    throw InputError(
        fmt::format("tensor_parallel is {}, but device is \"{}\": name a multiple of {} GPUs, or leave "
                    "tensor_parallel out.",
                    parts, options.device, parts));
  }
  std::vector<std::vector<DeviceInfo>> groups;
  for (auto first = devices.begin(); first != devices.end(); first += options.tensor_parallel)
    groups.emplace_back(first, first + options.tensor_parallel);
  return groups;
}

std::size_t count_replicas(const std::vector<std::vector<DeviceInfo>>& groups,
                           const BackendOptions& options) {
  if (!options.replicas) return groups.size();
  const int wanted = *options.replicas;
  const bool on_cpu = groups.front().front().name == "cpu";
  if (on_cpu && wanted > options.threads) {
    throw InputError(
        fmt::format("replicas is {}, but threads is {}: each replica has at least one thread of its own, so "
                    "lower replicas or raise threads.",
                    wanted, options.threads));
  }
  if (!on_cpu && wanted != std::ssize(groups)) {
    throw InputError(
        fmt::format("replicas is {}, but device is \"{}\": {} has one replica of each model, so name as "
                    "many, or leave replicas out.",
                    wanted, options.device,
                    options.tensor_parallel == 1
                        ? "a GPU"
                        : fmt::format("a group of {} GPUs (tensor_parallel)", options.tensor_parallel)));
  }
  return static_cast<std::size_t>(wanted);
}

}  // namespace

std::vector<Share> share_out(const std::vector<DeviceInfo>& devices, const BackendOptions& options) {
  const std::vector<std::vector<DeviceInfo>> groups = groups_of(devices, options);
  const int replicas = static_cast<int>(count_replicas(groups, options));
  std::vector<Share> shares;
  for (int i = 0; i < replicas; ++i) {
    Share share;
    share.devices = groups[static_cast<std::size_t>(i) % groups.size()];
    share.sharers = replicas / static_cast<int>(groups.size());
    share.threads = std::max(1, options.threads / replicas + (i < options.threads % replicas ? 1 : 0));
    share.state_bytes = std::max<std::int64_t>(1, options.state_bytes / share.sharers);
    share.vision_cache_bytes = options.vision_cache_bytes / share.sharers;
    shares.push_back(std::move(share));
  }
  return shares;
}

Place::Place(Router& router, const models::Prompt& prompt) : router_(router), tokens_(prompt.size()) {
  std::vector<Piece> pieces;  // Which nobody asks for where there is no choice.
  if (router.replicas_.size() > 1) pieces = pieces_of(prompt);
  const std::lock_guard lock(router.mutex_);
  auto& replicas = router.replicas_;
  std::tuple<std::int64_t, std::int64_t> least = {std::numeric_limits<std::int64_t>::max(), 0};
  for (std::size_t i = 0; i < replicas.size(); ++i) {
    std::int64_t known = 0;
    for (const Piece& piece : pieces) known += replicas[i].read.contains(piece.digest) ? piece.tokens : 0;
    const std::tuple cost = {replicas[i].waiting - 2 * known, replicas[i].items};
    if (cost >= least) continue;
    least = cost;
    replica_ = i;
    tokens_ = prompt.size() - known;
  }
  auto& chosen = replicas[replica_];
  if (chosen.read.size() > kRemembered) chosen.read.clear();
  for (const Piece& piece : pieces) chosen.read.insert(piece.digest);
  ++chosen.items;
  chosen.waiting += tokens_;
}

Place::~Place() {
  router_.replicas_[replica_].waiting -= tokens_;
}

}  // namespace tte::api
