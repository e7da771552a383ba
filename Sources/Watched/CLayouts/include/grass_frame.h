// What a page frame is used for, told from the kernel's description of it, its struct page: once, for the monitor `frames` and
// for Swift. Freestanding.
//
// The rules are those by which makedumpfile leaves pages out. Types of pages lie in the field of mappings' counts: each a bit that
// is cleared, so that a page of one type has one value, and from 6.12 on a number in the uppermost byte.
// Source: include/linux/page-flags.h, include/linux/mm_types.h, kernel/vmcore_info.c; makedumpfile, `__exclude_unnecessary_pages`.
#pragma once

#include <stdint.h>

/// The numbers stand in images: none ever gets another meaning. Swift's FrameClass says what each is.
enum grass_frame_class {
  GRASS_FRAME_UNKNOWN = 0,
  GRASS_FRAME_KERNEL = 1,
  GRASS_FRAME_FREE = 2,
  GRASS_FRAME_CACHE = 3,
  GRASS_FRAME_PRIVATE_CACHE = 4,
  GRASS_FRAME_USER = 5,
  GRASS_FRAME_SLAB = 6,
  GRASS_FRAME_PAGE_TABLE = 7,
  GRASS_FRAME_OFFLINE = 8,
  GRASS_FRAME_POISONED = 9,
};

/// A type of pages: what the field of types holds in the bits of `mask`, which is 0 where the kernel has no such type.
struct grass_page_type {
  uint32_t value, mask;
};

/// How a kernel marks its pages. Bits of flags that it does not have are 0.
struct grass_frame_rule {
  uint64_t lru, head, private_data, swap_cache, swap_backed, poison;
  uint64_t slab;         // Where slabs have a flag and no type.
  uint64_t second_huge;  // Of the second page's flags: a huge page of processes.
  struct grass_page_type free, offline, unaccepted, slabs, table, huge;
  uint32_t destructor;  // How huge pages are given back, as the second page says; 0 where it does not.
  uint32_t orders;      // The order that no block of free pages reaches.
};

/// What one page's description holds of these; the last three lie in the second page's, and count where the flags have `head`.
struct grass_frame_marks {
  uint64_t flags, mapping, own, compound;
  uint32_t type;
  uint32_t order, destructor;
  uint64_t second_flags;
};

/// What a description says, as a word: in the lowest bits the class of the block of frames that it is the first of.
enum grass_frame_bits {
  GRASS_FRAME_CLASS = 0xf,
  GRASS_FRAME_ORDER_SHIFT = 4,  // Five bits: the block has 1 << order frames.
  GRASS_FRAME_ORDER = 0x1f,
  GRASS_FRAME_HAS_TAILS = 1 << 9,  // The block's other frames each say that they are not the first: it ends before one that does not.
  GRASS_FRAME_TAIL = 1 << 10,      // It is not the first of its block.
  GRASS_FRAME_BROKEN = 1 << 11,    // The frame is broken, whatever its block is.
};

/// The lowest bit of a mapping: the page is of no file. Source: include/linux/page-flags.h, PAGE_MAPPING_ANON; no table of the kernel
/// has it.
#define GRASS_MAPPING_ANONYMOUS 1u

static inline int grass_is_page_type(struct grass_page_type type, uint32_t word) {
  return type.mask != 0 && (word & type.mask) == type.value;
}

/// What the description of `frame` says.
static inline uint32_t grass_frame_word(
    const struct grass_frame_rule *rule, uint64_t frame, const struct grass_frame_marks *marks) {
  uint64_t flags = marks->flags;
  uint32_t broken = flags & rule->poison ? GRASS_FRAME_BROKEN : 0, order = 0, is_huge = 0;
  // Its first page was not seen, or is looked at by itself.
  if (marks->compound & 1) return broken | GRASS_FRAME_TAIL | GRASS_FRAME_KERNEL;
  if (grass_is_page_type(rule->free, marks->type) && !(flags & rule->slab)) {
    if (marks->own >= rule->orders || (frame & ((1ull << marks->own) - 1))) return broken | GRASS_FRAME_KERNEL;
    return broken | GRASS_FRAME_FREE | (uint32_t)marks->own << GRASS_FRAME_ORDER_SHIFT;
  }
  uint32_t largest = rule->orders ? rule->orders - 1 : 0;
  if (grass_is_page_type(rule->unaccepted, marks->type) && !(frame & ((1ull << largest) - 1)))
    return broken | GRASS_FRAME_FREE | largest << GRASS_FRAME_ORDER_SHIFT;
  if (flags & rule->head) {
    if (marks->order < 32 && !(frame & ((1ull << marks->order) - 1))) order = marks->order;
    if (rule->huge.mask) is_huge = grass_is_page_type(rule->huge, marks->type);
    else if (rule->destructor) is_huge = marks->destructor == rule->destructor;
    else is_huge = (marks->second_flags & rule->second_huge) != 0;
  }
  // Of huge pages, whose descriptions the kernel may spare, what is read for the later ones is that of the first.
  uint32_t block = broken | order << GRASS_FRAME_ORDER_SHIFT | (is_huge ? 0u : (uint32_t)GRASS_FRAME_HAS_TAILS);
  // Of a huge page only the first says that one is broken, not which.
  if (broken && flags & rule->head) return block | GRASS_FRAME_POISONED;
  int is_slab = rule->slabs.mask ? grass_is_page_type(rule->slabs, marks->type) : (flags & rule->slab) != 0;
  int is_anonymous = !is_slab && marks->mapping & GRASS_MAPPING_ANONYMOUS;
  int is_swapped = flags & rule->swap_cache && (!rule->swap_backed || flags & rule->swap_backed);
  if ((flags & rule->lru || is_swapped) && !is_anonymous)
    return block | (flags & rule->private_data ? GRASS_FRAME_PRIVATE_CACHE : GRASS_FRAME_CACHE);
  if (is_anonymous || is_huge) return block | GRASS_FRAME_USER;
  if (grass_is_page_type(rule->offline, marks->type)) return block | GRASS_FRAME_OFFLINE;
  if (is_slab) return block | GRASS_FRAME_SLAB;
  if (grass_is_page_type(rule->table, marks->type)) return block | GRASS_FRAME_PAGE_TABLE;
  return block | GRASS_FRAME_KERNEL;
}
