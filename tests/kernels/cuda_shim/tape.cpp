#include "kernels/cuda_shim/tape.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

namespace tte::kernels::cuda_shim {
namespace {

// Every operator goes through this key while a tape records.
constexpr auto kKey = c10::DispatchKey::TESTING_ONLY_GenericMode;

thread_local Tape* recording = nullptr;

// Operators that wait for the device, or whose results have sizes that it says.
constexpr std::array<std::string_view, 7> kWaiting = {
    "aten::item",    "aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::allclose",
    "aten::nonzero", "aten::masked_select"};

// What a GPU refuses while a stream is recorded: waiting for it, and copies between it and the host. The processor has
// no other memory, so every copy that names a device counts.
void refuse(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  const std::string& name = op.schema().name();
  const bool waits = std::find(kWaiting.begin(), kWaiting.end(), name) != kWaiting.end();
  TORCH_CHECK(!waits, name, ": a stream that is recorded cannot be waited for");
  if (name != "aten::to" && name != "aten::_to_copy" && name != "aten::pin_memory") return;
  const auto& arguments = op.schema().arguments();
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const bool device = arguments[i].name() == "device" || arguments[i].name() == "other";
    const c10::IValue& value = stack[stack.size() - arguments.size() + i];
    TORCH_CHECK(!device || value.isNone(), name,
                ": a stream that is recorded copies nothing from or to the host");
  }
}

void for_tensors(const c10::IValue& value, const std::function<void(const at::Tensor&)>& f) {
  if (value.isTensor() && value.toTensor().defined()) f(value.toTensor());
  if (!value.isList()) return;
  for (const c10::IValue& one : value.toListRef()) for_tensors(one, f);
}

// Numbers that nobody takes for a result.
void spoil(const at::Tensor& tensor) {
  if (tensor.is_floating_point()) {
    tensor.fill_(NAN);
  } else {
    tensor.fill_(tensor.scalar_type() == at::kBool ? 1 : 77);
  }
}

}  // namespace

struct Recorder {
  static void record(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
    const c10::impl::ExcludeDispatchKeyGuard guard(kKey);
    if (recording == nullptr) return op.callBoxed(stack);
    refuse(op, *stack);
    const auto count = static_cast<std::ptrdiff_t>(op.schema().arguments().size());
    const torch::jit::Stack inputs(stack->end() - count, stack->end());
    op.callBoxed(stack);
    const auto results = static_cast<std::ptrdiff_t>(op.schema().returns().size());
    const torch::jit::Stack outputs(stack->end() - results, stack->end());

    std::vector<const void*> known;  // Where results lie that are views of arguments, or these.
    for (const c10::IValue& input : inputs)
      for_tensors(input, [&](const at::Tensor& x) { known.push_back(x.storage().data()); });
    std::vector<std::pair<std::size_t, at::Tensor>> made;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      for_tensors(outputs[i], [&](const at::Tensor& x) {
        if (std::find(known.begin(), known.end(), x.storage().data()) != known.end()) return;
        TORCH_CHECK(outputs[i].isTensor(), op.schema().name(), ": a list of new tensors");
        made.emplace_back(i, x);
        recording->made_.push_back(x);
      });
    }
    const bool empty = op.schema().name().starts_with("aten::empty");
    recording->work_.push_back([op, inputs, made, empty] {
      torch::jit::Stack again = inputs;
      if (!empty) op.callBoxed(&again);
      for (const auto& [i, tensor] : made) {
        if (empty) {
          spoil(tensor);
        } else {
          tensor.copy_(again[i].toTensor());
        }
      }
    });
  }
};

Tape::Tape() {
  TORCH_CHECK(recording == nullptr, "a stream is recorded already");
  recording = this;
  c10::impl::tls_set_dispatch_key_included(kKey, true);
}

Tape::~Tape() {
  if (recording == this) end();
}

void Tape::end() {
  recording = nullptr;
  c10::impl::tls_set_dispatch_key_included(kKey, false);
  for (const at::Tensor& tensor : made_) spoil(tensor);
}

void Tape::replay() const {
  for (const auto& work : work_) work();
}

void Tape::add(std::function<void()> again) {
  if (recording != nullptr) recording->work_.push_back(std::move(again));
}

TORCH_LIBRARY_IMPL(_, TESTING_ONLY_GenericMode, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&Recorder::record>());
}

}  // namespace tte::kernels::cuda_shim
