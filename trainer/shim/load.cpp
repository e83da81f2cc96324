// Shared objects that are there on some machines only.
#include <dlfcn.h>

#include "error.h"

extern "C" {

// Loads a shared object for the whole program; its function `symbol`, or the object itself where that is null.
void* jmp_load(const char* path, const char* symbol) {
  return jmp::guarded(
      [&]() -> void* {
        void* object = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
        TORCH_CHECK(object, dlerror());
        if (!symbol) return object;
        void* function = dlsym(object, symbol);
        TORCH_CHECK(function, dlerror());
        return function;
      },
      nullptr);
}

}  // extern "C"
