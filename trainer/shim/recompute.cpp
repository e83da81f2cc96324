// A part of the forward pass that keeps its inputs only and runs again in the backward pass.
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "error.h"

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Reads `count` tensors and fills `outputs` with `expected` new ones; false if it failed.
typedef bool (*Run)(void* state, const void* const* inputs, size_t count, void** outputs, size_t expected);
typedef void (*Release)(void* state);

struct Segment : torch::CustomClassHolder {
  Segment(Run run, Release release, void* state, size_t outputs)
      : run(run), release(release), state(state), outputs(outputs) {}
  ~Segment() override { release(state); }
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  variable_list operator()(const variable_list& inputs) const {
    std::vector<const void*> in;
    in.reserve(inputs.size());
    for (const Tensor& input : inputs) in.push_back(&input);
    std::vector<void*> out(outputs, nullptr);
    const bool done = run(state, in.data(), in.size(), out.data(), outputs);
    variable_list made;
    made.reserve(outputs);
    for (void* output : out) {
      if (!output) continue;
      made.push_back(*static_cast<Tensor*>(output));
      delete static_cast<Tensor*>(output);
    }
    TORCH_CHECK(done && made.size() == outputs, "a recomputed part of the network failed");
    return made;
  }

  Run run;
  Release release;
  void* state;
  size_t outputs;
};

struct Recomputed : Function<Recomputed> {
  static variable_list forward(AutogradContext* ctx, at::TensorList list, const c10::intrusive_ptr<Segment>& segment) {
    const variable_list inputs = list.vec();
    ctx->save_for_backward(inputs);
    ctx->saved_data["segment"] = c10::IValue::make_capsule(segment);
    return (*segment)(inputs);
  }

  // Gradients of parameters inside the segment are added where they belong by the inner backward pass.
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "recomputed parts have first derivatives only");
    const at::AutoGradMode enabled(true);
    const auto capsule = ctx->saved_data["segment"].toCapsule();
    const auto& segment = static_cast<const Segment&>(*capsule);
    variable_list leaves;
    for (const Tensor& input : ctx->get_saved_variables())
      leaves.push_back(input.detach().requires_grad_(input.requires_grad()));
    const variable_list outputs = segment(leaves);
    variable_list differentiable, along;
    for (size_t i = 0; i < outputs.size(); i++) {
      if (!outputs[i].requires_grad()) continue;
      differentiable.push_back(outputs[i]);
      along.push_back(grads[i]);
    }
    torch::autograd::backward(differentiable, along);
    variable_list result;
    for (const Tensor& leaf : leaves) result.push_back(leaf.grad());
    result.emplace_back();
    return result;
  }
};

}  // namespace

extern "C" {

// Takes over `state`, which `release` frees. `outputs` is filled with `expected` tensors that belong to the caller.
bool jmp_recomputed(Run run, Release release, void* state, const void* const* inputs, size_t count, void** outputs,
                    size_t expected) {
  const auto segment = c10::make_intrusive<Segment>(run, release, state, expected);
  return jmp::guarded(
      [&] {
        variable_list in;
        in.reserve(count);
        for (size_t i = 0; i < count; i++) in.push_back(*static_cast<const Tensor*>(inputs[i]));
        const variable_list made = Recomputed::apply(at::TensorList(in), segment);
        for (size_t i = 0; i < expected; i++) outputs[i] = new Tensor(made[i]);
        return true;
      },
      false);
}

}  // extern "C"
