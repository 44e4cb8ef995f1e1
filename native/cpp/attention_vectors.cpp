// The tasks of range attention with products of vectors.
#include "attention_tasks.h"

namespace monopass {

#define MONOPASS_INSTANTIATE(T)                                                                                                  \
  template void attention_pack<Vectors, T>(const AttentionForward<T>&, int64_t, int64_t, int64_t);                               \
  template int64_t attention_forward_scratch<Vectors, T>(const AttentionForward<T>&);                                            \
  template void attention_forward<Vectors, T>(const AttentionForward<T>&, int64_t, int64_t, int64_t, int64_t, void*);            \
  template void attention_combine<Vectors, T>(const AttentionForward<T>&, int64_t, int64_t, int64_t);                            \
  template int64_t attention_backward_scratch<Vectors, T>(const AttentionBackward<T>&, int64_t);                                 \
  template void attention_backward<Vectors, T>(const AttentionBackward<T>&, int64_t, int64_t, int64_t, int64_t, int64_t, void*); \
  template void attention_reduce_dq<Vectors, T>(const AttentionBackward<T>&, int64_t, int64_t, int64_t);
MONOPASS_INSTANTIATE(float)
#ifdef __AVX512BF16__
MONOPASS_INSTANTIATE(bf16)
#endif

}  // namespace monopass
