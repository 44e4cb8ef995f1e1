// Tensors as memory, for functions whose kernels take pointers.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "attention_kernels.h"
#include "cpu.h"

namespace monopass {

template <typename T>
const T* data(const at::Tensor& t) { return static_cast<const T*>(t.const_data_ptr()); }
template <typename T>
T* mutable_data(const at::Tensor& t) { return static_cast<T*>(t.mutable_data_ptr()); }

// Call `body` with a null pointer of the element type; of the vectors that run kernels for `kind` here; of both.
template <typename F>
void by_element(at::ScalarType kind, F&& body) {
  if (kind == at::kFloat) {
    body(static_cast<float*>(nullptr));
  } else {
    body(static_cast<bf16*>(nullptr));
  }
}
template <typename F>
void by_vectors(at::ScalarType kind, F&& body) {
  if (vectors_for(kind) == VectorSet::kAvx512) {
    body(static_cast<Avx512*>(nullptr));
  } else {
    body(static_cast<Avx2*>(nullptr));
  }
}
template <typename F>
void by_kind(at::ScalarType kind, F&& body) {
  by_element(kind, [&](auto* tag) { by_vectors(kind, [&](auto* vectors) { body(tag, vectors); }); });
}
#define MONOPASS_TYPE(tag) std::remove_pointer_t<decltype(tag)>

// Rows a thread takes at least: enough work to pay for waking it.
inline int64_t grain(int64_t row_elements) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, row_elements)); }

}  // namespace monopass
