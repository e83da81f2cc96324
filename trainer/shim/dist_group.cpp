// Ranks and what they say to each other: c10d's TCPStore and ProcessGroup behind C functions.
//
// A null or false result is an error that jmp_last_error tells.
#include "dist.h"

#include <ATen/Version.h>
#include <c10/util/Logging.h>
#include <c10/util/intrusive_ptr.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/headeronly/version.h>

#include <cstdlib>
#include <cstring>
#include <mutex>

#include "error.h"

// The classes below are not a stable interface: this file is for one version, and for the layouts that its library has.
static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 13 && TORCH_VERSION_PATCH == 0,
              "training on several ranks is written for libtorch 2.13.0; set LIBTORCH to it, or build with "
              "--no-default-features");
static_assert(sizeof(void*) != 8 || sizeof(c10d::ProcessGroupGloo) == 488, "not libtorch 2.13.0's ProcessGroupGloo");
static_assert(sizeof(void*) != 8 || sizeof(c10d::ProcessGroupGloo::Options) == 184, "not libtorch 2.13.0's gloo options");
static_assert(sizeof(void*) != 8 || sizeof(c10d::ProcessGroupGloo::AsyncWork) == 784, "not libtorch 2.13.0's gloo work");

using c10d::ProcessGroup;
using jmp::Group;
using jmp::guarded;
using jmp::Ptr;
using jmp::Store;

namespace jmp {

Ptr<c10d::Work> start_sum(const Group& group, at::Tensor tensor) {
  c10d::AllreduceOptions options;
  options.reduceOp = c10d::ReduceOp::SUM;
  std::vector<at::Tensor> tensors{tensor.detach()};
  return group.ranks->allreduce(tensors, options);
}

}  // namespace jmp

namespace {

const at::Tensor& of(const void* tensor) { return *static_cast<const at::Tensor*>(tensor); }

// Ranks that end while others still listen are no news: c10d would print a stack trace for each. Errors come as exceptions
// anyway. Who sets the variable gets what it says.
void quieten() {
  static std::once_flag once;
  std::call_once(once, [] {
    setenv("TORCH_CPP_LOG_LEVEL", "ERROR", /*overwrite*/ 0);
    c10::initLogging();
  });
}

// Makes a new backend of c10d on a GPU; from the NCCL plug-in.
typedef void* (*NewNccl)(void* store, int rank, int ranks, int device, int64_t timeout_ms, char* error, size_t length);

Ptr<c10d::Backend> gloo_backend(const Ptr<c10d::Store>& store, int rank, int ranks, std::chrono::milliseconds timeout,
                        const char* address) {
  using Gloo = c10d::ProcessGroupGloo;
  // The default makes gloo's device inside libtorch, on GLOO_SOCKET_IFNAME or the host's own address.
  auto options = address ? Gloo::Options::create(timeout) : Gloo::Options::create_default(timeout);
  if (address) options->devices.push_back(Gloo::createDeviceForHostname(address));
  return c10::make_intrusive<Gloo>(c10::make_intrusive<c10d::PrefixStore>("cpu", store), rank, ranks, options);
}

Ptr<c10d::Backend> nccl_backend(NewNccl make, const Ptr<c10d::Store>& store, int rank, int ranks, int64_t timeout_ms, int device) {
  Ptr<c10d::Store> own = c10::make_intrusive<c10d::PrefixStore>("cuda", store);
  char error[1024] = {0};
  void* made = make(own.get(), rank, ranks, device, timeout_ms, error, sizeof error);
  TORCH_CHECK(made, "NCCL: ", error);
  return Ptr<c10d::Backend>::reclaim(static_cast<c10d::Backend*>(made));
}

}  // namespace

