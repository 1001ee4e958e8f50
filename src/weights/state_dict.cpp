#include "weights/state_dict.h"

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "base/dtype.h"
#include "base/file.h"
#include "base/printable.h"
#include "tte/error.h"
#include "weights/rounding.h"
#include "weights/shards.h"
#include "weights/tensor_set.h"
#include "weights/weight_store.h"

namespace tte::weights {

using base::printable;

namespace {

constexpr std::string_view kWeight = ".weight";

// Whether a tensor is one of a module with one of these last names.
bool is_of(const std::vector<std::string>& modules, std::string_view tensor) {
  std::string_view module = tensor.substr(0, std::min(tensor.rfind('.'), tensor.size()));
  if (const auto dot = module.rfind('.'); dot != std::string_view::npos) module.remove_prefix(dot + 1);
  return std::ranges::find(modules, module) != modules.end();
}

constexpr std::size_t kMostNamesListed = 10;
constexpr std::size_t kMostLettersListed = 200;  // After which no further name is.

}  // namespace

StateDict StateDict::open(const base::Checkpoint& where, Placement placement, const Naming& naming) {
  auto set = std::make_shared<TensorSet>();
  set->name = base::shown(where.base());
  if (placement.dtype && !at::isFloatingType(*placement.dtype)) {
    throw InputError(fmt::format("{} cannot be loaded as {}: weights are {}.", set->name,
                                 base::dtype_name(*placement.dtype), base::dtype_list()));
  }
  set->placement = std::move(placement);
  set->tied = naming.tied;
  for (auto& shard : open_checkpoint(where.base())) {
    const auto file = std::make_shared<const TensorFile>(std::move(shard.file), std::move(shard.tensors));
    for (std::size_t i = 0; i < file->tensors().size(); ++i)
      set->entries.emplace(file->tensors()[i].name, std::make_unique<TensorEntry>(file, i));
  }
  if (naming.rename) set->rename(naming);
  if (const auto quantization = Quantization::read(where.base())) set->dequantize(*quantization);
  if (where.is_adapted()) set->adapt(Adapter::open(where.folder()), naming);
  StateDict dict;
  dict.set_ = std::move(set);
  return dict;
}

StateDict StateDict::select(std::string_view prefix) const {
  StateDict dict = *this;
  dict.prefix_.append(prefix);
  return dict;
}

StateDict StateDict::slice(Slice slice) const {
  StateDict dict = *this;
  dict.slice_ = std::make_shared<const Slice>(std::move(slice));
  return dict;
}

std::optional<std::size_t> StateDict::cut_dimension(std::string_view name) const {
  if (slice_ == nullptr) return std::nullopt;
  if (is_of(slice_->by_outputs, name)) return 0;
  if (is_of(slice_->by_inputs, name) && name.ends_with(kWeight)) return 1;
  return std::nullopt;
}

std::string StateDict::full(std::string_view name) const {
  return prefix_ + std::string(name);
}

const TensorEntry* StateDict::lookup(std::string_view name) const {
  const bool is_first = slice_ == nullptr || slice_->index == 0;
  if (!is_first && is_of(slice_->by_inputs, name) && !name.ends_with(kWeight)) return nullptr;
  const auto it = set_->entries.find(full(name));
  return it == set_->entries.end() ? nullptr : it->second.get();
}

const TensorEntry& StateDict::lookup_or_throw(std::string_view name) const {
  if (const TensorEntry* entry = lookup(name)) return *entry;
  throw ModelError(
      fmt::format("{} has no tensor \"{}\", which its config.json calls for{}: config and weights do not "
                  "belong together.",
                  set_->name, printable(full(name)), set_->resembling(full(name))));
}

bool StateDict::has(std::string_view name) const {
  return lookup(name) != nullptr;
}

std::vector<std::int64_t> StateDict::shape(std::string_view name) const {
  std::vector<std::int64_t> shape = lookup_or_throw(name).shape;
  if (const auto dimension = cut_dimension(name); dimension && *dimension < shape.size())
    shape[*dimension] /= slice_->count;
  return shape;
}

at::ScalarType StateDict::stored_dtype(std::string_view name) const {
  const TensorEntry& entry = lookup_or_throw(name);
  if (const auto dtype = scalar_type(entry.dtype)) return *dtype;
  throw ModelError(fmt::format("{} stores tensor \"{}\" as {}: tte computes with F32, F16 and BF16.",
                               entry.mapped().name(), printable(full(name)), entry.dtype));
}

TensorPiece StateDict::expect(std::string_view name, at::IntArrayRef shape) const {
  const TensorEntry& entry = lookup_or_throw(name);
  static_cast<void>(stored_dtype(name));  // Throws for a dtype that no tensor has.
  TensorPiece piece{&entry};
  std::vector<std::int64_t> whole = shape.vec();
  if (const auto dimension = cut_dimension(name); dimension && *dimension < whole.size()) {
    const std::int64_t count = whole[*dimension];
    piece = {&entry, static_cast<std::int64_t>(*dimension), slice_->index * count, count};
    whole[*dimension] *= slice_->count;
  }
  if (whole != entry.shape) {
    throw ModelError(fmt::format(
        "{} has tensor \"{}\" of shape {}, but its config.json calls for {}: config and "
        "weights do not belong together.",
        entry.mapped().name(), printable(full(name)), shape_text(entry.shape), shape_text(whole)));
  }
  return piece;
}

at::Tensor StateDict::get(std::string_view name, at::IntArrayRef shape) const {
  return set_->read({expect(name, shape)}, shape.vec(), device());
}

std::optional<at::Tensor> StateDict::find(std::string_view name, at::IntArrayRef shape) const {
  if (!has(name)) return std::nullopt;
  return get(name, shape);
}

at::ScalarType StateDict::dtype(std::string_view name) const {
  return set_->placement.dtype.value_or(stored_dtype(name));
}

base::LinearFormat StateDict::linears() const {
  return set_->placement.linears;
}

at::Device StateDict::device() const {
  return slice_ != nullptr ? slice_->device : set_->placement.device;
}

std::vector<at::Device> StateDict::devices() const {
  const Placement& placement = set_->placement;
  std::vector<at::Device> devices = {placement.device};
  devices.insert(devices.end(), placement.further.begin(), placement.further.end());
  return devices;
}

at::Tensor StateDict::stacked(const std::vector<std::string>& names,
                              const std::vector<std::vector<std::int64_t>>& shapes) const {
  const auto [parts, whole] = parts_of(names, shapes);
  return set_->read(parts, whole, device());
}

at::Tensor StateDict::packed(const std::vector<std::string>& names,
                             const std::vector<std::vector<std::int64_t>>& shapes, const Packer& pack) const {
  const auto [parts, whole] = parts_of(names, shapes);
  return set_->read(parts, whole, device(), &pack);
}

std::pair<std::vector<TensorPiece>, std::vector<std::int64_t>> StateDict::parts_of(
    const std::vector<std::string>& names, const std::vector<std::vector<std::int64_t>>& shapes) const {
  if (names.empty() || names.size() != shapes.size()) {
    throw std::invalid_argument("StateDict::stacked() needs at least one name, and one shape for each.");
  }
  std::vector<TensorPiece> parts;
  std::vector<std::int64_t> whole = shapes[0];
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto& shape = shapes[i];
    if (shape.empty() || !std::equal(shape.begin() + 1, shape.end(), whole.begin() + 1, whole.end())) {
      throw std::invalid_argument(
          "StateDict::stacked() needs shapes that differ only in their first dimension.");
    }
    if (i > 0) whole[0] += shape[0];
    parts.push_back(expect(names[i], shape));
    const std::string &first = parts[0].entry->dtype, &dtype = parts[i].entry->dtype;
    if (!set_->placement.dtype && dtype != first) {
      throw ModelError(fmt::format("{} stores \"{}\" as {} but \"{}\" as {}: load it with one dtype for all.",
                                   set_->name, printable(full(names[0])), first, printable(full(names[i])),
                                   dtype));
    }
  }
  return {std::move(parts), std::move(whole)};
}

