#include "weights/torch_file.h"

#include <ATen/ATen.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "base/printable.h"
#include "tte/error.h"
#include "weights/tensor_file.h"

namespace tte::weights {
namespace {

using base::printable;

constexpr std::size_t kMostPickle = std::size_t{1} << 20;  // Bytes of the structure; tensors lie beside it.
constexpr std::size_t kTensorAlignment = 8;                // torch.save aligns numbers to 64.
constexpr std::size_t kMostDimensions = 64;

[[noreturn]] void fail(const MappedFile& file, std::string_view why) {
  throw ModelError(fmt::format("{} {}.", file.name(), why));
}

// Little-endian numbers and stretches of bytes, never past the end.
class ByteReader {
 public:
  ByteReader(std::string_view bytes, const MappedFile& file) : bytes_(bytes), file_(file) {}

  std::string_view read(std::size_t count) {
    if (count > bytes_.size()) fail(file_, "ends too early: it is cut or damaged, fetch it again");
    const std::string_view out = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return out;
  }
  template <typename T>
  T number() {
    T out;
    std::memcpy(&out, read(sizeof(T)).data(), sizeof(T));
    return out;
  }
  std::string_view line() {
    const std::size_t end = bytes_.find('\n');
    const std::string_view out = read(end == std::string_view::npos ? bytes_.size() + 1 : end);
    read(1);
    return out;
  }

 private:
  std::string_view bytes_;
  const MappedFile& file_;
};

// Where the bytes of an archive's record lie in the file.
struct Record {
  std::size_t begin = 0, size = 0;
};

// The records of a zip archive, by their names without the folder that all are in.
std::map<std::string, Record> records_of(const MappedFile& file) {
  constexpr std::string_view kEnd = "PK\5\6", kEntry = "PK\1\2", kLocal = "PK\3\4";
  constexpr std::size_t kEndBytes = 22, kNameLengthAt = 26, kLocalBytes = 30;
  const std::string_view bytes = file.bytes();
  const std::size_t end = bytes.rfind(kEnd);
  if (!bytes.starts_with(kLocal) || end == std::string_view::npos || bytes.size() - end < kEndBytes)
    fail(file, "is no file of torch.save (of torch 1.6 or later): it is cut or damaged, or of another kind");
  ByteReader tail(bytes.substr(end + 10), file);
  const auto count = tail.number<std::uint16_t>();
  (void)tail.number<std::uint32_t>();
  const auto directory = tail.number<std::uint32_t>();
  constexpr auto kFar = std::numeric_limits<std::uint32_t>::max();
  if (directory == kFar) fail(file, "has 4 GB or more, which is not read: save its tensors as bfloat16");
  std::map<std::string, Record> out;
  ByteReader entries(bytes.substr(std::min<std::size_t>(directory, bytes.size())), file);
  for (std::uint16_t i = 0; i < count; ++i) {
    if (entries.read(kEntry.size()) != kEntry) fail(file, "has a damaged table of contents: fetch it again");
    (void)entries.read(6);
    const bool packed = entries.number<std::uint16_t>() != 0;
    (void)entries.read(12);
    const auto size = entries.number<std::uint32_t>();
    const auto name_bytes = entries.number<std::uint16_t>();
    const std::size_t rest = std::size_t{entries.number<std::uint16_t>()} + entries.number<std::uint16_t>();
    (void)entries.read(8);
    const std::size_t local = entries.number<std::uint32_t>();
    const std::string_view name = entries.read(name_bytes);
    (void)entries.read(rest);
    if (packed || size == kFar)
      fail(file, "has compressed or oversized parts, which torch.save does not write");
    ByteReader header(bytes.substr(std::min(local, bytes.size())), file);
    (void)header.read(kNameLengthAt);
    const std::size_t before = std::size_t{header.number<std::uint16_t>()} + header.number<std::uint16_t>();
    (void)header.read(before + size);
    out[std::string(name.substr(name.find('/') + 1))] = {local + kLocalBytes + before, size};
  }
  return out;
}

// A value of a pickle. Texts are views of the file, and what has items has them in the machine.
struct Value {
  enum class Kind : std::uint8_t {
    kNone,
    kNumber,
    kText,
    kGlobal,
    kTuple,
    kList,
    kDict,
    kStorage,
    kTensor,
    kMark
  };
  Kind kind = Kind::kNone;
  std::int64_t number = 0;
  std::string_view text;  // kGlobal: the module.
  std::string_view name;  // kGlobal
  std::vector<Value>* items = nullptr;
  at::Tensor tensor;  // kStorage: all of it, in one dimension.
};
using Kind = Value::Kind;

std::optional<at::ScalarType> storage_dtype(const Value& type) {
  constexpr std::array<std::pair<std::string_view, at::ScalarType>, 3> kTypes = {
      {{"FloatStorage", at::kFloat}, {"HalfStorage", at::kHalf}, {"BFloat16Storage", at::kBFloat16}}};
  for (const auto& [name, dtype] : kTypes) {
    if (type.kind == Kind::kGlobal && type.text == "torch" && type.name == name) return dtype;
  }
  return std::nullopt;
}

// Pickle's stack machine, of which only what makes up tensors in lists and dictionaries works.
class Machine {
 public:
  Machine(std::shared_ptr<const MappedFile> file, std::map<std::string, Record> records)
      : file_(std::move(file)), records_(std::move(records)) {}

