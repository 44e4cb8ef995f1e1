// How Rust calls in: tensors come as tch's pointers (at::Tensor*), errors go back as text that the caller frees.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdlib>
#include <cstring>
#include <exception>

namespace monopass {

using TensorPtr = at::Tensor*;

inline char* copy_text(const char* text) {
  char* copy = static_cast<char*>(std::malloc(std::strlen(text) + 1));
  if (copy) std::strcpy(copy, text);
  return copy;
}

// Runs `body`; null when it returns, else the text of what it threw.
template <typename F>
char* guarded(F&& body) {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& e) {
    return copy_text(e.what_without_backtrace());
  } catch (const std::exception& e) {
    return copy_text(e.what());
  } catch (...) {
    return copy_text("an exception of unknown type");
  }
}

}  // namespace monopass
