// The tasks of range attention with products of vectors.
#include "attention_tasks.h"

namespace monopass {

#define MONOPASS_INSTANTIATE(T)                                                                                                  \
  template void attention_pack<T>(const AttentionForward<T>&, int64_t, int64_t, int64_t);                                        \
  template int64_t attention_forward_scratch<T, Vectors>(const AttentionForward<T>&);                                            \
  template void attention_forward<T, Vectors>(const AttentionForward<T>&, int64_t, int64_t, int64_t, int64_t, void*);            \
  template void attention_combine<T>(const AttentionForward<T>&, int64_t, int64_t, int64_t);                                     \
  template int64_t attention_backward_scratch<T, Vectors>(const AttentionBackward<T>&, int64_t);                                 \
  template void attention_backward<T, Vectors>(const AttentionBackward<T>&, int64_t, int64_t, int64_t, int64_t, int64_t, void*); \
  template void attention_reduce_dq<T>(const AttentionBackward<T>&, int64_t, int64_t, int64_t);
MONOPASS_INSTANTIATE(float)
MONOPASS_INSTANTIATE(bf16)

}  // namespace monopass
