/// @file
/// Checkpoints that are rounded once, and not at every load.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "tte/export.h"

namespace tte {

/// How a checkpoint is rounded.
struct QuantizeOptions {
  /// "int8" or "int4", as of LoadOptions::quantization.
  std::string quantization = "int8";
  /// Folder of a PEFT adapter that is merged before; empty: none, unless the checkpoint is itself an adapter's folder.
  std::filesystem::path adapter;
  /// Called before each tensor, on the calling thread: what it throws ends the call. May be empty.
  std::function<void()> poll;
};

/// Writes a checkpoint whose linear layers are rounded into a new folder: it loads without being rounded again, and
/// gives bit for bit what the original gives with LoadOptions::quantization on the same kind of processor (another kind
/// may add the sums of rounding in another order). Config, tokenizer, processor and recipe files are copied. What is
/// not rounded is stored as it was: embeddings, norms, small matrices, and the experts of a mixture that are stored as
/// one tensor, which are rounded when they are loaded. The file is the same for every machine, and only CPUs multiply
/// it. FP8 and compressed-tensors weights are rounded from the numbers that they stand for.
///
/// The folder appears when all of it is written; until then a folder beside it, whose name ends with ".partial" and six
/// digits, has what there is, and is removed when the call fails. Throws InputError for a folder that exists and is not
/// empty, or cannot be written, and Error where the disk is full or breaks; ModelError for a checkpoint that does not
/// fit, is rounded already, or is an embedding head (round its base).
TTE_API void quantize(const std::filesystem::path& checkpoint, const std::filesystem::path& folder,
                      const QuantizeOptions& options = {});

}  // namespace tte
