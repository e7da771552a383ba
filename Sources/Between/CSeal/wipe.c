#include "grass_wipe.h"

__attribute__((noinline)) void grass_wipe(void *place, uint64_t count) {
  volatile uint8_t *byte = place;
  for (; count > 0 && ((uintptr_t)byte & 7); count--) *byte++ = 0;
  for (; count >= 8; count -= 8, byte += 8) *(volatile uint64_t *)(volatile void *)byte = 0;
  for (; count > 0; count--) *byte++ = 0;
}