  Value run() {
    const auto found = records_.find("data.pkl");
    if (found == records_.end()) refuse("holds no data.pkl");
    const Record record = found->second;
    if (record.size > kMostPickle) refuse("has a structure of more than 1 MB");
    ByteReader in(file_->bytes().substr(record.begin, record.size), *file_);
    for (;;) {
      const auto code = in.number<std::uint8_t>();
      if (code == '.') return pop();
      if (!constant(code, in) && !memory(code, in) && !container(code)) other(code, in);
    }
  }

 private:
  [[noreturn]] void refuse(std::string_view why) const {
    fail(*file_, fmt::format("{}, and not only tensors in lists as torch.save writes them", why));
  }

  Value pop() {
    if (stack_.empty()) refuse("is no sound pickle");
    Value out = std::move(stack_.back());
    stack_.pop_back();
    return out;
  }
  Value& top() {
    if (stack_.empty()) refuse("is no sound pickle");
    return stack_.back();
  }
  // What stands above the last mark, which goes.
  std::vector<Value> above_mark() {
    std::vector<Value> out;
    for (Value value = pop(); value.kind != Kind::kMark; value = pop()) out.push_back(std::move(value));
    std::reverse(out.begin(), out.end());
    return out;
  }
  void push(Kind kind, std::int64_t number = 0, std::string_view text = {}, std::string_view name = {}) {
    stack_.push_back({kind, number, text, name, nullptr, {}});
  }
  void push_items(Kind kind, std::vector<Value> items) {
    push(kind);
    stack_.back().items = &items_.emplace_back(std::move(items));
  }
  std::vector<Value> last(std::size_t count) {
    std::vector<Value> out(count);
    for (std::size_t i = count; i-- > 0;) out[i] = pop();
    return out;
  }

  bool constant(std::uint8_t code, ByteReader& in) {
    switch (code) {
      case 'N':
        return push(Kind::kNone), true;
      case 0x88:  // True
      case 0x89:
        return push(Kind::kNumber, code == 0x88), true;
      case 'K':
        return push(Kind::kNumber, in.number<std::uint8_t>()), true;
      case 'M':
        return push(Kind::kNumber, in.number<std::uint16_t>()), true;
      case 'J':
        return push(Kind::kNumber, in.number<std::int32_t>()), true;
      case 0x8a: {  // A number of up to 8 bytes.
        const std::string_view digits = in.read(in.number<std::uint8_t>());
        if (digits.size() > sizeof(std::int64_t)) refuse("has a number of more than 64 bits");
        const bool negative = !digits.empty() && (static_cast<unsigned char>(digits.back()) & 0x80U) != 0;
        std::int64_t number = negative ? -1 : 0;
        std::memcpy(&number, digits.data(), digits.size());
        return push(Kind::kNumber, number), true;
      }
      case 'G':
        return (void)in.read(8), push(Kind::kNone), true;
      case 'X':
        return push(Kind::kText, 0, in.read(in.number<std::uint32_t>())), true;
      case 0x8c:
        return push(Kind::kText, 0, in.read(in.number<std::uint8_t>())), true;
      case 'c': {
        const std::string_view module = in.line();
        return push(Kind::kGlobal, 0, module, in.line()), true;
      }
      default:
        return false;
    }
  }

