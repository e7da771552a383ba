// A Swift monitor's window to the kernel: a header beside it with functions that it calls. For clang, which knows how to
// follow the watched kernel's fields and variables by name, each is a function; for Swift, its declaration.
#pragma once
#include "../grass.h"

#ifdef __swift__
#define KERNEL(function, value) function;
#else
#include "../kernel.h"
#define KERNEL(function, value) \
  function { return value; }
#endif
