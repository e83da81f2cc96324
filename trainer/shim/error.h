// No exception leaves the shim.
#pragma once
#include <c10/util/Exception.h>

#include <string>

namespace jmp {

// Why the last function of this thread failed.
std::string& last_error();

// What `work` returns, or `failed` if it throws.
template <class Work>
auto guarded(Work work, decltype(work()) failed) -> decltype(work()) {
  try {
    return work();
  } catch (const c10::Error& error) {
    last_error() = error.what_without_backtrace();
  } catch (const std::exception& error) {
    last_error() = error.what();
  } catch (...) {
    last_error() = "an unknown C++ exception";
  }
  return failed;
}

}  // namespace jmp
