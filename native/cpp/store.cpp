// See store.h.
#include "store.h"

#include <c10/util/Exception.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>
#include <optional>
#include <string>

#include "shim.h"

struct monopass_store {
  c10::intrusive_ptr<c10d::TCPStore> store;
};

namespace {

// First line only: what follows is the other side's trace.
template <typename Body>
char* in_a_line(Body body) {
  char* error = monopass::guarded(body);
  if (error != nullptr) error[std::strcspn(error, "\n")] = '\0';
  return error;
}

}  // namespace

extern "C" {

char* monopass_store_open(const char* host, int port, int listening, int64_t timeout_ms, monopass_store** store) {
  return in_a_line([&] {
    c10d::TCPStoreOptions options;
    options.port = static_cast<std::uint16_t>(port);
    options.isServer = listening >= 0;
    if (listening >= 0) options.masterListenFd = listening;
    options.waitWorkers = false;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    *store = new monopass_store{c10::make_intrusive<c10d::TCPStore>(std::string(host), options)};
  });
}

void monopass_store_close(monopass_store* store) {
  std::free(monopass::guarded([&] { delete store; }));
}

char* monopass_store_set(monopass_store* store, const char* key, const char* value) {
  return in_a_line([&] { static_cast<c10d::Store&>(*store->store).set(std::string(key), std::string(value)); });
}

char* monopass_store_get(monopass_store* store, const char* key, char** value) {
  return in_a_line([&] {
    const std::string name(key);
    if (!store->store->check({name})) return;
    const auto bytes = store->store->get(name);
    *value = monopass::copy_text(std::string(bytes.begin(), bytes.end()).c_str());
  });
}

char* monopass_store_add(monopass_store* store, const char* key, int64_t amount, int64_t* sum) {
  return in_a_line([&] { *sum = store->store->add(std::string(key), amount); });
}

char* monopass_store_replace(monopass_store* store, const char* key, const char* old_value, const char* new_value) {
  return in_a_line([&] {
    static_cast<c10d::Store&>(*store->store).compareSet(std::string(key), std::string(old_value), std::string(new_value));
  });
}

}
