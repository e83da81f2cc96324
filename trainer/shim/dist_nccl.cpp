// The NCCL plug-in, a shared object of its own: the only file that needs CUDA. Loaded where a GPU is to be used.
#include <c10/cuda/CUDAFunctions.h>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <torch/headeronly/version.h>

#include <cstring>

static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 13 && TORCH_VERSION_PATCH == 0,
              "the NCCL plug-in is written for libtorch 2.13.0");

// A new backend whose only reference belongs to the caller, or null and why.
extern "C" void* jmp_nccl_new(void* store, int rank, int ranks, int device, int64_t timeout_ms, char* error, size_t length) {
  try {
    TORCH_CHECK(device < c10::cuda::device_count(), "GPU ", device, " is not there: this process sees ",
                static_cast<int>(c10::cuda::device_count()));
    c10::cuda::set_device(static_cast<c10::DeviceIndex>(device));
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = std::chrono::milliseconds(timeout_ms);
    auto shared = c10::intrusive_ptr<c10d::Store>::reclaim_copy(static_cast<c10d::Store*>(store));
    c10::intrusive_ptr<c10d::Backend> backend =
        c10::make_intrusive<c10d::ProcessGroupNCCL>(shared, rank, ranks, options);
    return backend.release();
  } catch (const std::exception& problem) {
    std::strncpy(error, problem.what(), length - 1);
  } catch (...) {
    std::strncpy(error, "an unknown C++ exception", length - 1);
  }
  return nullptr;
}