extern "C" {

// The version these files were compiled for, and the settings of the library that is loaded.
const char* jmp_version_built() { return TORCH_VERSION; }
const char* jmp_library_settings() {
  static const std::string settings = at::show_config();
  return settings.c_str();
}

// Serves a store on a listening socket, which it takes over, until the program ends.
bool jmp_store_serve(int socket, int port) {
  return guarded(
      [&] {
        quieten();
        c10d::TCPStoreOptions options;
        options.port = static_cast<uint16_t>(port);
        options.isServer = true;
        options.waitWorkers = false;
        options.masterListenFd = socket;
        // Kept on purpose: the ranks need it to their end.
        static Ptr<c10d::Store> server = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
        return server.defined();
      },
      false);
}

Store* jmp_store_connect(const char* host, int port, bool serve, const char* prefix, int64_t timeout_ms) {
  return guarded(
      [&]() -> Store* {
        quieten();
        c10d::TCPStoreOptions options;
        options.port = static_cast<uint16_t>(port);
        options.isServer = serve;
        options.waitWorkers = false;
        options.timeout = std::chrono::milliseconds(timeout_ms);
        options.multiTenant = true;
        Ptr<c10d::Store> tcp = c10::make_intrusive<c10d::TCPStore>(host, options);
        return new Store{c10::make_intrusive<c10d::PrefixStore>(prefix, tcp)};
      },
      nullptr);
}

bool jmp_store_set(Store* store, const char* key, const uint8_t* bytes, size_t length) {
  return guarded(
      [&] {
        store->store->set(key, std::vector<uint8_t>(bytes, bytes + length));
        return true;
      },
      false);
}

// Copies at most `room` bytes of a value; its length, -1 where there is none yet, -2 on an error. Does not wait.
int64_t jmp_store_peek(Store* store, const char* key, uint8_t* bytes, size_t room) {
  return guarded(
      [&]() -> int64_t {
        if (!store->store->check({key})) return -1;
        const auto value = store->store->get(key);
        std::memcpy(bytes, value.data(), std::min(room, value.size()));
        return static_cast<int64_t>(value.size());
      },
      static_cast<int64_t>(-2));
}

// `address` binds gloo to it; null lets libtorch choose. `make_nccl` may be null.
Group* jmp_group_new(const Store* store, int rank, int ranks, int64_t timeout_ms, const char* address, NewNccl make_nccl,
                     int device) {
  return guarded(
      [&]() -> Group* {
        const std::chrono::milliseconds timeout(timeout_ms);
        auto group = c10::make_intrusive<ProcessGroup>(store->store, rank, ranks);
        group->setBackend(c10::DeviceType::CPU, ProcessGroup::BackendType::GLOO,
                          gloo_backend(store->store, rank, ranks, timeout, address));
        group->setDefaultBackend(ProcessGroup::BackendType::GLOO);
        if (make_nccl) {
          group->setBoundDeviceId(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)));
          group->setBackend(c10::DeviceType::CUDA, ProcessGroup::BackendType::NCCL,
                            nccl_backend(make_nccl, store->store, rank, ranks, timeout_ms, device));
        }
        group->setGroupName("0");
        group->setGroupDesc("ranks");
        return new Group{store->store, group};
      },
      nullptr);
}

bool jmp_group_sum(const Group* group, const void* tensor) {
  return guarded([&] { return jmp::start_sum(*group, of(tensor))->wait(); }, false);
}

// Copies rank 0's tensors to all ranks, in place.
bool jmp_group_broadcast(const Group* group, const void* const* tensors, size_t count) {
  return guarded(
      [&] {
        const at::NoGradGuard no_grad;
        std::vector<at::Tensor> list;
        for (size_t i = 0; i < count; i++) list.push_back(of(tensors[i]).detach());
        c10d::broadcast_coalesced(group->ranks, list, 256 << 20, 0);
        return true;
      },
      false);
}

// `outputs` gets each rank's `input`, all of one size.
bool jmp_group_gather(const Group* group, const void* const* outputs, size_t count, const void* input) {
  return guarded(
      [&] {
        std::vector<std::vector<at::Tensor>> out(1);
        for (size_t i = 0; i < count; i++) out[0].push_back(of(outputs[i]));
        std::vector<at::Tensor> in{of(input)};
        return group->ranks->allgather(out, in)->wait();
      },
      false);
}

void jmp_group_free(Group* group) {
  guarded(
      [&] {
        delete group;
        return true;
      },
      false);
}

void jmp_store_free(Store* store) {
  guarded(
      [&] {
        delete store;
        return true;
      },
      false);
}

}  // extern "C"
