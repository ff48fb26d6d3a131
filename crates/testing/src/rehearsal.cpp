// Operations of the CPU, recorded and repeated as a CUDA graph would those of a GPU: a kernel between autograd
// and the CPU's kernels sees each of them.

#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/library.h>

#include <cstring>
#include <memory>
#include <unordered_map>
#include <vector>

namespace {

// Below autograd's keys, and nobody else's here.
constexpr auto KEY = c10::DispatchKey::Fake;

using Impl = const c10::StorageImpl *;

struct Call {
  c10::OperatorHandle op;
  std::vector<c10::IValue> inputs;
  // Storages that it makes, one for each tensor of its results; null where that is not new.
  std::vector<Impl> made;
};

struct Recording {
  std::vector<Call> calls;
  // Storages that were there before, with their bytes then.
  struct Outside {
    c10::Storage storage;
    std::vector<char> bytes;
    bool count;
  };
  std::unordered_map<Impl, Outside> outside;
  // Storages that the calls make.
  std::unordered_map<Impl, c10::Storage> inside;
};

// The recording that is under way.
Recording *current = nullptr;

Impl impl_of(const at::Tensor &tensor) {
  bool has = tensor.defined() && tensor.has_storage();
  return has ? tensor.storage().unsafeGetStorageImpl() : nullptr;
}

// Calls `visit` for each tensor of a value.
template <typename Visit> void each_tensor(const c10::IValue &value, Visit visit) {
  if (value.isTensor())
    visit(value.toTensor());
  else if (value.isList())
    for (const c10::IValue &element : value.toListRef())
      each_tensor(element, visit);
}

// A count of the host, which no GPU would change.
bool is_count(const at::Tensor &tensor) {
  return tensor.scalar_type() == at::kLong && tensor.storage().nbytes() == 8;
}

void record(const c10::OperatorHandle &op, c10::DispatchKeySet keys, torch::jit::Stack *stack) {
  // What the operation calls is part of it.
  c10::impl::ExcludeDispatchKeyGuard guard(KEY);
  const c10::FunctionSchema &schema = op.schema();
  size_t count = schema.arguments().size();
  std::vector<c10::IValue> inputs(stack->end() - count, stack->end());
  for (const c10::IValue &input : inputs)
    each_tensor(input, [](const at::Tensor &tensor) {
      Impl impl = impl_of(tensor);
      if (!impl || current->inside.count(impl) || current->outside.count(impl))
        return;
      auto first = static_cast<const char *>(tensor.storage().data());
      std::vector<char> bytes(first, first + tensor.storage().nbytes());
      Recording::Outside outside{tensor.storage(), std::move(bytes), is_count(tensor)};
      current->outside.emplace(impl, std::move(outside));
    });
  auto below = c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, KEY);
  op.redispatchBoxed(keys & below, stack);
  if (schema.is_mutable() && inputs[0].isTensor() && is_count(inputs[0].toTensor()) &&
      current->outside.count(impl_of(inputs[0].toTensor())))
    return;
  Call call{op, std::move(inputs), {}};
  for (auto result = stack->end() - schema.returns().size(); result != stack->end(); ++result)
    each_tensor(*result, [&](const at::Tensor &tensor) {
      Impl impl = impl_of(tensor);
      bool is_new = impl && !current->outside.count(impl) &&
                    current->inside.emplace(impl, tensor.storage()).second;
      call.made.push_back(is_new ? impl : nullptr);
    });
  current->calls.push_back(std::move(call));
}

using Now = std::unordered_map<Impl, c10::Storage>;

// A value with the storages of this replay in place of the recorded ones.
c10::IValue of_now(const c10::IValue &value, const Now &now) {
  if (value.isTensor()) {
    const at::Tensor &tensor = value.toTensor();
    auto found = now.find(impl_of(tensor));
    if (found == now.end())
      return value;
    auto same = at::empty({0}, tensor.options());
    return same.set_(found->second, tensor.storage_offset(), tensor.sizes(), tensor.strides());
  }
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor &tensor : value.toTensorVector())
      list.push_back(of_now(tensor, now).toTensor());
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const c10::IValue &element : value.toListRef())
      list.push_back(element.isNone() ? std::nullopt : std::optional(of_now(element, now).toTensor()));
    return list;
  }
  return value;
}

} // namespace

TORCH_LIBRARY_IMPL(_, Fake, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&record>());
}

extern "C" {

Recording *testing_rehearsal_begin() {
  current = new Recording;
  c10::impl::tls_set_dispatch_key_included(KEY, true);
  return current;
}

// Ends the recording. Everything that was there before holds what it held, counts of the host excepted:
// a GPU would not have done the work yet.
void testing_rehearsal_end(Recording *recording) {
  c10::impl::tls_set_dispatch_key_included(KEY, false);
  current = nullptr;
  for (auto &[impl, outside] : recording->outside)
    if (!outside.count)
      std::memcpy(outside.storage.mutable_data(), outside.bytes.data(), outside.bytes.size());
}

void testing_rehearsal_replay(const Recording *recording) {
  at::AutoDispatchBelowADInplaceOrView guard;
  Now now;
  for (const Call &call : recording->calls) {
    torch::jit::Stack stack;
    for (const c10::IValue &input : call.inputs)
      stack.push_back(of_now(input, now));
    call.op.callBoxed(&stack);
    size_t next = 0;
    for (const c10::IValue &result : stack)
      each_tensor(result, [&](const at::Tensor &tensor) {
        if (Impl impl = call.made[next++])
          now.insert_or_assign(impl, tensor.storage());
      });
  }
  // A graph's results are where they were when it was captured.
  for (auto &[impl, storage] : now) {
    const c10::Storage &recorded = recording->inside.at(impl);
    std::memcpy(recorded.mutable_data(), storage.data(), std::min(recorded.nbytes(), storage.nbytes()));
  }
}

size_t testing_rehearsal_calls(const Recording *recording) { return recording->calls.size(); }

void testing_rehearsal_drop(Recording *recording) { delete recording; }
}
