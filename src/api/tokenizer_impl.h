// What a Tokenizer is: a checkpoint's, alone or with a loaded model's files.
#pragma once

#include <memory>
#include <string>

#include "prompt/checkpoint_files.h"
#include "text/chat_template.h"
#include "text/tokenizer/tokenizer.h"
#include "tte/tokenizer.h"

namespace tte {

class Tokenizer::Impl {
 public:
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate> chat_template;  // May be null.
  std::string vocabulary;
  std::string where;
};

namespace api {

Tokenizer tokenizer_of(const prompt::CheckpointFiles& files);

}  // namespace api
}  // namespace tte