void StateDict::mark_used(std::string_view name) const {
  if (const TensorEntry* entry = lookup(name)) entry->used = true;
}

template <typename Visit>
void StateDict::visit(const Visit& each) const {
  const auto& entries = set_->entries;
  for (auto it = entries.lower_bound(prefix_); it != entries.end() && it->first.starts_with(prefix_); ++it) {
    each(std::string_view(it->first).substr(prefix_.size()), *it->second);
  }
}

std::vector<std::string> StateDict::names() const {
  std::vector<std::string> names;
  visit([&](std::string_view name, const TensorEntry& /*entry*/) { names.emplace_back(name); });
  return names;
}

void StateDict::check_all_used() const {
  std::vector<std::string> listed;
  std::size_t unused = 0, letters = 0;
  std::string where;
  visit([&](std::string_view name, const TensorEntry& entry) {
    if (entry.used) return;
    if (where.empty()) where = set_->owner(entry);
    ++unused;
    if (listed.size() == kMostNamesListed || letters > kMostLettersListed) return;
    listed.push_back(fmt::format("\"{}\"", printable(full(name), 80)));
    letters += listed.back().size();
  });
  if (unused == 0) return;
  const std::string more = unused > listed.size() ? fmt::format(" and {} more", unused - listed.size()) : "";
  throw ModelError(
      fmt::format("{} has tensors that neither the model of its config.json nor the recipe uses: {}{}.",
                  where, fmt::join(listed, ", "), more));
}

