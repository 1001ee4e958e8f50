#include "tte/error.h"

#include "tte/remote.h"

namespace tte {

// Out of line: one vtable and one type_info each, in the library, so that `catch` works across shared objects.
Error::~Error() = default;
InputError::~InputError() = default;
ModelError::~ModelError() = default;
DeviceError::~DeviceError() = default;
OutOfMemoryError::~OutOfMemoryError() = default;
RemoteError::~RemoteError() = default;
CancelledError::~CancelledError() = default;

}  // namespace tte
