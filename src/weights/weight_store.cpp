#include "weights/weight_store.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iterator>
#include <mutex>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tte/error.h"
#include "weights/mapped_file.h"

namespace tte::weights {
namespace {

constexpr std::int64_t kSampleBytes = 128;
constexpr std::int64_t kSamples = 4;

// A tensor that is remembered without being kept. The storage is what is watched: a model may hold a view of
// it whose TensorImpl is another.
class WeakTensor {
 public:
  explicit WeakTensor(const at::Tensor& tensor)
      : storage_(tensor.storage().getWeakStorageImpl()),
        options_(tensor.options()),
        sizes_(tensor.sizes().vec()),
        offset_(tensor.storage_offset()) {}

  // Undefined when the memory is gone.
  [[nodiscard]] at::Tensor lock() const {
    auto storage = storage_.lock();
    if (!storage) return {};
    at::Tensor tensor = at::empty({0}, options_);
    std::vector<std::int64_t> strides(sizes_.size());
    std::int64_t stride = 1;
    for (std::size_t i = sizes_.size(); i-- > 0; stride *= sizes_[i]) strides[i] = stride;
    return tensor.set_(c10::Storage(std::move(storage)), offset_, sizes_, strides);
  }
  [[nodiscard]] bool expired() const { return storage_.expired(); }

 private:
  c10::weak_intrusive_ptr<c10::StorageImpl> storage_;
  at::TensorOptions options_;
  std::vector<std::int64_t> sizes_;
  std::int64_t offset_;
};

at::Tensor as_bytes(const at::Tensor& tensor) {
  return tensor.view(-1).view(at::kByte);
}

// A few bytes spread evenly from the first to the last: enough to tell most tensors of one shape apart.
base::Digest sample(const at::Tensor& tensor) {
  const at::Tensor bytes = as_bytes(tensor);
  const std::int64_t size = bytes.numel();
  const std::int64_t length = std::min(kSampleBytes, size);
  std::vector<at::Tensor> pieces;
  pieces.reserve(kSamples);
  for (std::int64_t i = 0; i < kSamples; ++i) {
    pieces.push_back(bytes.narrow(0, (size - length) / (kSamples - 1) * i, length));
  }
  const at::Tensor gathered = at::cat(pieces).cpu();
  return base::Digester()
      .bytes(gathered.const_data_ptr(), static_cast<std::size_t>(gathered.numel()))
      .finish();
}

// Bit by bit: NaNs equal themselves, and 0 differs from -0.
bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  if (a.const_data_ptr() == b.const_data_ptr()) return true;
  if (a.is_cpu()) return std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0;
  return as_bytes(a).equal(as_bytes(b));
}

// Whether it is no view of a file that was written to since it was opened: what it was compared with would be
// gone, and touching a page that is gone ends the process.
bool may_be_read(const at::Tensor& tensor) {
  if (!tensor.is_cpu()) return true;
  const auto file = MappedFile::containing(tensor.const_data_ptr());
  if (!file) return true;
  try {
    file->check_unchanged();
    return true;
  } catch (const ModelError&) {
    return false;
  }
}

base::Digest kind_of(const at::Tensor& tensor) {
  base::Digester digester;
  digester.number(static_cast<std::int64_t>(tensor.scalar_type()));
  digester.number(static_cast<std::int64_t>(tensor.device().type())).number(tensor.device().index());
  for (const std::int64_t size : tensor.sizes()) digester.number(size);
  return digester.finish();
}

std::uint64_t next_identity() {
  static std::atomic<std::uint64_t> next = 1;
  return next++;
}

struct Group {
  std::vector<WeakTensor> tensors;
  std::uint64_t identity;
};

struct Entry {
  WeakTensor tensor;
  std::optional<base::Digest> samples;  // Taken when the first other tensor of the kind comes.
};

}  // namespace

