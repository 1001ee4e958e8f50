#include "weights/state_dict.h"

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "base/dtype.h"
#include "base/file.h"
#include "base/printable.h"
#include "tte/error.h"
#include "weights/checkpoint_files.h"
#include "weights/content_digest.h"
#include "weights/weight_store.h"

namespace tte::weights {

using base::printable;

namespace {

// Digests of the tensors of one file, made when the first is asked for.
struct Contents {
  std::shared_ptr<const MappedFile> file;
  std::vector<StoredTensor> tensors;
  mutable std::once_flag once;
  mutable std::vector<base::Digest> digests;

  const base::Digest& operator[](std::size_t index) const {
    std::call_once(once, [&] { digests = content_digests(*file, tensors); });
    return digests[index];
  }
};

}  // namespace

struct StateDict::Entry {
  std::shared_ptr<const MappedFile> file;
  StoredTensor stored;
  std::shared_ptr<const Contents> contents;  // All of its file,
  std::size_t index;                         // where it is this one.
  mutable std::atomic<bool> used = false;

  Entry(std::shared_ptr<const Contents> all, std::size_t at)
      : file(all->file), stored(all->tensors[at]), contents(std::move(all)), index(at) {}
  [[nodiscard]] const char* data() const { return file->bytes().data() + stored.begin; }
};

struct StateDict::Checkpoint {
  std::string name;  // What was opened, fit for messages.
  Placement placement;
  // By name; in order, so that those under a prefix are neighbours.
  std::map<std::string, std::unique_ptr<Entry>, std::less<>> entries;

  // What was taken out, by the first of its parts.
  mutable std::mutex mutex;
  mutable std::map<const Entry*, at::Tensor> taken;

  // The tensors, stacked along the first dimension into `shape`, where the placement wants them.
  [[nodiscard]] at::Tensor take(const std::vector<const Entry*>& parts,
                                const std::vector<std::int64_t>& shape) const;
  [[nodiscard]] at::Tensor place(const std::vector<const Entry*>& parts,
                                 const std::vector<std::int64_t>& shape) const;

