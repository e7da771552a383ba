// The printk ring buffer, as monitors read it; LogReader.swift describes it.
#pragma once

#include "kernel.h"

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
  struct { s64 counter; } head_lpos;
};

struct printk_ringbuffer {
  struct prb_desc_ring desc_ring;
  struct prb_data_ring text_data_ring;
};

END_KERNEL_STRUCTS

extern struct printk_ringbuffer *prb;

#define ID_MASK ((1ul << 62) - 1)

/// Whether a descriptor is that of record `id`, and committed or finalized; any other is being written, or is about to be.
static inline bool is_whole(const struct prb_desc *desc, u64 id) {
  u64 state = desc->state_var.counter;
  return (state & ID_MASK) == id && (state >> 62 == 1 || state >> 62 == 2);
}

/// Where a record's text lies, NULL for none; `room` becomes the block's size without its id (get_data in
/// kernel/printk/printk_ringbuffer.c).
static inline const char *text_of(const struct prb_data_ring *ring, const struct prb_desc *desc, u64 id, u64 *room) {
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
