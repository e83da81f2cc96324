// The C interface. A tensor is a pointer to an at::Tensor, as torch-sys has it; results belong to the caller.
// Every exception is caught: the function then returns null or false and jmp_last_error tells why.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "error.h"
#include "functions.h"
#include "kernels.h"

using at::Tensor;
using jmp::guarded;

namespace jmp {

std::string& last_error() {
  thread_local std::string text;
  return text;
}

}  // namespace jmp

namespace {

const Tensor& of(const void* tensor) {
  static const Tensor none;
  return tensor ? *static_cast<const Tensor*>(tensor) : none;
}

template <class Work>
void* made(Work work) {
  return guarded([&] { return static_cast<void*>(new Tensor(work())); }, nullptr);
}

constexpr int64_t GRAIN = 1 << 15;

}  // namespace

extern "C" {

const char* jmp_last_error() { return jmp::last_error().c_str(); }
const char* jmp_kernels() { return jmp::kernels().name; }

void* jmp_activation(const void* x) {
  return made([&] { return jmp::activation(of(x)); });
}
void* jmp_linear(const void* x, const void* weight) {
  return made([&] { return jmp::linear(of(x), of(weight)); });
}
void* jmp_activated_linear(const void* pre, const void* weight, const void* bias) {
  return made([&] { return jmp::activated_linear(of(pre), of(weight), of(bias)); });
}
void* jmp_gated_linear(const void* pre, const void* index, const void* radial, const void* radial_weight, const void* weight,
                       bool activated) {
  return made([&] { return jmp::gated_linear(of(pre), of(index), of(radial), of(radial_weight), of(weight), activated); });
}
void* jmp_gated_sum(const void* m, const void* radial, const void* radial_weight, const void* target, int64_t rows) {
  return made([&] { return jmp::gated_sum(of(m), of(radial), of(radial_weight), of(target), rows); });
}
void* jmp_batched(const void* a, const void* b) {
  return made([&] { return jmp::batched(of(a), of(b)); });
}
void* jmp_bilinear(const void* circular, const void* sums, const void* weight) {
  return made([&] { return jmp::bilinear(of(circular), of(sums), of(weight)); });
}
void* jmp_residual(const void* x, const void* pre) {
  return made([&] { return jmp::residual(of(x), of(pre)); });
}
void* jmp_half_sum(const void* a, const void* b) {
  return made([&] { return jmp::half_sum(of(a), of(b)); });
}
void* jmp_symmetric_update(const void* s, const void* a, const void* b, const void* reverse) {
  return made([&] { return jmp::symmetric_update(of(s), of(a), of(b), of(reverse)); });
}
void* jmp_edge_sum(const void* x, const void* a, const void* source, const void* b, const void* target) {
  return made([&] { return jmp::edge_sum(of(x), of(a), of(source), of(b), of(target)); });
}
void* jmp_gather(const void* x, const void* index) {
  return made([&] { return jmp::gather(of(x), of(index)); });
}
void* jmp_scatter(const void* x, const void* index, int64_t rows) {
  return made([&] { return jmp::scatter(of(x), of(index), rows); });
}

// Adds the gradients of `loss` to `.grad` of these leaves and of no others.
bool jmp_backward(const void* loss, const void* const* leaves, size_t count) {
  return guarded(
      [&] {
        torch::autograd::variable_list inputs;
        inputs.reserve(count);
        for (size_t i = 0; i < count; i++) inputs.push_back(of(leaves[i]));
        torch::autograd::backward({of(loss)}, {}, false, false, inputs);
        return true;
      },
      false);
}

// One AdamW step on contiguous single-precision arrays of one length; `average` may be null.
bool jmp_adamw(const void* value, const void* gradient, const void* first, const void* second, const void* average,
               const jmp::AdamWRule* rule) {
  return guarded(
      [&] {
        float* p = of(value).mutable_data_ptr<float>();
        const float* g = of(gradient).const_data_ptr<float>();
        float *m = of(first).mutable_data_ptr<float>(), *v = of(second).mutable_data_ptr<float>();
        float* a = average ? of(average).mutable_data_ptr<float>() : nullptr;
        at::parallel_for(0, of(value).numel(), GRAIN, [&](int64_t begin, int64_t end) {
          jmp::kernels().adamw(end - begin, *rule, p + begin, g + begin, m + begin, v + begin, a ? a + begin : nullptr);
        });
        return true;
      },
      false);
}

// Sum of squares of a contiguous single-precision array, in an order that does not depend on the number of threads.
bool jmp_sum_of_squares(const void* tensor, double* sum) {
  return guarded(
      [&] {
        constexpr int64_t PIECE = 1 << 16;
        const float* x = of(tensor).const_data_ptr<float>();
        const int64_t n = of(tensor).numel(), pieces = (n + PIECE - 1) / PIECE;
        std::vector<double> sums(pieces);
        at::parallel_for(0, pieces, 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; i++)
            sums[i] = jmp::kernels().sum_of_squares(std::min(PIECE, n - i * PIECE), x + i * PIECE);
        });
        *sum = 0.0;
        for (double piece : sums) *sum += piece;
        return true;
      },
      false);
}

// Gives back what is free now, then lets freed activations be used again instead of returning their pages to the system
// at every step.
void jmp_keep_memory() {
#if defined(__GLIBC__)
  malloc_trim(0);
  // Older C libraries take at most 32 MB.
  if (!mallopt(M_MMAP_THRESHOLD, 1 << 30)) mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

}  // extern "C"