  // For a name that is missing: ` (there is "...")` with one that ends alike, if any.
  [[nodiscard]] std::string resembling(std::string_view missing) const;
};

namespace {

constexpr std::size_t kMostNamesListed = 10;

// A range of a mapped file as a tensor: a view, or a copy where the bytes do not lie as their type wants
// them.
at::Tensor map_tensor(const std::shared_ptr<const MappedFile>& file, std::size_t begin, at::IntArrayRef shape,
                      at::ScalarType dtype) {
  const auto options = at::TensorOptions(dtype);
  const char* data = file->bytes().data() + begin;
  const std::size_t element = c10::elementSize(dtype);
  std::size_t bytes = element;
  for (const std::int64_t size : shape) bytes *= static_cast<std::size_t>(size);
  if (bytes == 0) return at::empty(shape, options);
  file->check_unchanged();
  file->will_need(begin, bytes);
  if (reinterpret_cast<std::uintptr_t>(data) % element != 0) {
    at::Tensor copy = at::empty(shape, options);
    std::memcpy(copy.mutable_data_ptr(), data, bytes);
    return copy;
  }
  // The tensor keeps the mapping alive. libtorch has no read-only tensors: that nobody writes is our
  // contract.
  return at::from_blob(
      const_cast<char*>(data), shape, [file](void*) {}, options);
}

// Whether the parts are one range of bytes of one file, and of one dtype.
template <typename Entry>
bool adjacent(const std::vector<const Entry*>& parts) {
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const auto& before = parts[i - 1]->stored;
    const auto& stored = parts[i]->stored;
    if (parts[i]->file != parts[0]->file || stored.begin != before.begin + before.size ||
        stored.dtype != before.dtype) {
      return false;
    }
  }
  return true;
}

std::string shape_text(at::IntArrayRef shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace

std::string StateDict::Checkpoint::resembling(std::string_view missing) const {
  // With ever fewer leading components, but for the last two ("q_proj.weight"), which would match anything.
  for (auto dot = missing.find('.'); dot != std::string_view::npos; dot = missing.find('.')) {
    missing.remove_prefix(dot);
    if (std::count(missing.begin(), missing.end(), '.') < 3) break;
    for (const auto& [name, entry] : entries) {
      if (name.ends_with(missing) || missing.substr(1) == name) {
        return fmt::format(" (there is \"{}\")", printable(name));
      }
    }
    missing.remove_prefix(1);
  }
  return "";
}

at::Tensor StateDict::Checkpoint::take(const std::vector<const Entry*>& parts,
                                       const std::vector<std::int64_t>& shape) const {
  at::Tensor tensor = place(parts, shape);
  const std::lock_guard lock(mutex);
  taken[parts[0]] = tensor;
  return tensor;
}

at::Tensor StateDict::Checkpoint::place(const std::vector<const Entry*>& parts,
                                        const std::vector<std::int64_t>& shape) const {
  const at::ScalarType stored = *scalar_type(parts[0]->stored.dtype);
  const at::ScalarType dtype = placement.dtype.value_or(stored);
  const auto make = [&] {
    if (adjacent(parts)) {
      return map_tensor(parts[0]->file, parts[0]->stored.begin, shape, stored).to(placement.device, dtype);
    }
    at::Tensor whole = at::empty(shape, at::TensorOptions(dtype).device(placement.device));
    std::int64_t row = 0;
    for (const Entry* part : parts) {
      const auto& tensor = part->stored;
      const std::int64_t rows = tensor.shape[0];
      whole.narrow(0, row, rows)
          .copy_(map_tensor(part->file, tensor.begin, tensor.shape, *scalar_type(tensor.dtype)));
      row += rows;
    }
    return whole;
  };
  if (!placement.store) return make();
  base::Digester origin;
  for (const Entry* part : parts) {
    const base::Digest& file = part->file->identity();
    origin.bytes(&file, sizeof(file)).number(static_cast<std::int64_t>(part->stored.begin));
    origin.number(static_cast<std::int64_t>(part->stored.size));
  }
  origin.number(static_cast<std::int64_t>(dtype));
  origin.number(static_cast<std::int64_t>(placement.device.type())).number(placement.device.index());
  return placement.store->share(origin.finish(), make);
}

StateDict StateDict::open(const std::filesystem::path& path, Placement placement) {
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->name = base::shown(path);
  if (placement.dtype && !at::isFloatingType(*placement.dtype)) {
    throw InputError(fmt::format("{} cannot be loaded as {}: weights are {}.", checkpoint->name,
                                 base::dtype_name(*placement.dtype), base::dtype_list()));
  }
  checkpoint->placement = std::move(placement);
  for (auto& shard : open_checkpoint(path)) {
    const auto contents = std::make_shared<Contents>();
    contents->file = std::move(shard.file);
    contents->tensors = std::move(shard.tensors);
    for (std::size_t i = 0; i < contents->tensors.size(); ++i)
      checkpoint->entries.emplace(contents->tensors[i].name, std::make_unique<Entry>(contents, i));
  }
  StateDict dict;
  dict.checkpoint_ = std::move(checkpoint);
  return dict;
}

void StateDict::rename(const std::function<std::optional<std::string>(std::string_view)>& rule) {
  decltype(Checkpoint::entries) renamed;
  // All names are worked out before anything moves: an error leaves the checkpoint as it was.
  std::map<std::string, std::string_view, std::less<>> sources;
  for (const auto& [name, entry] : checkpoint_->entries) {
    std::string target = rule(name).value_or(name);
    const auto [it, inserted] = sources.emplace(std::move(target), name);
    if (!inserted) {
      throw ModelError(
          fmt::format("{} has tensors \"{}\" and \"{}\", which are both known as \"{}\": it mixes two "
                      "generations of names.",
                      checkpoint_->name, printable(it->second), printable(name), printable(it->first)));
    }
  }
  for (const auto& [target, source] : sources) {
    renamed.emplace(target, std::move(checkpoint_->entries.find(source)->second));
  }
  checkpoint_->entries = std::move(renamed);
}

StateDict StateDict::select(std::string_view prefix) const {
  StateDict dict = *this;
  dict.prefix_.append(prefix);
  return dict;
}

std::string StateDict::full(std::string_view name) const {
  return prefix_ + std::string(name);
}

const StateDict::Entry* StateDict::lookup(std::string_view name) const {
  const auto it = checkpoint_->entries.find(full(name));
  return it == checkpoint_->entries.end() ? nullptr : it->second.get();
}

const StateDict::Entry& StateDict::lookup_or_throw(std::string_view name) const {
  if (const Entry* entry = lookup(name)) return *entry;
  throw ModelError(
      fmt::format("{} has no tensor \"{}\", which its config.json calls for{}: config and weights do not "
                  "belong together.",
                  checkpoint_->name, printable(full(name)), checkpoint_->resembling(full(name))));
}

bool StateDict::has(std::string_view name) const {
  return lookup(name) != nullptr;
}

std::vector<std::int64_t> StateDict::shape(std::string_view name) const {
  return lookup_or_throw(name).stored.shape;
}

at::ScalarType StateDict::stored_dtype(std::string_view name) const {
  const Entry& entry = lookup_or_throw(name);
  if (const auto dtype = scalar_type(entry.stored.dtype)) return *dtype;
  throw ModelError(fmt::format("{} stores tensor \"{}\" as {}: tte computes with F32, F16 and BF16.",
                               entry.file->name(), printable(full(name)), entry.stored.dtype));
}

const StateDict::Entry& StateDict::expect(std::string_view name, at::IntArrayRef shape) const {
  const Entry& entry = lookup_or_throw(name);
  static_cast<void>(stored_dtype(name));  // Throws for a dtype that no tensor has.
  if (shape != at::IntArrayRef(entry.stored.shape)) {
    throw ModelError(fmt::format(
        "{} has tensor \"{}\" of shape {}, but its config.json calls for {}: config and "
        "weights do not belong together.",
        entry.file->name(), printable(full(name)), shape_text(entry.stored.shape), shape_text(shape)));
  }
  return entry;
}

at::Tensor StateDict::get(std::string_view name, at::IntArrayRef shape) const {
  const Entry& entry = expect(name, shape);
  at::Tensor tensor = checkpoint_->take({&entry}, shape.vec());
  entry.used = true;
  return tensor;
}

std::optional<at::Tensor> StateDict::find(std::string_view name, at::IntArrayRef shape) const {
  if (!has(name)) return std::nullopt;
  return get(name, shape);
}

at::Tensor StateDict::stacked(const std::vector<std::string>& names,
                              const std::vector<std::vector<std::int64_t>>& shapes) const {
  if (names.empty() || names.size() != shapes.size()) {
    throw std::invalid_argument("StateDict::stacked() needs at least one name, and one shape for each.");
  }
  std::vector<const Entry*> parts;
  std::vector<std::int64_t> whole = shapes[0];
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto& shape = shapes[i];
    if (shape.empty() || !std::equal(shape.begin() + 1, shape.end(), whole.begin() + 1, whole.end())) {
      throw std::invalid_argument(
          "StateDict::stacked() needs shapes that differ only in their first dimension.");
    }
    if (i > 0) whole[0] += shape[0];
    parts.push_back(&expect(names[i], shape));
    if (!checkpoint_->placement.dtype && parts[i]->stored.dtype != parts[0]->stored.dtype) {
      throw ModelError(fmt::format("{} stores \"{}\" as {} but \"{}\" as {}: load it with one dtype for all.",
                                   checkpoint_->name, printable(full(names[0])), parts[0]->stored.dtype,
                                   printable(full(names[i])), parts[i]->stored.dtype));
    }
  }
  at::Tensor tensor = checkpoint_->take(parts, whole);
  for (const Entry* part : parts) part->used = true;
  return tensor;
}

void StateDict::mark_used(std::string_view name) const {
  if (const Entry* entry = lookup(name)) entry->used = true;
}

template <typename Visit>
void StateDict::visit(const Visit& each) const {
  const auto& entries = checkpoint_->entries;
  for (auto it = entries.lower_bound(prefix_); it != entries.end() && it->first.starts_with(prefix_); ++it) {
    each(std::string_view(it->first).substr(prefix_.size()), *it->second);
  }
}

std::vector<std::string> StateDict::names() const {
  std::vector<std::string> names;
  visit([&](std::string_view name, const Entry& /*entry*/) { names.emplace_back(name); });
  return names;
}

void StateDict::check_all_used() const {
  std::vector<std::string> listed;
  std::size_t unused = 0;
  visit([&](std::string_view name, const Entry& entry) {
    if (entry.used) return;
    if (++unused <= kMostNamesListed) listed.push_back(fmt::format("\"{}\"", printable(full(name))));
  });
  if (unused == 0) return;
  const std::string more = unused > listed.size() ? fmt::format(" and {} more", unused - listed.size()) : "";
  throw ModelError(fmt::format("{} has tensors that the model of its config.json does not use: {}{}.",
                               checkpoint_->name, fmt::join(listed, ", "), more));
}

base::Digest StateDict::fingerprint() const {
  base::Digester digester;
  visit([&](std::string_view name, const Entry& entry) {
    const StoredTensor& tensor = entry.stored;
    digester.text(name).text(tensor.dtype).number(static_cast<std::int64_t>(tensor.shape.size()));
    for (const std::int64_t size : tensor.shape) digester.number(size);
    const base::Digest& content = (*entry.contents)[entry.index];
    digester.bytes(&content.low, sizeof content.low).bytes(&content.high, sizeof content.high);
  });
  return digester.finish();
}

std::uint64_t StateDict::identity() const {
  std::vector<at::Tensor> tensors;
  const std::lock_guard lock(checkpoint_->mutex);
  visit([&](std::string_view /*name*/, const Entry& entry) {
    const auto it = checkpoint_->taken.find(&entry);
    if (it != checkpoint_->taken.end()) tensors.push_back(it->second);
  });
  const auto& store = checkpoint_->placement.store;
  // Without a store nothing is shared: a number of its own.
  return store ? store->identity(tensors) : WeightStore().identity(tensors);
}

std::vector<std::weak_ptr<const MappedFile>> StateDict::sources() const {
  std::vector<std::shared_ptr<const MappedFile>> files;
  const std::lock_guard lock(checkpoint_->mutex);
  for (const auto& [entry, tensor] : checkpoint_->taken) {
    if (!tensor.is_cpu()) continue;
    auto file = MappedFile::containing(tensor.const_data_ptr());
    if (file && std::find(files.begin(), files.end(), file) == files.end()) files.push_back(std::move(file));
  }
  return {files.begin(), files.end()};
}

}  // namespace tte::weights
