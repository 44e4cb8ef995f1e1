// See algorithm.h. ProcessGroupGloo.hpp calls this one member through a pointer.
#pragma once

#include <chrono>
#include <memory>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
