// Put before every source by the test of constant time.
#pragma once

#include <valgrind/memcheck.h>

#define GRASS_DECLASSIFY(place, count) VALGRIND_MAKE_MEM_DEFINED(place, count)
