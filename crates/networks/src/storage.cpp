// What `tch` needs several calls for: a forward pass looks at dozens of tensors, and acting takes
// microseconds.

#include <ATen/core/Tensor.h>

static bool f32_on_cpu(const at::Tensor &tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat;
}

extern "C" {

// Whether all tensors are `f32` in main memory.
bool networks_f32_on_cpu(const at::Tensor *const *tensors, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (!f32_on_cpu(*tensors[i]))
      return false;
  return true;
}

// The first of a tensor's numbers, and how many there are; null if it is not contiguous `f32` in
// main memory.
void *networks_values(const at::Tensor *tensor, size_t *count) {
  *count = tensor->numel();
  return f32_on_cpu(*tensor) && tensor->is_contiguous() ? tensor->data_ptr() : nullptr;
}
}
