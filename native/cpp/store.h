// c10d's TCPStore alone, for launchers that meet before there are ranks.
//
// As in c10d.h: null or a message that the caller frees with monopass_c10d_free_string, and no exception leaves.
#pragma once

#include <stdint.h>

extern "C" {

typedef struct monopass_store monopass_store;

// Connects to the store at host:port. `listening` is a bound, listening socket to serve it on, which the store takes over; below 0
// another process serves. `timeout_ms` bounds connecting, `patience_ms` every question after that.
char* monopass_store_open(const char* host, int port, int listening, int64_t timeout_ms, int64_t patience_ms, monopass_store** store);
void monopass_store_close(monopass_store* store);

char* monopass_store_set(monopass_store* store, const char* key, const char* value);
// `*value` stays null when the key is absent; else freed with monopass_c10d_free_string.
char* monopass_store_get(monopass_store* store, const char* key, char** value);
// Adds to a number, 0 when absent.
char* monopass_store_add(monopass_store* store, const char* key, int64_t amount, int64_t* sum);
// Sets the key only where it holds `old_value`, or is absent and `old_value` is empty.
char* monopass_store_replace(monopass_store* store, const char* key, const char* old_value, const char* new_value);
}