struct WeightStore::Impl {
  std::mutex mutex;
  std::unordered_map<base::Digest, std::vector<Entry>> kinds;  // By dtype, device and shape.
  std::unordered_map<base::Digest, WeakTensor> origins;
  std::vector<Group> groups;
  std::size_t entries_seen = 0;  // Live at the last sweep, or added since.
  std::size_t sweep_at = 1024;

  at::Tensor share(const at::Tensor& tensor) {
    auto& entries = kinds[kind_of(tensor)];
    std::erase_if(entries, [](const Entry& entry) { return entry.tensor.expired(); });
    std::optional<base::Digest> samples;
    if (!entries.empty()) samples = sample(tensor);
    for (auto& entry : entries) {
      if (entry.samples && *entry.samples != *samples) continue;
      at::Tensor other = entry.tensor.lock();
      if (!other.defined() || !may_be_read(other)) continue;
      if (!entry.samples) entry.samples = sample(other);
      if (*entry.samples == *samples && same_bytes(other, tensor)) return other;
    }
    entries.push_back({WeakTensor(tensor), samples});
    if (++entries_seen > sweep_at) sweep();
    return tensor;
  }

  // What is left of freed tensors is small, but must not pile up in a program that loads models for ever.
  void sweep() {
    std::size_t live = 0;
    for (auto kind = kinds.begin(); kind != kinds.end();) {
      std::erase_if(kind->second, [](const Entry& entry) { return entry.tensor.expired(); });
      live += kind->second.size();
      kind = kind->second.empty() ? kinds.erase(kind) : std::next(kind);
    }
    std::erase_if(origins, [](const auto& origin) { return origin.second.expired(); });
    entries_seen = live;
    sweep_at = std::max<std::size_t>(1024, 2 * live);
  }
};

WeightStore::WeightStore() : impl_(std::make_unique<Impl>()) {}
WeightStore::~WeightStore() = default;

at::Tensor WeightStore::share(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.numel() == 0 || !tensor.is_contiguous()) return tensor;
  const std::lock_guard lock(impl_->mutex);
  return impl_->share(tensor);
}

at::Tensor WeightStore::share(const base::Digest& origin, const std::function<at::Tensor()>& place) {
  {
    const std::lock_guard lock(impl_->mutex);
    const auto known = impl_->origins.find(origin);
    if (known != impl_->origins.end()) {
      at::Tensor tensor = known->second.lock();
      if (tensor.defined()) return tensor;
      impl_->origins.erase(known);
    }
  }
  // Copies run outside the lock; should two threads place the same origin, the bytes make them one again.
  at::Tensor placed = place();
  if (!placed.defined() || placed.numel() == 0 || !placed.is_contiguous()) return placed;
  const std::lock_guard lock(impl_->mutex);
  at::Tensor shared = impl_->share(placed);
  impl_->origins.insert_or_assign(origin, WeakTensor(shared));
  return shared;
}

std::uint64_t WeightStore::identity(const std::vector<at::Tensor>& tensors) {
  const std::lock_guard lock(impl_->mutex);
  const auto gone = [](const Group& group) {
    return std::any_of(group.tensors.begin(), group.tensors.end(),
                       [](const WeakTensor& t) { return t.expired(); });
  };
  std::erase_if(impl_->groups, gone);
  for (const Group& group : impl_->groups) {
    // What is locked lives: equal addresses are the same memory.
    const auto same = [](const WeakTensor& weak, const at::Tensor& tensor) {
      const at::Tensor other = weak.lock();
      return other.defined() && other.const_data_ptr() == tensor.const_data_ptr() &&
             other.sizes() == tensor.sizes() && other.scalar_type() == tensor.scalar_type();
    };
    if (std::equal(group.tensors.begin(), group.tensors.end(), tensors.begin(), tensors.end(), same))
      return group.identity;
  }
  Group group{{}, next_identity()};
  for (const at::Tensor& tensor : tensors) group.tensors.emplace_back(tensor);
  impl_->groups.push_back(std::move(group));
  return impl_->groups.back().identity;
}

}  // namespace tte::weights
