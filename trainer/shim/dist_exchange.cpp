// Adds up one flat gradient over all ranks in buckets, each sent while the backward pass still computes the others.
//
// The gradient of every parameter is a view of the flat one, so a bucket is a piece of memory that is reduced in place:
// nothing is copied, and what no rank used stays zero. Buckets are sent in one order on all ranks, as NCCL demands: that in
// which rank 0 saw them become ready in the first pass. What a rank has not reached by the end of its backward pass (a head
// without a structure, everything on a rank without a batch) is sent then.
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "dist.h"
#include "error.h"

using jmp::Group;
using jmp::guarded;
using jmp::Ptr;

namespace {

struct Bucket {
  int64_t start, length;
  // Its leaves, and those whose gradient is not there yet.
  size_t leaves, pending;
};

class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(const Group& group, at::Tensor flat, size_t always) : group_(group), flat_(std::move(flat)), always_(always) {}

  void bucket(int64_t start, int64_t length) {
    order_.push_back(buckets_.size());
    buckets_.push_back({start, length, 0, 0});
  }

  // Hears of each gradient of `leaf`, the next in the flat gradient.
  void leaf(const at::Tensor& leaf, size_t bucket) {
    const size_t index = bucket_of_.size();
    bucket_of_.push_back(bucket);
    buckets_.at(bucket).leaves++;
    auto accumulator = torch::autograd::impl::grad_accumulator(leaf);
    auto hear = [weak = weak_from_this(), index](const auto& outputs, const auto&) {
      if (auto self = weak.lock()) self->ready(index);
      return outputs;
    };
    accumulator->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(hear));
    accumulators_.push_back(std::move(accumulator));
  }

  // The next backward pass is the last before `finish`.
  void arm() {
    for (Bucket& bucket : buckets_) bucket.pending = bucket.leaves;
    heard_.assign(bucket_of_.size(), false);
    completed_.clear();
    armed_ = true;
  }

  // Sends what has not been sent yet, and waits for everything.
  void finish() {
    armed_ = false;
    while (next_ < order_.size()) send(order_[next_++]);
    for (auto& work : works_) work->wait();
    works_.clear();
    next_ = 0;
    if (!is_ordered_) agree_on_order();
  }

 private:
  // In the thread of the backward pass.
  void ready(size_t leaf) {
    if (!armed_) return;
    const std::lock_guard lock(mutex_);
    TORCH_CHECK(!heard_[leaf], "the gradient of parameter ", leaf, " was added to after it could be sent");
    heard_[leaf] = true;
    Bucket& bucket = buckets_[bucket_of_[leaf]];
    if (--bucket.pending > 0) return;
    completed_.push_back(static_cast<int64_t>(bucket_of_[leaf]));
    while (next_ < order_.size() && buckets_[order_[next_]].pending == 0) send(order_[next_++]);
  }

  void send(size_t index) {
    const Bucket& bucket = buckets_[index];
    works_.push_back(jmp::start_sum(group_, flat_.narrow(0, bucket.start, bucket.length)));
  }

  // Rank 0's order for all. Buckets that not all ranks complete come last, for others would wait behind them.
  void agree_on_order() {
    std::vector<int64_t> order = completed_;
    for (size_t bucket : order_)
      if (std::find(order.begin(), order.end(), static_cast<int64_t>(bucket)) == order.end())
        order.push_back(static_cast<int64_t>(bucket));
    const auto is_always = [this](int64_t bucket) { return static_cast<size_t>(bucket) < always_; };
    std::stable_partition(order.begin(), order.end(), is_always);
    at::Tensor tensor = at::tensor(order, at::kLong);
    std::vector<at::Tensor> tensors{tensor};
    c10d::BroadcastOptions options;
    options.rootRank = 0;
    group_.ranks->broadcast(tensors, options)->wait();
    const int64_t* first = tensor.const_data_ptr<int64_t>();
    order_.assign(first, first + tensor.numel());
    is_ordered_ = true;
  }

  const Group group_;
  const at::Tensor flat_;
  const size_t always_;
  std::vector<Bucket> buckets_;
  std::vector<size_t> bucket_of_;
  // The graph holds accumulators weakly; without these the hooks would be lost between passes.
  std::vector<Ptr<torch::autograd::Node>> accumulators_;
  std::vector<size_t> order_;
  bool is_ordered_ = false;

  // Of the pass that runs.
  std::atomic<bool> armed_ = false;
  std::mutex mutex_;
  std::vector<bool> heard_;
  std::vector<int64_t> completed_;
  std::vector<Ptr<c10d::Work>> works_;
  size_t next_ = 0;
};

struct Handle {
  std::shared_ptr<Exchange> exchange;
};

}  // namespace

extern "C" {

// `bounds` holds the first element of each bucket of `flat` and its end; `bucket_of` the bucket of each leaf. The first
// `always` buckets are completed by every backward pass.
Handle* jmp_exchange_new(const Group* group, const void* flat, const int64_t* bounds, size_t buckets,
                         size_t always, const void* const* leaves, const size_t* bucket_of, size_t count) {
  return guarded(
      [&]() -> Handle* {
        auto exchange = std::make_shared<Exchange>(*group, static_cast<const at::Tensor*>(flat)->detach(), always);
        for (size_t b = 0; b < buckets; b++) exchange->bucket(bounds[b], bounds[b + 1] - bounds[b]);
        for (size_t i = 0; i < count; i++) exchange->leaf(*static_cast<const at::Tensor*>(leaves[i]), bucket_of[i]);
        return new Handle{std::move(exchange)};
      },
      nullptr);
}

bool jmp_exchange_arm(Handle* handle) {
  return guarded(
      [&] {
        handle->exchange->arm();
        return true;
      },
      false);
}

bool jmp_exchange_finish(Handle* handle) {
  return guarded(
      [&] {
        handle->exchange->finish();
        return true;
      },
      false);
}

void jmp_exchange_free(Handle* handle) {
  guarded(
      [&] {
        delete handle;
        return true;
      },
      false);
}

}  // extern "C"
