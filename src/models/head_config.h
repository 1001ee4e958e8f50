// tte_head.json: what an embedding head is, and of which model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "tte/adapter.h"

namespace tte::models {

inline constexpr const char* kHeadFile = "tte_head.json";
inline constexpr const char* kHeadTensors = "head.safetensors";

enum class HeadKind : std::uint8_t { kLayers, kAttentionPooler, kLatentAttention };

// Keys of tte_head.json stand beside the fields they fill.
struct HeadConfig {
  std::string where;           // The file, for messages.
  std::string base, revision;  // base: a folder, or a repository of a hub; revision: of the repository.
  HeadKind kind = HeadKind::kLayers;  // kind
  // layers: how many of the base's last layers have no part in it. The head reads the hidden states that go into the
  // first of them; for 0, which only heads that pool by attention may have, those behind the final norm.
  std::int64_t layers = 0;
  bool mean = false;                 // pooling: "last" (the recipe's token, in other words) or "mean"
  std::int64_t attention_heads = 0;  // attention_heads, of heads that pool by attention
  bool projection = false;           // projection: whether the vector goes through a matrix at last
  std::int64_t dim = 0;              // embedding_dim: values of the vector
};

// Whether a folder is that of an embedding head.
bool is_head(const std::filesystem::path& folder);

// Throws ModelError naming file and key for whatever is missing, unknown, of the wrong type or out of range.
HeadConfig read_head(const std::filesystem::path& folder);

// Where the base is: a folder with config.json that is absolute, or seen from the head's folder, or from the current
// one; empty where it is none of these, and may be of a hub. Throws as read_head(), and for what cannot be of a hub.
AdapterBase base_of_head(const std::filesystem::path& folder);

}  // namespace tte::models
