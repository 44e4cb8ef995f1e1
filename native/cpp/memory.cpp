// Memory of CUDA devices, through the interface every build of libtorch has.
#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>

#include "shim.h"

// bytes: peak, used, free, total.
extern "C" char* monopass_cuda_memory(int device, int64_t* bytes) {
  return monopass::guarded([&] {
    // A dry run asks before any tensor has been made there.
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
    const auto index = static_cast<c10::DeviceIndex>(device);
    const auto stats = allocator->getDeviceStats(index);
    const auto& held = stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)];
    const auto info = allocator->getMemoryInfo(index);
    bytes[0] = held.peak;
    bytes[1] = held.current;
    bytes[2] = static_cast<int64_t>(info.first);
    bytes[3] = static_cast<int64_t>(info.second);
  });
}

extern "C" char* monopass_cuda_reset_peak(int device) {
  return monopass::guarded([&] {
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    c10::getDeviceAllocator(c10::DeviceType::CUDA)->resetPeakStats(static_cast<c10::DeviceIndex>(device));
  });
}
