// Chooses the loops for the processor that runs.
#include "kernels.h"

namespace jmp {

extern const Kernels portable;
#ifdef JMP_X86
extern const Kernels avx2;
extern const Kernels avx512;
#endif

const Kernels& kernels() {
#ifdef JMP_X86
  static const Kernels& chosen = [] () -> const Kernels& {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
      return avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2;
    return portable;
  }();
  return chosen;
#else
  return portable;
#endif
}

}  // namespace jmp
