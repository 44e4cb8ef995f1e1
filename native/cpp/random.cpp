// Dropout with a generator of its own: the process's generator is shared by every thread, so reseeding it races.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mul.h>

#include <mutex>

#include "shim.h"

namespace monopass {
namespace {

at::Generator generator(const at::Device& device, uint64_t seed) {
  if (device.is_cpu()) return at::make_generator<at::CPUGeneratorImpl>(seed);
  auto shared = at::globalContext().defaultGenerator(device);
  at::Generator own;
  {
    std::lock_guard<std::mutex> lock(shared.mutex());
    own = shared.clone();
  }
  own.set_current_seed(seed);
  return own;
}

}  // namespace

at::Tensor dropout(const at::Tensor& x, double probability, uint64_t seed) {
  const double keep = 1.0 - probability;
  auto mask = at::empty_like(x.detach()).bernoulli_(keep, generator(x.device(), seed)).div_(keep);
  return at::mul(x, mask);
}

}  // namespace monopass

extern "C" char* monopass_dropout(at::Tensor** out, const at::Tensor* x, double probability, uint64_t seed) {
  return monopass::guarded([&] { *out = new at::Tensor(monopass::dropout(*x, probability, seed)); });
}
