// What the files of the distributed shim share.
#pragma once
#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace jmp {

template <class T>
using Ptr = c10::intrusive_ptr<T>;

// A key-value store that all ranks see.
struct Store {
  Ptr<c10d::Store> store;
};

// All ranks of a run: gloo for tensors on the CPU, NCCL for those on a GPU.
struct Group {
  Ptr<c10d::Store> store;
  Ptr<c10d::ProcessGroup> ranks;
};

// Starts adding up `tensor` over all ranks, in place.
Ptr<c10d::Work> start_sum(const Group& group, at::Tensor tensor);

}  // namespace jmp
