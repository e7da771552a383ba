// What search.c emits.
#pragma once

#include <stdint.h>

enum grass_search_kind { GRASS_SEARCH_WORD = 1 };

struct grass_search_word {
  uint64_t address;  // Physical.
  uint64_t value;
};
_Static_assert(sizeof(struct grass_search_word) == 16, "one form for all who write and read it");
