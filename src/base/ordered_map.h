// An object type for nlohmann::basic_json that keeps keys in the order of the file, at any size.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace tte::base {

// Keys are found through a hash table once there are more than a few: nlohmann's own ordered map compares with every
// key before, which takes minutes for a vocabulary. The interface is the part of std::map that basic_json uses.
template <class Key, class T, class IgnoredLess = std::less<>,
          class Allocator = std::allocator<std::pair<const Key, T>>>
class OrderedMap {
 public:
  using key_type = Key;
  using mapped_type = T;
  using value_type = std::pair<const Key, T>;
  using Container = std::vector<value_type, Allocator>;
  using allocator_type = Allocator;
  using iterator = typename Container::iterator;
  using const_iterator = typename Container::const_iterator;
  using reverse_iterator = typename Container::reverse_iterator;
  using const_reverse_iterator = typename Container::const_reverse_iterator;
  using size_type = typename Container::size_type;
  using difference_type = typename Container::difference_type;
  using reference = value_type&;
  using const_reference = const value_type&;
  using key_compare = std::equal_to<>;

  OrderedMap() = default;
  template <class It>
  OrderedMap(It first, It last) {
    for (; first != last; ++first) emplace(first->first, first->second);
  }
  OrderedMap(std::initializer_list<value_type> values) : OrderedMap(values.begin(), values.end()) {}

  iterator begin() { return entries_.begin(); }
  iterator end() { return entries_.end(); }
  const_iterator begin() const { return entries_.begin(); }
  const_iterator end() const { return entries_.end(); }
  const_iterator cbegin() const { return entries_.cbegin(); }
  const_iterator cend() const { return entries_.cend(); }
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] size_type size() const { return entries_.size(); }
  [[nodiscard]] size_type max_size() const { return entries_.max_size(); }
  void clear() {
    entries_.clear();
    table_.clear();
  }

  template <class K, class... Args>
  std::pair<iterator, bool> emplace(K&& key, Args&&... args) {
    if (const iterator it = find(key); it != end()) return {it, false};
    // Made first: what it is made of may be in an entry here.
    value_type entry(std::piecewise_construct, std::forward_as_tuple(std::forward<K>(key)),
                     std::forward_as_tuple(std::forward<Args>(args)...));
    if (entries_.size() == entries_.capacity()) grow();
    move_to(entries_, entry);
    if (entries_.size() > kScanned && entries_.size() * 2 > table_.size()) {
      fill(entries_.size() * 4);
    } else if (!table_.empty()) {
      note(entries_.size() - 1);
    }
    return {std::prev(end()), true};
  }
  std::pair<iterator, bool> insert(const value_type& value) { return emplace(value.first, value.second); }
  std::pair<iterator, bool> insert(value_type&& value) {
    return emplace(value.first, std::move(value.second));
  }
  template <class It>
  void insert(It first, It last) {
    for (; first != last; ++first) insert(*first);
  }

  template <class K>
  T& operator[](K&& key) {
    return emplace(std::forward<K>(key)).first->second;
  }
  template <class K>
  T& at(const K& key) {
    const iterator it = find(key);
    if (it == end()) throw std::out_of_range("key not found");
    return it->second;
  }
  template <class K>
  const T& at(const K& key) const {
    return const_cast<OrderedMap*>(this)->at(key);
  }
  template <class K>
  iterator find(const K& key) {
    return begin() + static_cast<difference_type>(place(key));
  }
  template <class K>
  const_iterator find(const K& key) const {
    return begin() + static_cast<difference_type>(place(key));
  }
  template <class K>
  [[nodiscard]] size_type count(const K& key) const {
    return place(key) == size() ? 0 : 1;
  }

  iterator erase(const_iterator at) { return erase(at, std::next(at)); }
  iterator erase(const_iterator first, const_iterator last) {
    // Keys are const, so that entries cannot be assigned to each other: the rest is built again.
    const auto from = static_cast<size_type>(first - entries_.cbegin());
    const auto to = static_cast<size_type>(last - entries_.cbegin());
    Container kept;
    kept.reserve(entries_.size());
    for (size_type i = 0; i < entries_.size(); ++i) {
      if (i < from || i >= to) move_to(kept, entries_[i]);
    }
    entries_ = std::move(kept);
    if (!table_.empty()) fill(table_.size());
    return begin() + static_cast<difference_type>(from);
  }
  template <class K, std::enable_if_t<!std::is_convertible_v<K, const_iterator>, int> = 0>
  size_type erase(const K& key) {
    const const_iterator it = std::as_const(*this).find(key);
    if (it == end()) return 0;
    erase(it);
    return 1;
  }

  friend bool operator==(const OrderedMap& a, const OrderedMap& b) { return a.entries_ == b.entries_; }
  friend bool operator<(const OrderedMap& a, const OrderedMap& b) { return a.entries_ < b.entries_; }

 private:
  static constexpr size_type kScanned = 16;  // Entries up to which no table is needed.

  static size_type hash(std::string_view key) { return std::hash<std::string_view>{}(key); }

  // Index of the entry, size() when there is none.
  [[nodiscard]] size_type place(std::string_view key) const {
    if (table_.empty()) {
      size_type i = 0;
      while (i < entries_.size() && entries_[i].first != key) ++i;
      return i;
    }
    for (size_type slot = hash(key) % table_.size(); table_[slot] != 0; slot = (slot + 1) % table_.size()) {
      if (entries_[table_[slot] - 1].first == key) return table_[slot] - 1;
    }
    return size();
  }
  void note(size_type index) {
    size_type slot = hash(entries_[index].first) % table_.size();
    while (table_[slot] != 0) slot = (slot + 1) % table_.size();
    table_[slot] = static_cast<std::uint32_t>(index + 1);
  }
  void fill(size_type slots) {
    table_.assign(slots, 0);
    for (size_type i = 0; i < entries_.size(); ++i) note(i);
  }

  // std::vector would copy the entries, whole trees of them, since a pair with a const key may throw when it is moved.
  static void move_to(Container& to, value_type& entry) {
    to.emplace_back(std::move(const_cast<Key&>(entry.first)), std::move(entry.second));
  }
  void grow() {
    Container bigger;
    bigger.reserve(std::max<size_type>(4, 2 * entries_.capacity()));
    for (value_type& entry : entries_) move_to(bigger, entry);
    entries_ = std::move(bigger);
  }

  Container entries_;
  std::vector<std::uint32_t> table_;  // Open-addressed: index + 1, 0 when free.
};

}  // namespace tte::base
