// Writes files as torch.save does, good ones and hostile ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tte::testing {

inline void append_number(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

// A zip archive without compression, of records by their names, whose contents begin at multiples of `alignment`.
inline std::string torch_archive(const std::vector<std::pair<std::string, std::string>>& records,
                                 std::size_t alignment = 64) {
  std::string file, table;
  for (const auto& record : records) {
    const std::string path = "archive/" + record.first, &content = record.second;
    const std::size_t begin = file.size();
    const std::size_t padding = (alignment - (begin + 30 + path.size()) % alignment) % alignment;
    const auto about = [&](std::string& out, std::size_t extra) {
      out.append(14, '\0');  // Versions, flags, method, time, checksum: nobody looks at them.
      append_number(out, content.size(), 4);
      append_number(out, content.size(), 4);
      append_number(out, path.size(), 2);
      append_number(out, extra, 2);
    };
    file += "PK\3\4";
    about(file, padding);
    file.append(path).append(padding, '\0').append(content);
    table += std::string("PK\1\2") + std::string(2, '\0');
    about(table, 0);
    table.append(10, '\0');
    append_number(table, begin, 4);
    table += path;
  }
  const std::size_t directory = file.size();
  file += table + "PK\5\6" + std::string(4, '\0');
  append_number(file, records.size(), 2);
  append_number(file, records.size(), 2);
  append_number(file, table.size(), 4);
  append_number(file, directory, 4);
  append_number(file, 0, 2);
  return file;
}

// The pickle of {key: [tensor]}, of a float32 tensor with these sizes and strides (one digit each) from storage "0" of
// `elements` elements.
inline std::string tensor_pickle(std::string_view key, std::size_t elements, std::size_t offset,
                                 const std::vector<int>& sizes, const std::vector<int>& strides) {
  std::string out = "\x80\x02}";
  const auto text = [&out](std::string_view value) {
    out += 'X';
    append_number(out, value.size(), 4);
    out += value;
  };
  const auto number = [&out](std::size_t value) {
    out += 'J';
    append_number(out, value, 4);
  };
  text(key);
  out += "](ctorch._utils\n_rebuild_tensor_v2\n((";
  text("storage");
  out += "ctorch\nFloatStorage\n";
  text("0");
  text("cpu");
  number(elements);
  out += "tQ";
  number(offset);
  for (const auto& values : {sizes, strides}) {
    out += '(';
    for (const int value : values) number(static_cast<std::size_t>(value));
    out += 't';
  }
  return out + "\x89}tRes.";
}

}  // namespace tte::testing
