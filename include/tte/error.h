/// @file
/// The exceptions of tte. Every message is one sentence with the offending value and the remedy.
#pragma once

#include <stdexcept>
#include <string>

#include "tte/export.h"

namespace tte {

/// Base of everything that tte throws on purpose.
class TTE_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  ~Error() override;
};

/// An input (text, image, video, option) cannot be used. Names the item and the file.
class TTE_API InputError : public Error {
 public:
  using Error::Error;
  ~InputError() override;
};

/// A checkpoint, recipe or tokenizer file is missing, damaged, or does not fit the model.
class TTE_API ModelError : public Error {
 public:
  using Error::Error;
  ~ModelError() override;
};

/// A device, or memory on it, is not available.
class TTE_API DeviceError : public Error {
 public:
  using Error::Error;
  ~DeviceError() override;
};

/// Memory ran out. Says where, how much was wanted if that is known, and what lowers it. With OnError::kSkip
/// it is the error of the item that wanted it, and the others go on.
class TTE_API OutOfMemoryError : public DeviceError {
 public:
  using DeviceError::DeviceError;
  ~OutOfMemoryError() override;
};

/// The call was stopped by its caller (cancellation token, Ctrl-C) before it finished.
class TTE_API CancelledError : public Error {
 public:
  using Error::Error;
  ~CancelledError() override;
};

}  // namespace tte
