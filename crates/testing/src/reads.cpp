// Operations that read numbers of a tensor to the host, as LibTorch's profiler sees them.

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <cstring>

extern "C" {
// `first` is where the tensor's numbers are.
typedef void (*ReadFn)(const char *operation, bool on_host, const void *first);
}

namespace {

// The observer has no context of its own: one count at a time.
ReadFn report = nullptr;

// Calls of `std` that are under way: its form for main memory reads numbers, its form for a GPU none.
thread_local int deviations = 0;

bool is(const char *name, const char *operation) { return std::strcmp(name, operation) == 0; }

void leave(const at::RecordFunction &call, at::ObserverContext *) {
  deviations -= is(call.name(), "aten::std");
}

std::unique_ptr<at::ObserverContext> observe(const at::RecordFunction &call) {
  const char *name = call.name();
  deviations += is(name, "aten::std");
  size_t source = 0;
  if (is(name, "aten::copy_"))
    source = 1;
  else if (!is(name, "aten::_local_scalar_dense") && !is(name, "aten::equal") &&
           !is(name, "aten::nonzero") && !is(name, "aten::masked_select"))
    return nullptr;
  auto inputs = call.inputs();
  if (inputs.size() <= source || !inputs[source].isTensor())
    return nullptr;
  const at::Tensor &from = inputs[source].toTensor();
  // A copy is a read if it ends in main memory and begins elsewhere.
  if (!from.defined() || (source == 1 && (from.is_cpu() || !inputs[0].toTensor().is_cpu())))
    return nullptr;
  if (deviations > 0 && from.is_cpu())
    return nullptr;
  report(name, from.is_cpu(), from.is_cpu() ? from.const_data_ptr() : nullptr);
  return nullptr;
}

} // namespace

extern "C" {

// Reports the reads of this thread, and of autograd's on its behalf, until `testing_ignore_reads`.
uint64_t testing_observe_reads(ReadFn to) {
  report = to;
  return at::addThreadLocalCallback(at::RecordFunctionCallback(observe, leave)
                                        .needsInputs(true)
                                        .scopes({at::RecordScope::FUNCTION}));
}

void testing_ignore_reads(uint64_t handle) { at::removeCallback(handle); }
}
