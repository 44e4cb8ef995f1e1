// See store.h.
#include "store.h"

#include <c10/util/Exception.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>
#include <optional>
#include <string>

#include "bounded.h"
#include "shim.h"

struct monopass_store {
  c10::intrusive_ptr<c10d::Store> store;
  std::chrono::milliseconds patience;
};

namespace {

// First line only: what follows is the other side's trace.
template <typename Body>
char* in_a_line(Body body) {
  char* error = monopass::guarded(body);
  if (error != nullptr) error[std::strcspn(error, "\n")] = '\0';
  return error;
}

// Asks within the store's patience; the question holds the store, which may be closed before the answer comes.
template <typename Question, typename Answer = int>
char* ask(monopass_store* store, Question question, Answer* answer = nullptr) {
  return in_a_line([&] {
    auto held = [kept = store->store, question = std::move(question)] { return question(*kept); };
    auto got = monopass::bounded(store->patience, std::move(held));
    if (answer != nullptr) *answer = std::move(got);
  });
}

}  // namespace

extern "C" {

char* monopass_store_open(const char* host, int port, int listening, int64_t timeout_ms, int64_t patience_ms,
                          monopass_store** store) {
  return in_a_line([&] {
    c10d::TCPStoreOptions options;
    options.port = static_cast<std::uint16_t>(port);
    options.isServer = listening >= 0;
    if (listening >= 0) options.masterListenFd = listening;
    options.waitWorkers = false;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    // Connecting ends with a greeting, which a mute listener never answers.
    auto made = monopass::bounded(2 * options.timeout, [host = std::string(host), options] {
      return c10::intrusive_ptr<c10d::Store>(c10::make_intrusive<c10d::TCPStore>(host, options));
    });
    *store = new monopass_store{std::move(made), std::chrono::milliseconds(patience_ms)};
  });
}

void monopass_store_close(monopass_store* store) {
  std::free(monopass::guarded([&] { delete store; }));
}

char* monopass_store_set(monopass_store* store, const char* key, const char* value) {
  return ask(store, [key = std::string(key), value = std::string(value)](c10d::Store& store) {
    store.set(key, value);
    return 0;
  });
}

char* monopass_store_get(monopass_store* store, const char* key, char** value) {
  using Found = std::optional<std::string>;
  Found found;
  char* error = ask(
      store,
      [key = std::string(key)](c10d::Store& store) {
        if (!store.check({key})) return Found();
        const auto bytes = store.get(key);
        return Found(std::string(bytes.begin(), bytes.end()));
      },
      &found);
  if (error == nullptr && found) *value = monopass::copy_text(found->c_str());
  return error;
}

char* monopass_store_add(monopass_store* store, const char* key, int64_t amount, int64_t* sum) {
  return ask(store, [key = std::string(key), amount](c10d::Store& store) { return store.add(key, amount); }, sum);
}

char* monopass_store_replace(monopass_store* store, const char* key, const char* old_value, const char* new_value) {
  return ask(store, [key = std::string(key), from = std::string(old_value), to = std::string(new_value)](c10d::Store& store) {
    store.compareSet(key, from, to);
    return 0;
  });
}

}
