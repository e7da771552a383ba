// Whether the host died, and the last it said: the newest records of the printk ring buffer, newest first.
// Lane 0 looks at the state; each lane takes every lanes-th log record. The ring is described in LogReader.swift.
#include "log.h"
#include "records/panic.h"

extern s32 panic_cpu, oops_in_progress;
extern u64 tainted_mask;

MONITOR(panic) {
  if (grass_lane(run) == 0) {
    struct grass_panic_state *state = grass_emit(run, GRASS_PANIC_STATE, sizeof *state);
    state->panic_cpu = panic_cpu;
    state->oops_in_progress = oops_in_progress;
    state->tainted = tainted_mask;
  }
  const struct prb_desc_ring *ring = &prb->desc_ring;
  u64 bits = ring->count_bits, head = ring->head_id.counter, tail = ring->tail_id.counter;
  if (bits > 24) return;
  u64 mask = (1ul << bits) - 1, used = ((head - tail) & ID_MASK) + 1;
  if (used > mask + 1) used = mask + 1;
  if (used > GRASS_PANIC_LINES) used = GRASS_PANIC_LINES;
  for (u64 age = grass_lane(run); age < used; age += grass_lanes(run)) {
    u64 id = (head - age) & ID_MASK;
    const struct prb_desc *desc = ring->descs + (id & mask);
    if (!is_whole(desc, id)) continue;
    u64 room = 0;
    const char *text = text_of(&prb->text_data_ring, desc, id, &room);
    const struct printk_info *info = ring->infos + (id & mask);
    u64 length = info->text_len;
    if (length > room) length = room;
    if (length > GRASS_PANIC_TEXT) length = GRASS_PANIC_TEXT;
    if (!text) length = 0;
    struct grass_panic_line *line = grass_emit(run, GRASS_PANIC_LINE, sizeof *line + length);
    line->sequence = info->seq;
    line->time = info->ts_nsec;
    line->caller = info->caller_id;
    line->level = info->level;
    line->facility = info->facility;
    line->length = length;
    __builtin_memcpy(line + 1, text, length);
  }
}
