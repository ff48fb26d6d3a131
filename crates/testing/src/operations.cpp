// What LibTorch's operations are called with, as its profiler sees it.

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

extern "C" {
typedef void (*CallFn)(const char *call);
}

namespace {

// One record at a time: the observer has no context of its own.
CallFn report = nullptr;
// A name for each storage, by where its numbers are.
std::unordered_map<const void *, std::string> names;
// A tensor of each, kept so that no later one has the address of an earlier one.
struct Named {
  std::string name;
  bool is_result;
  at::Tensor tensor;
};
std::vector<Named> seen;

// Calls of `std` under way: its form for main memory calculates on the host, its form for a GPU does not.
thread_local int deviations = 0;

const void *first_of(const at::Tensor &tensor) {
  return tensor.has_storage() && tensor.numel() > 0 ? tensor.storage().data() : nullptr;
}

std::string real(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.17g", value);
  return text;
}

// A number of the host, which LibTorch calls an operation on tensors with.
std::string wrapped(const at::Tensor &tensor) {
  switch (tensor.scalar_type()) {
  case at::kDouble:
    return real(*static_cast<const double *>(tensor.const_data_ptr()));
  case at::kLong:
    return std::to_string(*static_cast<const int64_t *>(tensor.const_data_ptr()));
  case at::kBool:
    return std::to_string(*static_cast<const bool *>(tensor.const_data_ptr()));
  default:
    return "?";
  }
}

// The name of a tensor's storage; empty if it has no numbers. One that no operation has returned was
// there before, or is inside of an operation.
std::string name_of(const at::Tensor &tensor, bool is_result) {
  const void *first = first_of(tensor);
  if (!first)
    return "";
  auto [name, is_new] = names.try_emplace(first);
  if (is_new) {
    name->second = "#" + std::to_string(seen.size());
    seen.push_back({name->second, is_result, tensor});
  }
  return name->second;
}

std::string of_tensor(const at::Tensor &tensor) {
  if (!tensor.defined())
    return "none";
  if (tensor.unsafeGetTensorImpl()->is_wrapped_number())
    return wrapped(tensor);
  std::string text = c10::toString(tensor.scalar_type());
  for (auto size : tensor.sizes())
    text += "," + std::to_string(size);
  return text + name_of(tensor, false) + "+" + std::to_string(tensor.storage_offset());
}

std::string of_value(const at::IValue &value) {
  if (value.isTensor())
    return of_tensor(value.toTensor());
  if (value.isDouble())
    return real(value.toDouble());
  if (value.isInt())
    return std::to_string(value.toInt());
  if (value.isBool())
    return value.toBool() ? "true" : "false";
  if (value.isList()) {
    std::string text = "[";
    for (const at::IValue &each : value.toListRef())
      text += of_value(each) + " ";
    return text + "]";
  }
  return value.isNone() ? "none" : value.tagKind();
}

void name_results(const at::IValue &value) {
  if (value.isTensorList() || value.isTuple() || value.isList()) {
    auto parts = value.isTuple() ? value.toTupleRef().elements().vec() : value.toListRef().vec();
    for (const at::IValue &each : parts)
      name_results(each);
    return;
  }
  if (value.isTensor() && value.toTensor().defined())
    name_of(value.toTensor(), true);
}

bool is_deviation(const at::RecordFunction &call) {
  return std::strcmp(call.name(), "aten::std") == 0;
}

std::unique_ptr<at::ObserverContext> before(const at::RecordFunction &call) {
  bool within = deviations > 0;
  deviations += is_deviation(call);
  if (within)
    return nullptr;
  std::string text = call.name();
  text += "(";
  for (const at::IValue &input : call.inputs())
    text += of_value(input) + "; ";
  report((text + ")").c_str());
  return nullptr;
}

void after(const at::RecordFunction &call, at::ObserverContext *) {
  deviations -= is_deviation(call);
  for (const at::IValue &output : call.outputs())
    name_results(output);
}

} // namespace

extern "C" {

// Reports the operations of this thread, and of autograd's on its behalf, until
// `testing_ignore_operations`.
uint64_t testing_observe_operations(CallFn to) {
  report = to;
  return at::addThreadLocalCallback(at::RecordFunctionCallback(before, after)
                                        .needsInputs(true)
                                        .needsOutputs(true)
                                        .scopes({at::RecordScope::FUNCTION}));
}

void testing_ignore_operations(uint64_t handle) {
  at::removeCallback(handle);
  names.clear();
  // What still exists without the record was there before, or stays behind.
  std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> storages;
  for (Named &each : seen) {
    storages.push_back(each.tensor.storage().getWeakStorageImpl());
    each.tensor.reset();
  }
  for (size_t i = 0; i < seen.size(); i++) {
    auto storage = storages[i].lock();
    if (!storage)
      continue;
    char text[96];
    const char *what = seen[i].is_result ? "stays behind at" : "is at";
    auto first = reinterpret_cast<uintptr_t>(storage->data());
    std::snprintf(text, sizeof text, "%s %s %" PRIxPTR, seen[i].name.c_str(), what, first);
    report(text);
  }
  seen.clear();
}
}
