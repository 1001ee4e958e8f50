#include "weights/state_dict.h"

#include <ATen/ATen.h>
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "base/dtype.h"
#include "base/file.h"
#include "base/printable.h"
#include "tte/error.h"
#include "weights/adapter.h"
#include "weights/quantization.h"
#include "weights/rounding.h"
#include "weights/shards.h"
#include "weights/tensor_file.h"
#include "weights/weight_store.h"

namespace tte::weights {

using base::printable;

struct StateDict::Entry {
  std::shared_ptr<const TensorFile> file;
  std::size_t index;  // Where it is in its file.
  StoredTensor stored;
  std::string dtype;  // As which it counts: that of the base's tensor where an adapter's replaces it.
  std::vector<std::int64_t> shape;
  std::shared_ptr<const QuantizedWeight> quantized;  // What it is the codes of; null: it is as it is stored.
  std::vector<Delta> deltas;                         // Added when it is taken out.
  bool is_part = false;  // One of the tensors of a weight of few bits, which is an entry itself.
  mutable std::atomic<bool> used = false;
  mutable std::atomic<bool> as_numbers = false, as_packed = false;  // How it was taken out.

  Entry(std::shared_ptr<const TensorFile> all, std::size_t at)
      : file(std::move(all)),
        index(at),
        stored(file->tensors()[at]),
        dtype(stored.dtype),
        shape(stored.shape) {}
  [[nodiscard]] bool is_as_stored() const { return quantized == nullptr && deltas.empty(); }
  [[nodiscard]] const MappedFile& mapped() const { return *file->file(); }
  [[nodiscard]] std::string_view bytes() const { return mapped().bytes().substr(stored.begin, stored.size); }
  [[nodiscard]] at::Tensor load() const {  // Without what is added.
    if (quantized != nullptr) return quantized->dequantize();
    return map_tensor(file->file(), stored.begin, stored.shape, *scalar_type(stored.dtype));
  }
};

// A tensor as it is taken out: all of it, or some of one dimension.
struct StateDict::Piece {
  const Entry* entry;
  std::int64_t dimension = 0, begin = 0, count = -1;  // -1: all.

  [[nodiscard]] bool is_cut() const { return count >= 0; }
  [[nodiscard]] at::Tensor of(const at::Tensor& whole) const {
    return is_cut() ? whole.narrow(dimension, begin, count) : whole;
  }
  // The codes and scales of a weight of few bits, where the placement's format keeps such.
  [[nodiscard]] std::optional<base::RoundedMatrix> rounded(base::LinearFormat format) const;
};

struct StateDict::Checkpoint {
  std::string name;                                // What was opened, fit for messages.
  std::shared_ptr<const TensorFile> adapter_file;  // Null without an adapter.
  Placement placement;
  // By name; in order, so that those under a prefix are neighbours.
  std::map<std::string, std::unique_ptr<Entry>, std::less<>> entries;

  void rename(const Naming& naming);
  // Weights of few bits become tensors of numbers, under the names that they have in a checkpoint without any.
  void dequantize(const Quantization& quantization);
  // Applies an adapter's tensors to those of their names.
  void adapt(const Adapter& adapter, const Naming& naming);
  // Adds to the tensors `names`, which `target` stands for, as far as they are there. Throws ModelError if none is.
  void add(const Delta& delta, const std::string& target, const std::vector<std::string>& names);
  [[nodiscard]] Entry* find(const std::string& entry) const;
  // Who brings a tensor, for messages: the checkpoint, or its adapter's file.
  [[nodiscard]] std::string owner(const Entry& entry) const {
    return entry.file == adapter_file ? entry.mapped().name() : name;
  }
  // The names of the tensor that `target` is: itself, or both names of a tied one, of which one may be missing.
  [[nodiscard]] std::vector<std::string> names_of(const std::string& target, const Naming& naming) const;

