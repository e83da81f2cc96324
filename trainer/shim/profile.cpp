// Counts what libtorch's operations cost: their own time, and the floating-point operations of matrix products.
#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

struct Cost {
  uint64_t calls = 0;
  double seconds = 0.0;
  double flop = 0.0;
};

struct Frame {
  std::string name;
  std::chrono::steady_clock::time_point begin;
  double inside = 0.0;
};

std::mutex guard;
std::map<std::string, Cost> costs;
std::vector<std::pair<std::string, Cost>> listed;
at::CallbackHandle handle = 0;
thread_local std::vector<Frame> stack;

int64_t size(const c10::IValue& value, int64_t dim) {
  const at::Tensor& tensor = value.toTensor();
  return tensor.size(dim < 0 ? tensor.dim() + dim : dim);
}

// Multiplications and additions of the products that libtorch itself runs; everything else counts as none.
double flop_of(const char* name, c10::ArrayRef<const c10::IValue> in) {
  const std::string op = name;
  if (op == "aten::mm" || op == "aten::bmm" || op == "jmp::batched") {
    const double batch = op != "aten::mm" ? static_cast<double>(size(in[0], 0)) : 1.0;
    return 2.0 * batch * size(in[0], -2) * size(in[0], -1) * size(in[1], -1);
  }
  if (op == "aten::addmm" || op == "aten::addmm_" || op == "aten::baddbmm" || op == "aten::baddbmm_") {
    const double batch = in[1].toTensor().dim() == 3 ? static_cast<double>(size(in[1], 0)) : 1.0;
    return 2.0 * batch * size(in[1], -2) * size(in[1], -1) * size(in[2], -1);
  }
  if (op == "aten::mkldnn_convolution") {
    return 2.0 * size(in[0], 0) * size(in[0], 2) * size(in[0], 3) * size(in[1], 0) * size(in[1], 1);
  }
  if (op == "aten::convolution_backward") {
    const auto mask = in[10].toBoolList();
    const double one = 2.0 * size(in[0], 0) * size(in[0], 2) * size(in[0], 3) * size(in[2], 0) * size(in[2], 1);
    return one * (static_cast<int>(mask[0]) + static_cast<int>(mask[1]));
  }
  return 0.0;
}

// Products are told apart by their shapes.
std::string name_of(const at::RecordFunction& function, double flop) {
  std::string name = function.name();
  if (flop == 0.0) return name;
  for (const auto& value : function.inputs()) {
    if (!value.isTensor() || !value.toTensor().defined()) continue;
    name += name.back() == ']' ? " x [" : " [";
    const auto sizes = value.toTensor().sizes();
    for (size_t i = 0; i < sizes.size(); i++) name += (i ? "," : "") + std::to_string(sizes[i]);
    name += "]";
  }
  return name;
}

std::unique_ptr<at::ObserverContext> enter(const at::RecordFunction& function) {
  const double flop = function.inputs().empty() ? 0.0 : flop_of(function.name(), function.inputs());
  const std::string name = name_of(function, flop);
  if (flop > 0.0) {
    const std::lock_guard<std::mutex> lock(guard);
    costs[name].flop += flop;
  }
  stack.push_back({name, std::chrono::steady_clock::now(), 0.0});
  return nullptr;
}

void leave(const at::RecordFunction&, at::ObserverContext*) {
  if (stack.empty()) return;
  const Frame frame = stack.back();
  stack.pop_back();
  const double whole = std::chrono::duration<double>(std::chrono::steady_clock::now() - frame.begin).count();
  if (!stack.empty()) stack.back().inside += whole;
  const std::lock_guard<std::mutex> lock(guard);
  Cost& cost = costs[frame.name];
  cost.calls += 1;
  cost.seconds += whole - frame.inside;
}

}  // namespace

extern "C" {

void jmp_profile_start() {
  const std::lock_guard<std::mutex> lock(guard);
  costs.clear();
  if (handle) at::removeCallback(handle);
  handle = at::addGlobalCallback(at::RecordFunctionCallback(enter, leave).needsInputs(true));
}

// Ends the recording; returns the number of operations that jmp_profile_entry then tells.
size_t jmp_profile_stop() {
  const std::lock_guard<std::mutex> lock(guard);
  if (handle) at::removeCallback(handle);
  handle = 0;
  listed.assign(costs.begin(), costs.end());
  return listed.size();
}

const char* jmp_profile_entry(size_t index, uint64_t* calls, double* seconds, double* flop) {
  const std::lock_guard<std::mutex> lock(guard);
  if (index >= listed.size()) return nullptr;
  const Cost& cost = listed[index].second;
  *calls = cost.calls;
  *seconds = cost.seconds;
  *flop = cost.flop;
  return listed[index].first.c_str();
}

}  // extern "C"