TensorsToWrite StateDict::unrounded(const std::string& name, const TensorEntry& entry) const {
  if (entry.is_as_stored()) {
    return {{{name, entry.stored.dtype, entry.stored.shape}}, [set = set_, entry = &entry] {
              const auto size = static_cast<std::int64_t>(entry->stored.size);
              return std::vector{map_tensor(entry->file->file(), entry->stored.begin, {size}, at::kByte)};
            }};
  }
  const at::ScalarType dtype = set_->dtype_of(entry);
  return {{{name, stored_name(dtype), entry.shape}}, [set = set_, entry = &entry, dtype] {
            return std::vector{TensorSet::stack({{entry}}, entry->shape, dtype, at::kCPU)};
          }};
}

std::vector<TensorsToWrite> StateDict::rounded(const Round& round) const {
  std::vector<TensorsToWrite> out;
  visit([&](std::string_view below, const TensorEntry& entry) {
    if (entry.is_part) return;
    std::string name = full(below);
    const auto& tied = set_->tied;
    const bool is_tied = tied && (name == tied->first || name == tied->second);
    const bool is_both = entry.as_packed && entry.as_numbers;
    if (!entry.as_packed || !name.ends_with(kWeight) || (is_both && !is_tied))
      return out.push_back(unrounded(name, entry));
    if (is_both) {
      out.push_back(unrounded(tied->first, entry));
      name = tied->second;
    }
    name.resize(name.size() - kWeight.size());
    const auto make = [set = set_, entry = &entry, round] {
      const at::Tensor matrix = TensorSet::stack({{entry}}, entry->shape, set->dtype_of(*entry), at::kCPU);
      base::RoundedMatrix made = round(matrix);
      entry->mapped().let_go(entry->stored.begin, entry->stored.size);
      return made;
    };
    out.push_back(rounded_tensors(name, entry.shape, linears(), make));
  });
  return out;
}

base::Digest StateDict::fingerprint() const {
  base::Digester digester;
  visit([&](std::string_view name, const TensorEntry& entry) {
    const StoredTensor& tensor = entry.stored;
    digester.text(name).text(tensor.dtype).number(static_cast<std::int64_t>(tensor.shape.size()));
    for (const std::int64_t size : tensor.shape) digester.number(size);
    const base::Digest& content = entry.file->digest(entry.index);
    digester.bytes(&content.low, sizeof content.low).bytes(&content.high, sizeof content.high);
    if (entry.quantized != nullptr) entry.quantized->add_format(digester);
    for (const Delta& delta : entry.deltas) delta.add_content(digester);
  });
  return digester.finish();
}

std::uint64_t StateDict::identity() const {
  std::vector<at::Tensor> tensors;
  const std::lock_guard lock(set_->mutex);
  visit([&](std::string_view /*name*/, const TensorEntry& entry) {
    const auto& taken = set_->taken;
    for (auto it = taken.lower_bound({&entry, base::LinearFormat::kPlain, 0});
         it != taken.end() && std::get<0>(it->first) == &entry; ++it) {
      tensors.push_back(it->second);
    }
  });
  const auto& store = set_->placement.store;
  // Without a store nothing is shared: a number of its own.
  return store ? store->identity(tensors) : WeightStore().identity(tensors);
}

std::vector<std::weak_ptr<const MappedFile>> StateDict::sources() const {
  std::vector<std::shared_ptr<const MappedFile>> files;
  const std::lock_guard lock(set_->mutex);
  for (const auto& [key, tensor] : set_->taken) {
    if (!tensor.is_cpu()) continue;
    auto file = MappedFile::containing(tensor.const_data_ptr());
    if (file && std::find(files.begin(), files.end(), file) == files.end()) files.push_back(std::move(file));
  }
  return {files.begin(), files.end()};
}

}  // namespace tte::weights
