#include "grass_records.h"

// A record's size is a multiple of 8: so is each one's room in what a run gives.
_Static_assert(sizeof(struct grass_cpu_times) % 8 == 0 && sizeof(struct grass_life_cpu) % 8 == 0, "");
_Static_assert(sizeof(struct grass_ps_task) % 8 == 0 && sizeof(struct grass_panic_line) % 8 == 0, "");
