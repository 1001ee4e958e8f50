#include "weights/tensor_set.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/printable.h"
#include "tte/error.h"
#include "weights/rounding.h"
#include "weights/weight_store.h"

namespace tte::weights {

using base::printable;

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

// Whether the parts are one range of bytes of one file, of one dtype, as they are.
bool adjacent(const std::vector<TensorPiece>& parts) {
  const auto is_whole = [](const TensorPiece& part) { return part.entry->is_as_stored() && !part.is_cut(); };
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

std::string TensorSet::resembling(std::string_view missing) const {
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

std::optional<base::RoundedMatrix> TensorPiece::rounded(base::LinearFormat format) const {
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

at::Tensor TensorSet::read(const std::vector<TensorPiece>& parts, const std::vector<std::int64_t>& shape,
                           at::Device device, const StateDict::Packer* pack) const {
  at::Tensor tensor = place(parts, shape, device, pack);
  for (const TensorPiece& part : parts) {
    part.entry->used = true;
    (pack != nullptr ? part.entry->as_packed : part.entry->as_numbers) = true;
  }
  const std::lock_guard lock(mutex);
  taken[{parts[0].entry, pack != nullptr ? placement.linears : base::LinearFormat::kPlain, parts[0].begin}] =
      tensor;
  return tensor;
}

at::Tensor TensorSet::stack(const std::vector<TensorPiece>& parts, const std::vector<std::int64_t>& shape,
                            at::ScalarType dtype, at::Device device) {
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
  for (const TensorPiece& part : parts) {
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

at::Tensor TensorSet::packed(const std::vector<TensorPiece>& parts, const std::vector<std::int64_t>& shape,
                             at::ScalarType dtype, const StateDict::Packer& pack) const {
  std::vector<base::RoundedMatrix> rounded;
  for (const TensorPiece& part : parts) {
    auto matrix = part.rounded(placement.linears);
    if (!matrix) break;
    rounded.push_back(*std::move(matrix));
  }
  at::Tensor packed = rounded.size() == parts.size() ? pack.rounded(rounded)
                                                     : pack.numbers(stack(parts, shape, dtype, at::kCPU));
  // The file's pages were read once, and would count as this process's memory from now on.
  for (const TensorPiece& part : parts)
    part.entry->mapped().let_go(part.entry->stored.begin, part.entry->stored.size);
  return packed;
}

at::Tensor TensorSet::place(const std::vector<TensorPiece>& parts, const std::vector<std::int64_t>& shape,
                            at::Device device, const StateDict::Packer* pack) const {
  const at::ScalarType dtype = dtype_of(*parts[0].entry);
  const auto make = [&] {
    return pack != nullptr ? packed(parts, shape, dtype, *pack) : stack(parts, shape, dtype, device);
  };
  if (!placement.store) return make();
  base::Digester origin;
  for (const TensorPiece& part : parts) {
    const TensorEntry& entry = *part.entry;
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

void TensorSet::rename(const Naming& naming) {
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

void TensorSet::dequantize(const Quantization& quantization) {
  const auto place = [&](const std::string& tensor) -> std::optional<StoredPlace> {
    const TensorEntry* entry = find(tensor);
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
      TensorEntry& entry = *find(fmt::format("{}.{}", module, part));
      entry.used = entry.is_part = true;
    }
    const TensorEntry& codes = *find(fmt::format("{}.{}", module, parts.front()));
    auto entry = std::make_unique<TensorEntry>(codes.file, codes.index);
    entry->quantized = weight;
    entry->shape = weight->shape();
    entry->dtype = weight->dtype();
    entries[module + ".weight"] = std::move(entry);
  }
}

TensorEntry* TensorSet::find(const std::string& entry) const {
  const auto it = entries.find(entry);
  return it == entries.end() ? nullptr : it->second.get();
}

std::vector<std::string> TensorSet::names_of(const std::string& target, const Naming& naming) const {
  if (!naming.tied) return {target};
  const auto& [first, second] = *naming.tied;
  if (target != first && target != second) return {target};
  const TensorEntry* one = find(first);
  const TensorEntry* two = find(second);
  if (one == nullptr && two == nullptr) return {target};
  if (one != nullptr && two != nullptr &&
      (one->dtype != two->dtype || one->shape != two->shape || one->bytes() != two->bytes()))
    return {target};
  return {first, second};
}

void TensorSet::adapt(const Adapter& adapter, const Naming& naming) {
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

  // From here on the two names of what is tied are two tensors.
  const auto untie = [&](const std::string& target) {
    // NOLINTNEXTLINE(performance-unnecessary-copy-initialization): what it is copied of changes below.
    const std::vector<std::string> both = place_of(target);
    for (std::size_t i = 0; both.size() > 1 && i < 2; ++i) {
      if (find(both[i]) == nullptr) entries.emplace(both[i], find(both[1 - i])->twin());
      place_of(both[i]) = {both[i]};
    }
  };

  std::map<std::string, std::size_t> replaced;
  for (const Replacement& replacement : adapter.replacements) {
    const std::string target = named(replacement.target);
    if (const auto [it, is_new] = replaced.emplace(target, replacement.index); !is_new) {
      const auto& tensors = adapter.file->tensors();
      throw ModelError(fmt::format("{} has tensors \"{}\" and \"{}\", which are both known as \"{}\".",
                                   adapter.file->file()->name(), printable(tensors[it->second].name),
                                   printable(tensors[replacement.index].name), printable(target)));
    }
    if (replacement.untied) untie(target);
    for (const std::string& each : place_of(target)) {
      const TensorEntry* before = find(each);
      if (before == nullptr && each != target) continue;
      auto entry = std::make_unique<TensorEntry>(adapter.file, replacement.index);
      if (before != nullptr && scalar_type(before->dtype)) entry->dtype = before->dtype;
      entries[each] = std::move(entry);
    }
  }
  for (const Delta& delta : adapter.deltas) {
    const std::string target = named(delta.target());
    // It was trained beside one module: PEFT's merging, which changes both, gives another model.
    untie(target);
    add(delta, target);
  }
  if (adapter.of_all_layers) check_all_layers();
}

void TensorSet::check_all_layers() const {
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

void TensorSet::add(const Delta& delta, const std::string& target) {
  TensorEntry* entry = find(target);
  if (entry == nullptr) {
    throw ModelError(fmt::format("{} for \"{}\", which {} does not have{}: the adapter is of another model.",
                                 delta.shown(), printable(target, 80), name, resembling(target)));
  }
  delta.check_fits(entry->shape, target);
  if (!scalar_type(entry->dtype)) {
    throw ModelError(fmt::format(
        "{} stores tensor \"{}\" as {}, to which an adapter cannot add: it must be F32, F16 or BF16.",
        entry->mapped().name(), printable(target), entry->dtype));
  }
  entry->deltas.push_back(delta);
}

}  // namespace tte::weights
