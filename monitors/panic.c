// Whether the host died, and the last it said: the newest records of the printk ring buffer, newest first.
// Lane 0 looks at the state; each lane takes every lanes-th log record. The ring is described in LogReader.swift.
#include "kernel.h"
#include "records/panic.h"

KERNEL_STRUCTS

struct prb_data_blk_lpos {
  u64 begin, next;
};

struct prb_desc {
  struct { s64 counter; } state_var;
  struct prb_data_blk_lpos text_blk_lpos;
};

struct printk_info {
  u64 seq, ts_nsec;
  u16 text_len;
  u8 facility;
  u8 flags : 5;
  u8 level : 3;
  u32 caller_id;
};

struct prb_desc_ring {
  u32 count_bits;
  struct prb_desc *descs;
  struct printk_info *infos;
  struct { s64 counter; } head_id, tail_id;
};

struct prb_data_ring {
  u32 size_bits;
  char *data;
};

struct printk_ringbuffer {
  struct prb_desc_ring desc_ring;
  struct prb_data_ring text_data_ring;
};

END_KERNEL_STRUCTS

extern s32 panic_cpu, oops_in_progress;
extern u64 tainted_mask;
extern struct printk_ringbuffer *prb;

#define ID_MASK ((1ul << 62) - 1)

/// Where a record's text lies, NULL for none; `room` becomes the block's size without its id (get_data in
/// kernel/printk/printk_ringbuffer.c).
static const char *text_of(const struct prb_data_ring *ring, const struct prb_desc *desc, u64 id, u64 *room) {
  u64 begin = desc->text_blk_lpos.begin, next = desc->text_blk_lpos.next;
  u64 bits = ring->size_bits, mask;
  if (bits > 31 || (begin & 1)) return NULL;
  mask = (1ul << bits) - 1;
  u64 offset = begin & mask;
  if (begin >> bits == next >> bits) *room = next - begin;
  else if ((begin >> bits) + 1 != next >> bits) return NULL;
  else if (next & mask) *room = next & mask, offset = 0;  // It would cross the ring's end.
  else *room = mask + 1 - offset;
  if (*room < 8 || *room > mask + 1) return NULL;
  *room -= 8;
  const char *block = ring->data + offset;
  return (*(const u64 *)block & ID_MASK) == id ? block + 8 : NULL;
}

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
    u64 state = desc->state_var.counter;
    // Committed or finalized; any other is being written, or is about to be.
    if ((state & ID_MASK) != id || (state >> 62 != 1 && state >> 62 != 2)) continue;
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
