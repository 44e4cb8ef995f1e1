// Questions to a store whose network may be gone: TCPStore waits for an answer without end.
#pragma once

#include <c10/util/Exception.h>

#include <chrono>
#include <exception>
#include <future>
#include <memory>
#include <thread>
#include <utility>

namespace monopass {

// What `ask` returns or throws, or an error after `timeout`. A question without an answer keeps its thread, and what `ask` holds, until the
// connection breaks.
template <typename Ask>
auto bounded(std::chrono::milliseconds timeout, Ask ask) -> decltype(ask()) {
  using Answer = decltype(ask());
  auto promise = std::make_shared<std::promise<Answer>>();
  auto answer = promise->get_future();
  std::thread([promise, ask = std::move(ask)]() mutable {
    try {
      promise->set_value(ask());
    } catch (...) {
      promise->set_exception(std::current_exception());
    }
  }).detach();
  TORCH_CHECK(answer.wait_for(timeout) == std::future_status::ready, "the store does not answer (waited ", timeout.count() / 1000.0, " s)");
  return answer.get();
}

}  // namespace monopass
