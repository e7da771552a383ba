// Never ends by itself: its step budget ends it.
#include "../../monitors/kernel.h"

MONITOR(loop) {
  u64 seen = 0;
  for (u64 index = 0; index < ~0ul; index++) seen += init_task.flags;
  *(u64 *)grass_emit(run, 1, 8) = seen;
}
