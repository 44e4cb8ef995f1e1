// See c10d.h.
#include "c10d.h"

#include "bounded.h"

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#ifdef MONOPASS_NCCL
// libtorch's own guard around the header's content.
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

struct monopass_c10d_group {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroup> group;
  // Longest wait for an answer of the store.
  std::chrono::milliseconds patience;
};

namespace {

using Group = c10::intrusive_ptr<c10d::ProcessGroup>;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPatience(10'000);

char* copy_string(const std::string& text) {
  char* copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy != nullptr) std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

// First line of a c10 error: the rest is a backtrace of C++ frames.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

template <typename Body>
char* guarded(Body body) {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return copy_string(first_line(error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return copy_string(first_line(error.what()));
  } catch (...) {
    return copy_string("unknown C++ exception");
  }
}

at::Tensor& as_tensor(monopass_tensor tensor) { return *static_cast<at::Tensor*>(tensor); }

// GLOO_SOCKET_IFNAME if set, else the address from which the master is reached: neither needs a host name that resolves.
std::shared_ptr<::gloo::transport::Device> gloo_device(const std::string& own_address) {
  if (const char* interface = std::getenv("GLOO_SOCKET_IFNAME")) {
    return c10d::ProcessGroupGloo::createDeviceForInterface(interface);
  }
  if (own_address.empty()) return c10d::ProcessGroupGloo::createDefaultDevice();
  return c10d::ProcessGroupGloo::createDeviceForHostname(own_address);
}

// The next backward pass reduces.
void prepare(c10d::Reducer& reducer) {
  // As DistributedDataParallel's forward does: once, after the first reduced pass, buckets follow the order in which its gradients
  // arrived.
  reducer.rebuild_buckets();
  reducer.prepare_for_forward();
  reducer.prepare_for_backward({});
}

// A first reduced pass of zeros, last parameter first. Where an element lies in its bucket decides the order in which more than two ranks
// add it up, so buckets laid out anew after the first real step would give a resumed run other bits than an undisturbed one.
void fix_buckets(c10d::Reducer& reducer, const std::vector<at::Tensor>& parameters) {
  prepare(reducer);
  const at::AutoGradMode graph(true);
  auto nothing = at::zeros({}, parameters.at(0).options().dtype(at::kFloat).requires_grad(false));
  for (const auto& parameter : parameters) nothing = nothing + parameter.flatten().narrow(0, 0, 1).sum().to(at::kFloat) * 0.0;
  nothing.backward();
  for (const auto& parameter : parameters) parameter.mutable_grad().reset();
}

// The reducer's own hook averages; this one sums, because the loss is already divided by global counts.
class SumHook : public c10d::CppCommHookInterface<Group> {
 public:
  SumHook(const Group& group, bool in_bf16) : CppCommHookInterface<Group>(group), in_bf16_(in_bf16) {}

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    last_sent = Clock::now();
    const at::Tensor buffer = bucket.getBufferRef();
    if (!in_bf16_ || buffer.scalar_type() != at::kFloat) {
      std::vector<at::Tensor> tensors = {buffer};
      return state_->allreduce(tensors)->getFuture();
    }
    std::vector<at::Tensor> tensors = {buffer.to(at::kBFloat16)};
    auto sent = state_->allreduce(tensors)->getFuture();
    const auto widen = [buffer](c10::ivalue::Future& sum) {
      buffer.copy_(sum.value().toTensorVector().at(0));
      return c10::IValue(std::vector<at::Tensor>{buffer});
    };
    return sent->then(widen, sent->elementType());
  }

  // When the last bucket was sent: what a backward pass takes after it is communication that nothing hides.
  Clock::time_point last_sent = Clock::now();

 private:
  bool in_bf16_;
};

}  // namespace

struct monopass_c10d_reducer {
  std::unique_ptr<c10d::Reducer> reducer;
  // Belongs to the reducer.
  const SumHook* hook;
};

extern "C" {

int monopass_c10d_has_nccl(void) {
#ifdef MONOPASS_NCCL
  return 1;
#else
  return 0;
#endif
}

char* monopass_c10d_join(const char* host, int port, const char* own_address, int serve_store, const char* prefix, int rank,
                         int world_size, int64_t timeout_ms, int nccl, monopass_c10d_group** group) {
  return guarded([&] {
    const std::chrono::milliseconds timeout(timeout_ms);
    c10d::TCPStoreOptions store_options;
    store_options.port = static_cast<std::uint16_t>(port);
    store_options.isServer = serve_store != 0;
    store_options.numWorkers = world_size;
    // The server must not wait for all before it can be asked; the first collective does.
    store_options.waitWorkers = false;
    store_options.timeout = timeout;
    auto tcp = c10::make_intrusive<c10d::TCPStore>(std::string(host), store_options);
    auto store = c10::make_intrusive<c10d::PrefixStore>(std::string(prefix), tcp);

    auto joined = c10::make_intrusive<c10d::ProcessGroup>(store, rank, world_size);
    auto gloo_options = c10d::ProcessGroupGloo::Options::create(timeout);
    gloo_options->devices.push_back(gloo_device(own_address));
    auto gloo_store = c10::make_intrusive<c10d::PrefixStore>("gloo", store);
    auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(gloo_store, rank, world_size, gloo_options);
    joined->setBackend(c10::DeviceType::CPU, c10d::ProcessGroup::BackendType::GLOO, gloo);
    joined->setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
    if (nccl != 0) {
#ifdef MONOPASS_NCCL
      auto nccl_options = c10d::ProcessGroupNCCL::Options::create();
      nccl_options->timeout = timeout;
      auto nccl_store = c10::make_intrusive<c10d::PrefixStore>("nccl", store);
      auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(nccl_store, rank, world_size, nccl_options);
      joined->setBackend(c10::DeviceType::CUDA, c10d::ProcessGroup::BackendType::NCCL, backend);
#else
      TORCH_CHECK(false, "this build has no NCCL");
#endif
    }
    *group = new monopass_c10d_group{store, joined, std::min(timeout, kPatience)};
  });
}

void monopass_c10d_leave(monopass_c10d_group* group) {
  char* error = guarded([&] { delete group; });
  std::free(error);
}

char* monopass_c10d_all_reduce_sum(monopass_c10d_group* group, monopass_tensor tensor) {
  return guarded([&] {
    std::vector<at::Tensor> tensors = {as_tensor(tensor)};
    group->group->allreduce(tensors)->wait();
  });
}

char* monopass_c10d_broadcast(monopass_c10d_group* group, monopass_tensor tensor, int root) {
  return guarded([&] {
    std::vector<at::Tensor> tensors = {as_tensor(tensor)};
    c10d::BroadcastOptions options;
    options.rootRank = root;
    group->group->broadcast(tensors, options)->wait();
  });
}

char* monopass_c10d_store_set(monopass_c10d_group* group, const char* key, const char* value) {
  return guarded([&] {
    monopass::bounded(group->patience, [store = group->store, key = std::string(key), value = std::string(value)] {
      store->set(key, value);
      return 0;
    });
  });
}

char* monopass_c10d_store_get(monopass_c10d_group* group, const char* key, char** value) {
  return guarded([&] {
    using Found = std::optional<std::string>;
    const Found found = monopass::bounded(group->patience, [store = group->store, key = std::string(key)] {
      if (!store->check({key})) return Found();
      const auto bytes = store->get(key);
      return Found(std::string(bytes.begin(), bytes.end()));
    });
    if (found) *value = copy_string(*found);
  });
}

char* monopass_c10d_reducer_new(monopass_c10d_group* group, const monopass_tensor* parameters, int64_t num_parameters,
                                int64_t bucket_bytes, int in_bf16, monopass_c10d_reducer** reducer) {
  return guarded([&] {
    std::vector<at::Tensor> tensors;
    std::unordered_map<size_t, std::string> names;
    for (int64_t i = 0; i < num_parameters; ++i) {
      tensors.push_back(as_tensor(parameters[i]));
      names.emplace(i, std::to_string(i));
    }
    const std::vector<bool> sparse(tensors.size(), false);
    const auto cap = static_cast<size_t>(bucket_bytes);
    // Gradients arrive from the last layer back, so buckets are laid out that way round.
    auto buckets = std::get<0>(
        c10d::compute_bucket_assignment_by_size(tensors, {c10d::kDefaultFirstBucketBytes, cap}, sparse));
    std::vector<std::vector<size_t>> reversed(buckets.rbegin(), buckets.rend());
    auto made = std::make_unique<c10d::Reducer>(
        tensors, reversed, group->group, sparse, bucket_bytes, /*find_unused_parameters=*/false,
        /*gradient_as_bucket_view=*/false, names, c10d::kDefaultFirstBucketBytes,
        /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false, std::vector<int64_t>{});
    auto hook = std::make_unique<SumHook>(group->group, in_bf16 != 0);
    const SumHook* observed = hook.get();
    made->register_comm_hook(std::move(hook));
    fix_buckets(*made, tensors);
    *reducer = new monopass_c10d_reducer{std::move(made), observed};
  });
}

char* monopass_c10d_reducer_prepare(monopass_c10d_reducer* reducer) {
  return guarded([&] { prepare(*reducer->reducer); });
}

double monopass_c10d_reducer_seconds_since_last_sent(const monopass_c10d_reducer* reducer) {
  return std::chrono::duration<double>(Clock::now() - reducer->hook->last_sent).count();
}

void monopass_c10d_reducer_free(monopass_c10d_reducer* reducer) {
  char* error = guarded([&] {
    reducer->reducer->remove_autograd_hooks();
    delete reducer;
  });
  std::free(error);
}

void monopass_clear_gradient(monopass_tensor tensor) { as_tensor(tensor).mutable_grad().reset(); }

void monopass_c10d_free_string(char* string) { std::free(string); }
}
