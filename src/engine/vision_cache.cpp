#include "engine/vision_cache.h"

#include <ATen/ATen.h>

#include <list>
#include <mutex>
#include <unordered_map>

namespace tte::engine {
namespace {

struct Key {
  base::Digest tower;
  base::Digest visual;
  bool operator==(const Key&) const = default;
};

struct KeyHash {
  std::size_t operator()(const Key& key) const noexcept {
    return std::hash<base::Digest>()(key.tower) * 31 + std::hash<base::Digest>()(key.visual);
  }
};

}  // namespace

struct VisionCache::Impl {
  struct Entry {
    Key key;
    at::Tensor features;
    std::int64_t bytes = 0;
  };
  std::mutex mutex;
  std::int64_t capacity = 0;
  std::int64_t used = 0;
  std::list<Entry> entries;  // Most recently used first.
  std::unordered_map<Key, std::list<Entry>::iterator, KeyHash> index;
};

VisionCache::VisionCache(std::int64_t capacity_bytes) : impl_(std::make_unique<Impl>()) {
  impl_->capacity = capacity_bytes;
}

VisionCache::~VisionCache() = default;

std::optional<at::Tensor> VisionCache::find(const base::Digest& tower, const base::Digest& visual) {
  const std::lock_guard lock(impl_->mutex);
  const auto it = impl_->index.find(Key{tower, visual});
  if (it == impl_->index.end()) return std::nullopt;
  impl_->entries.splice(impl_->entries.begin(), impl_->entries, it->second);
  return it->second->features;
}

void VisionCache::insert(const base::Digest& tower, const base::Digest& visual, const at::Tensor& features) {
  const auto bytes = static_cast<std::int64_t>(features.nbytes());
  if (bytes > impl_->capacity) return;
  // A slice would keep the storage of its whole batch alive, which the byte count would not see.
  const bool slice = features.storage().nbytes() > features.nbytes();
  const at::Tensor kept = slice ? features.clone(at::MemoryFormat::Contiguous) : features;

  std::list<Impl::Entry> dropped;  // Destroyed after the lock.
  const std::lock_guard lock(impl_->mutex);
  const Key key{tower, visual};
  if (impl_->index.contains(key)) return;
  while (impl_->used + bytes > impl_->capacity) {
    const auto last = std::prev(impl_->entries.end());
    impl_->used -= last->bytes;
    impl_->index.erase(last->key);
    dropped.splice(dropped.begin(), impl_->entries, last);
  }
  impl_->entries.push_front({key, kept, bytes});
  impl_->index.emplace(key, impl_->entries.begin());
  impl_->used += bytes;
}

}  // namespace tte::engine
