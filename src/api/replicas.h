// The replicas of a backend's models: what each may use, and which one an item goes to.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "base/digest.h"
#include "models/preprocessor.h"
#include "tte/backend.h"
#include "tte/options.h"

namespace tte::api {

// What one replica of every model has for itself.
struct Share {
  std::vector<DeviceInfo> devices;  // Decoder layers are split over all of them; all else is on the first.
  int threads = 1;
  std::int64_t state_bytes = 0;
  std::int64_t vision_cache_bytes = 0;
  int sharers = 1;  // Replicas that divide the state_bytes of the options.
};

// One for each replica. `options` is complete, but for the replicas. Throws InputError for replicas that the devices,
// as choose_devices() gives them, or the threads do not allow, and for GPUs that tensor_parallel does not divide.
std::vector<Share> share_out(const std::vector<DeviceInfo>& devices, const BackendOptions& options);

// Spreads items over replicas. Work is counted in tokens of prompts. An item goes where least work waits. What a
// replica has read of its images, or of the beginning of its text, counts twice in its favour: so items that share much
// stay together, and what they share is read by another replica too once theirs is that far behind. Of equals the one
// is taken that had fewer items. Thread-safe.
class Router {
 public:
  explicit Router(std::size_t replicas) : replicas_(replicas) {}

 private:
  friend class Place;
  struct Replica {
    std::atomic<std::int64_t> waiting = 0;  // Tokens.
    std::int64_t items = 0;                 // So far.
    std::unordered_set<base::Digest> read;  // Images and beginnings.
  };
  std::mutex
      mutex_;  // Guards all but what waits, from which a process that was forked meanwhile takes something off.
  std::vector<Replica> replicas_;
};

// An item's place at a replica, where its work waits as long as this lives.
class Place {
 public:
  Place(Router& router, const models::Prompt& prompt);
  ~Place();
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  [[nodiscard]] std::size_t replica() const { return replica_; }

 private:
  Router& router_;
  std::size_t replica_ = 0;
  std::int64_t tokens_ = 0;
};

}  // namespace tte::api
