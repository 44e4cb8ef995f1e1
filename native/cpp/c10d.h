// libtorch's c10d behind a C interface.
//
// Every function that can fail returns null, or a message that the caller frees with monopass_c10d_free_string. No
// exception leaves this interface. `tensor` is what torch-sys calls C_tensor: a pointer to an at::Tensor that the caller
// owns.
#pragma once

#include <stdint.h>

extern "C" {

typedef void* monopass_tensor;
typedef struct monopass_c10d_group monopass_c10d_group;
typedef struct monopass_c10d_reducer monopass_c10d_reducer;

// Joins `world_size` processes through the store at host:port, which this process serves when `serve_store`. Gloo listens at
// `own_address`; empty leaves the choice to libtorch. `prefix` keeps the keys of restarted runs apart. `nccl` adds NCCL for CUDA
// tensors beside Gloo for CPU ones.
char* monopass_c10d_join(const char* host, int port, const char* own_address, int serve_store, const char* prefix, int rank,
                         int world_size, int64_t timeout_ms, int nccl, monopass_c10d_group** group);
void monopass_c10d_leave(monopass_c10d_group* group);
int monopass_c10d_has_nccl(void);

// In place. `sum` over ranks; `broadcast` from `root`.
char* monopass_c10d_all_reduce_sum(monopass_c10d_group* group, monopass_tensor tensor);
char* monopass_c10d_broadcast(monopass_c10d_group* group, monopass_tensor tensor, int root);

char* monopass_c10d_store_set(monopass_c10d_group* group, const char* key, const char* value);
// `*value` stays null when the key is absent; else freed with monopass_c10d_free_string.
char* monopass_c10d_store_get(monopass_c10d_group* group, const char* key, char** value);

// DistributedDataParallel's reducer with a summing hook; with `in_bf16`, float32 gradients travel as bf16. It observes `parameters` until
// freed.
char* monopass_c10d_reducer_new(monopass_c10d_group* group, const monopass_tensor* parameters, int64_t num_parameters,
                                int64_t bucket_bytes, int in_bf16, monopass_c10d_reducer** reducer);
// The next backward pass reduces; one without this call before it only accumulates locally.
char* monopass_c10d_reducer_prepare(monopass_c10d_reducer* reducer);
double monopass_c10d_reducer_seconds_since_last_sent(const monopass_c10d_reducer* reducer);
void monopass_c10d_reducer_free(monopass_c10d_reducer* reducer);

// Drops the gradient of a leaf, so that its memory is free and the next backward pass moves a fresh one in.
void monopass_clear_gradient(monopass_tensor tensor);

void monopass_c10d_free_string(char* string);
}