  bool memory(std::uint8_t code, ByteReader& in) {
    switch (code) {
      case 'q':
        return memo_[in.number<std::uint8_t>()] = top(), true;
      case 'r':
        return memo_[in.number<std::uint32_t>()] = top(), true;
      case 0x94:
        return memo_[static_cast<std::uint32_t>(memo_.size())] = top(), true;
      case 'h':
        return stack_.push_back(remembered(in.number<std::uint8_t>())), true;
      case 'j':
        return stack_.push_back(remembered(in.number<std::uint32_t>())), true;
      default:
        return false;
    }
  }
  const Value& remembered(std::uint32_t index) const {
    const auto found = memo_.find(index);
    if (found == memo_.end()) refuse("is no sound pickle");
    return found->second;
  }

  bool container(std::uint8_t code) {
    switch (code) {
      case '(':
        return push(Kind::kMark), true;
      case ']':
        return push_items(Kind::kList, {}), true;
      case '}':
        return push_items(Kind::kDict, {}), true;
      case ')':
        return push_items(Kind::kTuple, {}), true;
      case 't':
        return push_items(Kind::kTuple, above_mark()), true;
      case 0x85:
      case 0x86:
      case 0x87:
        return push_items(Kind::kTuple, last(code - 0x84U)), true;
      case 'a':
        return extend(Kind::kList, last(1)), true;
      case 'e':
        return extend(Kind::kList, above_mark()), true;
      case 's':
        return extend(Kind::kDict, last(2)), true;
      case 'u':
        return extend(Kind::kDict, above_mark()), true;
      default:
        return false;
    }
  }
  void extend(Kind kind, std::vector<Value> more) {
    if (top().kind != kind || (kind == Kind::kDict && more.size() % 2 != 0)) refuse("is no sound pickle");
    std::vector<Value>& items = *top().items;
    items.insert(items.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  }

  void other(std::uint8_t code, ByteReader& in) {
    switch (code) {
      case 0x80:  // The version of the format.
        (void)in.read(1);
        break;
      case 0x95:  // How many bytes belong together.
        (void)in.read(8);
        break;
      case 0x93: {
        const std::vector<Value> both = last(2);
        push(Kind::kGlobal, 0, both[0].text, both[1].text);
        break;
      }
      case 'Q':
        stack_.push_back(storage(pop()));
        break;
      case 'R': {
        const std::vector<Value> both = last(2);
        call(both[0], both[1]);
        break;
      }
      case 'b':  // What an object is beside its items.
        (void)pop();
        break;
      default:
        refuse(fmt::format("uses the pickle operation 0x{:02x}", code));
    }
  }

  // ("storage", type, record, device, elements)
  Value storage(const Value& id) const {
    const auto dtype =
        id.kind == Kind::kTuple && id.items->size() == 5 ? storage_dtype((*id.items)[1]) : std::nullopt;
    if (!dtype) refuse("has tensors of another type than float32, float16 and bfloat16");
    const Value& elements = (*id.items)[4];
    const auto record = records_.find("data/" + std::string((*id.items)[2].text));
    const auto size = static_cast<std::int64_t>(c10::elementSize(*dtype));
    if (record == records_.end() || elements.kind != Kind::kNumber || elements.number < 0 ||
        elements.number != static_cast<std::int64_t>(record->second.size) / size)
      refuse("has a tensor whose numbers are missing, or of another count");
    if (record->second.begin % kTensorAlignment != 0)
      refuse("has numbers that do not begin where torch.save puts them");
    Value out;
    out.kind = Kind::kStorage;
    out.tensor = map_tensor(file_, record->second.begin, {elements.number}, *dtype);
    return out;
  }

  void call(const Value& callable, const Value& arguments) {
    if (callable.kind != Kind::kGlobal || arguments.kind != Kind::kTuple) refuse("is no sound pickle");
    const std::vector<Value>& given = *arguments.items;
    const auto is = [&](std::string_view module, std::string_view name) {
      return callable.text == module && callable.name == name;
    };
    if (is("torch._utils", "_rebuild_tensor_v2") && given.size() >= 4) {
      Value out;
      out.kind = Kind::kTensor;
      out.tensor = view(given[0], given[1], given[2], given[3]);
      return stack_.push_back(std::move(out));
    }
    if (is("torch._utils", "_rebuild_parameter") && !given.empty()) return stack_.push_back(given[0]);
    if (is("collections", "OrderedDict") && given.empty()) return push_items(Kind::kDict, {});
    refuse(fmt::format("has an object of {}.{}", printable(callable.text, 40), printable(callable.name, 40)));
  }

  std::vector<std::int64_t> sizes(const Value& tuple) const {
    std::vector<std::int64_t> out;
    const std::vector<Value> none;
    for (const Value& each : tuple.kind == Kind::kTuple ? *tuple.items : none) {
      if (each.kind != Kind::kNumber || each.number < 0) refuse("has a tensor of impossible sizes");
      out.push_back(each.number);
    }
    if (out.size() > kMostDimensions) refuse("has a tensor of too many dimensions");
    return out;
  }

  at::Tensor view(const Value& storage, const Value& offset, const Value& shape, const Value& strides) const {
    const std::vector<std::int64_t> size = sizes(shape), stride = sizes(strides);
    if (storage.kind != Kind::kStorage || size.size() != stride.size() || offset.kind != Kind::kNumber)
      refuse("has a tensor that is none");
    const std::int64_t count = storage.tensor.numel();
    bool fits = offset.number >= 0 && offset.number < count;
    std::int64_t left = fits ? count - 1 - offset.number : 0;  // Elements behind the last that was reached.
    for (std::size_t i = 0; i < size.size() && fits; ++i) {
      fits = size[i] > 0 && (size[i] == 1 || stride[i] <= left / (size[i] - 1));
      if (fits) left -= stride[i] * (size[i] - 1);
    }
    if (!fits) refuse("has a tensor that is empty, or reaches out of its storage");
    return storage.tensor.as_strided(size, stride, offset.number);
  }

  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, Record> records_;
  std::vector<Value> stack_;
  std::map<std::uint32_t, Value> memo_;
  std::deque<std::vector<Value>> items_;  // The items of all tuples, lists and dictionaries.
};

}  // namespace

std::map<std::string, std::vector<at::Tensor>> read_torch_file(
    const std::shared_ptr<const MappedFile>& file) {
  Machine machine(file, records_of(*file));
  const Value top = machine.run();
  if (top.kind != Kind::kDict) fail(*file, "holds no dictionary of lists of tensors");
  std::map<std::string, std::vector<at::Tensor>> out;
  for (std::size_t i = 0; i + 1 < top.items->size(); i += 2) {
    const Value &key = (*top.items)[i], &list = (*top.items)[i + 1];
    const bool listed = list.kind == Kind::kList || list.kind == Kind::kTuple;
    if (key.kind != Kind::kText || !listed) continue;
    std::vector<at::Tensor> tensors;
    for (const Value& each : *list.items) {
      if (each.kind == Kind::kTensor) tensors.push_back(each.tensor);
    }
    if (tensors.size() == list.items->size()) out[std::string(key.text)] = std::move(tensors);
  }
  return out;
}

}  // namespace tte::weights