  // What was taken out, by the first of its parts, its format, and where the part begins.
  mutable std::mutex mutex;
  mutable std::map<std::tuple<const Entry*, base::LinearFormat, std::int64_t>, at::Tensor> taken;

  // The tensors, stacked along the first dimension into `shape`, on the device; with `pack`, what it makes of them.
  [[nodiscard]] at::Tensor read(const std::vector<Piece>& parts, const std::vector<std::int64_t>& shape,
                                at::Device device, const Packer* pack = nullptr) const;
  [[nodiscard]] at::Tensor place(const std::vector<Piece>& parts, const std::vector<std::int64_t>& shape,
                                 at::Device device, const Packer* pack) const;
  [[nodiscard]] at::Tensor packed(const std::vector<Piece>& parts, const std::vector<std::int64_t>& shape,
                                  at::ScalarType dtype, const Packer& pack) const;
  [[nodiscard]] at::ScalarType dtype_of(const Entry& entry) const {
    return placement.dtype.value_or(*scalar_type(entry.dtype));
  }
  std::optional<std::pair<std::string, std::string>> tied;  // Naming::tied
  [[nodiscard]] static at::Tensor stack(const std::vector<Piece>& parts,
                                        const std::vector<std::int64_t>& shape, at::ScalarType dtype,
                                        at::Device device);

  // Throws ModelError where the adapter changes some layers' tensors of a kind and not all.
  void check_all_layers() const;

  // For a name that is missing: ` (there is "...")` with one that ends alike, if any.
  [[nodiscard]] std::string resembling(std::string_view missing) const;
};

namespace {

// "layers.*.q_proj.weight" of "layers.12.q_proj.weight": a number that is no module's own name is a layer's.
std::string kind_of(const std::string& name) {
  std::string out;
  std::size_t begin = 0;
  for (std::size_t dot = name.find('.'); dot != std::string::npos;
       begin = dot + 1, dot = name.find('.', begin)) {
    const std::string part = name.substr(begin, dot - begin);
    const bool is_number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    const bool is_last = name.find('.', dot + 1) == std::string::npos;
    out += (is_number && !is_last ? "*" : part) + ".";
  }
  return out + name.substr(begin);
}

constexpr std::string_view kWeight = ".weight";

// Whether a tensor is one of a module with one of these last names.
bool is_of(const std::vector<std::string>& modules, std::string_view tensor) {
  std::string_view module = tensor.substr(0, std::min(tensor.rfind('.'), tensor.size()));
  if (const auto dot = module.rfind('.'); dot != std::string_view::npos) module.remove_prefix(dot + 1);
  return std::ranges::find(modules, module) != modules.end();
}

constexpr std::size_t kMostNamesListed = 10;
constexpr std::size_t kMostLettersListed = 200;  // After which no further name is.

// Whether the parts are one range of bytes of one file, of one dtype, as they are.
template <typename Piece>
bool adjacent(const std::vector<Piece>& parts) {
  const auto is_whole = [](const Piece& part) { return part.entry->is_as_stored() && !part.is_cut(); };
  if (!std::ranges::all_of(parts, is_whole)) return false;
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const auto& before = parts[i - 1].entry->stored;
    const auto& stored = parts[i].entry->stored;
    if (parts[i].entry->file != parts[0].entry->file || stored.begin != before.begin + before.size ||
        stored.dtype != before.dtype) {
      return false;
    }
  }
  return true;
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

std::optional<base::RoundedMatrix> StateDict::Piece::rounded(base::LinearFormat format) const {
  if (entry->quantized == nullptr || !entry->deltas.empty()) return std::nullopt;
  auto matrix = entry->quantized->as_rounded(format);
  if (!matrix || !is_cut()) return matrix;
  const auto cut = [&](at::Tensor& part, std::int64_t from, std::int64_t size) {
    if (part.defined()) part = part.narrow(dimension, from, size).contiguous();
  };
  if (dimension == 0) {
    for (at::Tensor* part : {&matrix->codes, &matrix->scales, &matrix->factors}) cut(*part, begin, count);
  } else if (format == base::LinearFormat::kInt8) {
    cut(matrix->codes, begin, count);  // Which share an output's scale.
  } else {
    constexpr std::int64_t kGroup = base::kInt4Group;
    if (count % kGroup != 0) {
      throw ModelError(fmt::format(
          "{} has tensor \"{}\" in 4 bits with a scale for each {} inputs, but each device would have "
          "{} of its {} inputs: lower tensor_parallel, or give the original checkpoint.",
          entry->mapped().name(), printable(entry->stored.name, 80), kGroup, count, entry->shape[1]));
    }
    for (const auto& [part, columns] : {std::pair(&matrix->codes, kGroup * base::kInt4Bits / 8),
                                        std::pair(&matrix->scales, std::int64_t{1}),
                                        std::pair(&matrix->factors, kGroup / base::kInt4Block)})
      cut(*part, begin / kGroup * columns, count / kGroup * columns);
  }
  return matrix;
}

at::Tensor StateDict::Checkpoint::read(const std::vector<Piece>& parts,
                                       const std::vector<std::int64_t>& shape, at::Device device,
                                       const Packer* pack) const {
  at::Tensor tensor = place(parts, shape, device, pack);
  for (const Piece& part : parts) {
    part.entry->used = true;
    (pack != nullptr ? part.entry->as_packed : part.entry->as_numbers) = true;
  }
  const std::lock_guard lock(mutex);
  taken[{parts[0].entry, pack != nullptr ? placement.linears : base::LinearFormat::kPlain, parts[0].begin}] =
      tensor;
  return tensor;
}

at::Tensor StateDict::Checkpoint::stack(const std::vector<Piece>& parts,
                                        const std::vector<std::int64_t>& shape, at::ScalarType dtype,
                                        at::Device device) {
  if (adjacent(parts)) {
    const StoredTensor& first = parts[0].entry->stored;
    return map_tensor(parts[0].entry->file->file(), first.begin, shape, *scalar_type(first.dtype))
        .to(device, dtype);
  }
  // Some rows of one tensor are a view of the file, too.
  if (parts.size() == 1 && parts[0].entry->is_as_stored())
    return parts[0].of(parts[0].entry->load()).contiguous().to(device, dtype);
  at::Tensor whole = at::empty(shape, at::TensorOptions(dtype).device(device));
  std::int64_t row = 0;
  for (const Piece& part : parts) {
    at::Tensor tensor = part.entry->load();
    if (!part.entry->deltas.empty()) tensor = tensor.to(device);
    for (const Delta& delta : part.entry->deltas) tensor = delta.merge(tensor);
    tensor = part.of(tensor);
    const std::int64_t rows = tensor.size(0);
    whole.narrow(0, row, rows).copy_(tensor);
    row += rows;
  }
  return whole;
}

at::Tensor StateDict::Checkpoint::packed(const std::vector<Piece>& parts,
                                         const std::vector<std::int64_t>& shape, at::ScalarType dtype,
                                         const Packer& pack) const {
  std::vector<base::RoundedMatrix> rounded;
  for (const Piece& part : parts) {
    auto matrix = part.rounded(placement.linears);
    if (!matrix) break;
    rounded.push_back(*std::move(matrix));
  }
  at::Tensor packed = rounded.size() == parts.size() ? pack.rounded(rounded)
                                                     : pack.numbers(stack(parts, shape, dtype, at::kCPU));
  // The file's pages were read once, and would count as this process's memory from now on.
  for (const Piece& part : parts)
    part.entry->mapped().let_go(part.entry->stored.begin, part.entry->stored.size);
  return packed;
}

at::Tensor StateDict::Checkpoint::place(const std::vector<Piece>& parts,
                                        const std::vector<std::int64_t>& shape, at::Device device,
                                        const Packer* pack) const {
  const at::ScalarType dtype = dtype_of(*parts[0].entry);
  const auto make = [&] {
    return pack != nullptr ? packed(parts, shape, dtype, *pack) : stack(parts, shape, dtype, device);
  };
  if (!placement.store) return make();
  base::Digester origin;
  for (const Piece& part : parts) {
    const Entry& entry = *part.entry;
    const base::Digest& file = entry.mapped().identity();
    origin.bytes(&file, sizeof(file)).number(static_cast<std::int64_t>(entry.stored.begin));
    origin.number(static_cast<std::int64_t>(entry.stored.size));
    origin.number(part.dimension).number(part.begin).number(part.count);
    if (entry.quantized != nullptr) entry.quantized->add_origin(origin);
    for (const Delta& delta : entry.deltas) delta.add_origin(origin);
  }
  origin.number(static_cast<std::int64_t>(dtype));
  origin.number(static_cast<std::int64_t>(device.type())).number(device.index());
  if (pack != nullptr) origin.number(static_cast<std::int64_t>(placement.linears));
  return placement.store->share(origin.finish(), make);
}

void StateDict::Checkpoint::rename(const Naming& naming) {
  decltype(entries) renamed;
  std::map<std::string, std::string, std::less<>> sources;
  for (auto& [source, entry] : entries) {
    const std::string target = naming.rename(source).value_or(source);
    const auto [it, inserted] = sources.emplace(target, source);
    if (!inserted) {
      throw ModelError(
          fmt::format("{} has tensors \"{}\" and \"{}\", which are both known as \"{}\": it mixes two "
                      "generations of names.",
                      name, printable(it->second), printable(source), printable(target)));
    }
    renamed.emplace(target, std::move(entry));
  }
  entries = std::move(renamed);
}

void StateDict::Checkpoint::dequantize(const Quantization& quantization) {
  const auto place = [&](const std::string& tensor) -> std::optional<StoredPlace> {
    const Entry* entry = find(tensor);
    if (entry == nullptr) return std::nullopt;
    return StoredPlace{entry->file, entry->index};
  };
  std::vector<std::string> modules;
  for (const auto& [tensor, entry] : entries) {
    if (auto module = quantization.module_of(tensor, entry->dtype)) modules.push_back(*std::move(module));
  }
  for (const std::string& module : modules) {
    const auto [weight, parts] = quantization.weight_of(module, place);
    for (const std::string& part : parts) {
      Entry& entry = *find(fmt::format("{}.{}", module, part));
      entry.used = entry.is_part = true;
    }
    const Entry& codes = *find(fmt::format("{}.{}", module, parts.front()));
    auto entry = std::make_unique<Entry>(codes.file, codes.index);
    entry->quantized = weight;
    entry->shape = weight->shape();
    entry->dtype = weight->dtype();
    entries[module + ".weight"] = std::move(entry);
  }
}

StateDict::Entry* StateDict::Checkpoint::find(const std::string& entry) const {
  const auto it = entries.find(entry);
  return it == entries.end() ? nullptr : it->second.get();
}

std::vector<std::string> StateDict::Checkpoint::names_of(const std::string& target,
                                                         const Naming& naming) const {
  if (!naming.tied) return {target};
  const auto& [first, second] = *naming.tied;
  if (target != first && target != second) return {target};
  const Entry* one = find(first);
  const Entry* two = find(second);
  if (one == nullptr && two == nullptr) return {target};
  if (one != nullptr && two != nullptr &&
      (one->dtype != two->dtype || one->shape != two->shape || one->bytes() != two->bytes()))
    return {target};
  return {first, second};
}

void StateDict::Checkpoint::adapt(const Adapter& adapter, const Naming& naming) {
  adapter_file = adapter.file;
  const auto named = [&](const std::string& target) {
    return naming.rename ? naming.rename(target).value_or(target) : target;
  };
  // What is tied is told from the base's own tensors.
  std::map<std::string, std::vector<std::string>> places;
  const auto place_of = [&](const std::string& target) -> std::vector<std::string>& {
    const auto [it, is_new] = places.try_emplace(target);
    if (is_new) it->second = names_of(target, naming);
    return it->second;
  };
  for (const Replacement& replacement : adapter.replacements)
    static_cast<void>(place_of(named(replacement.target)));
  for (const Delta& delta : adapter.deltas) static_cast<void>(place_of(named(delta.target())));

  std::map<std::string, std::size_t> replaced;
  for (const Replacement& replacement : adapter.replacements) {
    const std::string target = named(replacement.target);
    if (const auto [it, is_new] = replaced.emplace(target, replacement.index); !is_new) {
      const auto& tensors = adapter.file->tensors();
      throw ModelError(fmt::format("{} has tensors \"{}\" and \"{}\", which are both known as \"{}\".",
                                   adapter.file->file()->name(), printable(tensors[it->second].name),
                                   printable(tensors[replacement.index].name), printable(target)));
    }
    // NOLINTNEXTLINE(performance-unnecessary-copy-initialization): what it is copied of changes below.
    const std::vector<std::string> both = place_of(target);
    if (replacement.untied && both.size() > 1) {
      const std::string& other = both[0] == target ? both[1] : both[0];
      if (find(other) == nullptr) {
        const Entry& kept = *find(target);
        entries.emplace(other, std::make_unique<Entry>(kept.file, kept.index));
      }
      for (const std::string& each : both) place_of(each) = {each};
    }
    for (const std::string& each : place_of(target)) {
      const Entry* before = find(each);
      if (before == nullptr && each != target) continue;
      auto entry = std::make_unique<Entry>(adapter.file, replacement.index);
      if (before != nullptr && scalar_type(before->dtype)) entry->dtype = before->dtype;
      entries[each] = std::move(entry);
    }
  }
  // PEFT merges modules in the model's order, in which a head comes last; of two magnitudes the later one counts.
  std::vector<Delta> deltas = adapter.deltas;
  std::stable_partition(deltas.begin(), deltas.end(), [&](const Delta& delta) {
    return !naming.tied || named(delta.target()) != naming.tied->second;
  });
  for (const Delta& delta : deltas) {
    const std::string target = named(delta.target());
    add(delta, target, place_of(target));
  }
  if (adapter.of_all_layers) check_all_layers();
}

void StateDict::Checkpoint::check_all_layers() const {
  struct Kind {
    const std::string* without = nullptr;  // One that the adapter does not change.
    std::size_t all = 0, changed = 0;
  };
  std::map<std::string, Kind> kinds;
  for (const auto& [name, entry] : entries) {
    Kind& kind = kinds[kind_of(name)];
    ++kind.all;
    if (entry->deltas.empty()) {
      kind.without = &name;
    } else {
      ++kind.changed;
    }
  }
  for (const auto& [name, kind] : kinds) {
    if (kind.changed == 0 || kind.changed == kind.all) continue;
    throw ModelError(fmt::format(
        "{} changes {} of the {} tensors \"{}\" of {} (not \"{}\"), and leaves no layer out on purpose: the "
        "adapter is of another model.",
        adapter_file->file()->name(), kind.changed, kind.all, printable(name, 80), this->name,
        printable(*kind.without, 80)));
  }
}

void StateDict::Checkpoint::add(const Delta& delta, const std::string& target,
                                const std::vector<std::string>& names) {
  bool found = false;
  for (const std::string& each : names) {
    Entry* entry = find(each);
    if (entry == nullptr) continue;
    found = true;
    delta.check_fits(entry->shape, each);
    if (!scalar_type(entry->dtype)) {
      throw ModelError(
          fmt::format("{} stores tensor \"{}\" as {}, to which an adapter cannot add: it must be F32, F16 "
                      "or BF16.",
                      entry->mapped().name(), printable(each), entry->dtype));
    }
    entry->deltas.push_back(delta);
  }
  if (!found) {
    throw ModelError(fmt::format("{} for \"{}\", which {} does not have{}: the adapter is of another model.",
                                 delta.shown(), printable(target, 80), name, resembling(target)));
  }
}

StateDict StateDict::open(const base::Checkpoint& where, Placement placement, const Naming& naming) {
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->name = base::shown(where.base());
  if (placement.dtype && !at::isFloatingType(*placement.dtype)) {
    throw InputError(fmt::format("{} cannot be loaded as {}: weights are {}.", checkpoint->name,
                                 base::dtype_name(*placement.dtype), base::dtype_list()));
  }
  checkpoint->placement = std::move(placement);
  checkpoint->tied = naming.tied;
  for (auto& shard : open_checkpoint(where.base())) {
    const auto file = std::make_shared<const TensorFile>(std::move(shard.file), std::move(shard.tensors));
    for (std::size_t i = 0; i < file->tensors().size(); ++i)
      checkpoint->entries.emplace(file->tensors()[i].name, std::make_unique<Entry>(file, i));
  }
  if (naming.rename) checkpoint->rename(naming);
  if (const auto quantization = Quantization::read(where.base())) checkpoint->dequantize(*quantization);
  if (where.is_adapted()) checkpoint->adapt(Adapter::open(where.folder()), naming);
  StateDict dict;
  dict.checkpoint_ = std::move(checkpoint);
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

const StateDict::Entry* StateDict::lookup(std::string_view name) const {
  const bool is_first = slice_ == nullptr || slice_->index == 0;
  if (!is_first && is_of(slice_->by_inputs, name) && !name.ends_with(kWeight)) return nullptr;
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
  std::vector<std::int64_t> shape = lookup_or_throw(name).shape;
  if (const auto dimension = cut_dimension(name); dimension && *dimension < shape.size())
    shape[*dimension] /= slice_->count;
  return shape;
}

at::ScalarType StateDict::stored_dtype(std::string_view name) const {
  const Entry& entry = lookup_or_throw(name);
  if (const auto dtype = scalar_type(entry.dtype)) return *dtype;
  throw ModelError(fmt::format("{} stores tensor \"{}\" as {}: tte computes with F32, F16 and BF16.",
                               entry.mapped().name(), printable(full(name)), entry.dtype));
}

StateDict::Piece StateDict::expect(std::string_view name, at::IntArrayRef shape) const {
  const Entry& entry = lookup_or_throw(name);
  static_cast<void>(stored_dtype(name));  // Throws for a dtype that no tensor has.
  Piece piece{&entry};
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
  return checkpoint_->read({expect(name, shape)}, shape.vec(), device());
}

std::optional<at::Tensor> StateDict::find(std::string_view name, at::IntArrayRef shape) const {
  if (!has(name)) return std::nullopt;
  return get(name, shape);
}

at::ScalarType StateDict::dtype(std::string_view name) const {
  return checkpoint_->placement.dtype.value_or(stored_dtype(name));
}

base::LinearFormat StateDict::linears() const {
  return checkpoint_->placement.linears;
}

at::Device StateDict::device() const {
  return slice_ != nullptr ? slice_->device : checkpoint_->placement.device;
}

std::vector<at::Device> StateDict::devices() const {
  const Placement& placement = checkpoint_->placement;
  std::vector<at::Device> devices = {placement.device};
  devices.insert(devices.end(), placement.further.begin(), placement.further.end());
  return devices;
}

at::Tensor StateDict::stacked(const std::vector<std::string>& names,
                              const std::vector<std::vector<std::int64_t>>& shapes) const {
  const auto [parts, whole] = parts_of(names, shapes);
  return checkpoint_->read(parts, whole, device());
}

at::Tensor StateDict::packed(const std::vector<std::string>& names,
                             const std::vector<std::vector<std::int64_t>>& shapes, const Packer& pack) const {
  const auto [parts, whole] = parts_of(names, shapes);
  return checkpoint_->read(parts, whole, device(), &pack);
}

std::pair<std::vector<StateDict::Piece>, std::vector<std::int64_t>> StateDict::parts_of(
    const std::vector<std::string>& names, const std::vector<std::vector<std::int64_t>>& shapes) const {
  if (names.empty() || names.size() != shapes.size()) {
    throw std::invalid_argument("StateDict::stacked() needs at least one name, and one shape for each.");
  }
  std::vector<Piece> parts;
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
    if (!checkpoint_->placement.dtype && dtype != first) {
      throw ModelError(fmt::format("{} stores \"{}\" as {} but \"{}\" as {}: load it with one dtype for all.",
                                   checkpoint_->name, printable(full(names[0])), first,
                                   printable(full(names[i])), dtype));
    }
  }
  return {std::move(parts), std::move(whole)};
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
  std::size_t unused = 0, letters = 0;
  std::string where;
  visit([&](std::string_view name, const Entry& entry) {
    if (entry.used) return;
    if (where.empty()) where = checkpoint_->owner(entry);
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

TensorsToWrite StateDict::unrounded(const std::string& name, const Entry& entry) const {
  if (entry.is_as_stored()) {
    return {{{name, entry.stored.dtype, entry.stored.shape}}, [checkpoint = checkpoint_, entry = &entry] {
              const auto size = static_cast<std::int64_t>(entry->stored.size);
              return std::vector{map_tensor(entry->file->file(), entry->stored.begin, {size}, at::kByte)};
            }};
  }
  const at::ScalarType dtype = checkpoint_->dtype_of(entry);
  return {{{name, stored_name(dtype), entry.shape}}, [checkpoint = checkpoint_, entry = &entry, dtype] {
            return std::vector{Checkpoint::stack({{entry}}, entry->shape, dtype, at::kCPU)};
          }};
}

std::vector<TensorsToWrite> StateDict::rounded(const Round& round) const {
  std::vector<TensorsToWrite> out;
  visit([&](std::string_view below, const Entry& entry) {
    if (entry.is_part) return;
    std::string name = full(below);
    const auto& tied = checkpoint_->tied;
    const bool is_tied = tied && (name == tied->first || name == tied->second);
    const bool is_both = entry.as_packed && entry.as_numbers;
    if (!entry.as_packed || !name.ends_with(kWeight) || (is_both && !is_tied))
      return out.push_back(unrounded(name, entry));
    if (is_both) {
      out.push_back(unrounded(tied->first, entry));
      name = tied->second;
    }
    name.resize(name.size() - kWeight.size());
    const auto make = [checkpoint = checkpoint_, entry = &entry, round] {
      const at::Tensor matrix =
          Checkpoint::stack({{entry}}, entry->shape, checkpoint->dtype_of(*entry), at::kCPU);
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
  visit([&](std::string_view name, const Entry& entry) {
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
  const std::lock_guard lock(checkpoint_->mutex);
  visit([&](std::string_view /*name*/, const Entry& entry) {
    const auto& taken = checkpoint_->taken;
    for (auto it = taken.lower_bound({&entry, base::LinearFormat::kPlain, 0});
         it != taken.end() && std::get<0>(it->first) == &entry; ++it) {
      tensors.push_back(it->second);
    }
  });
  const auto& store = checkpoint_->placement.store;
  // Without a store nothing is shared: a number of its own.
  return store ? store->identity(tensors) : WeightStore().identity(tensors);
}

std::vector<std::weak_ptr<const MappedFile>> StateDict::sources() const {
  std::vector<std::shared_ptr<const MappedFile>> files;
  const std::lock_guard lock(checkpoint_->mutex);
  for (const auto& [key, tensor] : checkpoint_->taken) {
    if (!tensor.is_cpu()) continue;
    auto file = MappedFile::containing(tensor.const_data_ptr());
    if (file && std::find(files.begin(), files.end(), file) == files.end()) files.push_back(std::move(file));
  }
  return {files.begin(), files.end()};
}

}  // namespace tte::weights
