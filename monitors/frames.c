// What page frames are used for, by the kernel's own descriptions of them, for whoever takes an image of the memory: a hundredth
// of what the descriptions have is sent.
//
// Argument 0 is the first frame, argument 1 how many. What no type of this kernel says, but its VMCOREINFO note, is
// given: argument 2 has, a byte each, 1 + the bit by whose absence free, offline, unaccepted, slab and huge pages are told, 0 for
// none; argument 3 how many orders there are of free pages, and from bit 8 on how huge pages are given back.
#include "grass.h"
#include "grass_frame.h"
#include "records/frames.h"

enum pageflags { PG_lru, PG_head, PG_private, PG_swapcache, PG_swapbacked, PG_hwpoison, PG_slab, PG_hugetlb };

enum pagetype { PGTY_buddy, PGTY_offline, PGTY_unaccepted, PGTY_slab, PGTY_hugetlb, PGTY_table };

KERNEL_STRUCTS

struct page {
  u64 flags, mapping, private, compound_head, compound_info;
  u32 page_type, _mapcount;
  u8 compound_order, compound_dtor;
};

struct folio {
  u64 _flags_1;
  u8 _folio_order, _folio_dtor;
};

END_KERNEL_STRUCTS

extern const char *vmemmap_base;

#define flag(name) (enumerator_exists(enum pageflags, name) ? 1ul << enumerator(enum pageflags, name) : 0)

/// A type by its number in the kernel's enumeration, else by the bit that was given.
#define type_of(name, given) \
  (enumerator_exists(enum pagetype, name) ? numbered(enumerator(enum pagetype, name)) : cleared((u8)(given)))

static struct grass_page_type numbered(u64 number) { return (struct grass_page_type){(u32)number << 24, 0xff000000}; }

static struct grass_page_type cleared(u8 bit) {
  return bit && bit <= 32 ? (struct grass_page_type){~(1u << (bit - 1)), ~0u} : (struct grass_page_type){0, 0};
}

static struct grass_frame_rule rule_of(const struct grass_lane_state *run) {
  u64 given = grass_argument(run, 2), rest = grass_argument(run, 3);
  return (struct grass_frame_rule){
      .lru = flag(PG_lru),
      .head = flag(PG_head),
      .private_data = flag(PG_private),
      .swap_cache = flag(PG_swapcache),
      .swap_backed = flag(PG_swapbacked),
      .poison = flag(PG_hwpoison),
      .slab = enumerator_exists(enum pagetype, PGTY_slab) ? 0 : flag(PG_slab),
      .second_huge = flag(PG_hugetlb),
      .free = type_of(PGTY_buddy, given),
      .offline = type_of(PGTY_offline, given >> 8),
      .unaccepted = type_of(PGTY_unaccepted, given >> 16),
      .slabs = type_of(PGTY_slab, given >> 24),
      .huge = type_of(PGTY_hugetlb, given >> 32),
      .table = type_of(PGTY_table, 0),
      .destructor = (u8)(rest >> 8),
      // A block's order takes five bits of its word.
      .orders = (u8)rest <= 32 ? (u8)rest : 0,
  };
}

/// The description of the page behind this one.
static const struct page *next_page(const struct page *page) {
  return (const struct page *)((const char *)page + type_size(struct page));
}

/// Where the second page of a block says its order: a byte of its own, or from 6.6 on the lowest of its flags.
static u32 order_of(const struct page *page) {
  if (field_exists(struct page, compound_order)) return next_page(page)->compound_order;
  if (field_exists(struct folio, _folio_order)) return ((const struct folio *)page)->_folio_order;
  return (u8)next_page(page)->flags;
}

static u32 destructor_of(const struct page *page) {
  if (field_exists(struct page, compound_dtor)) return next_page(page)->compound_dtor;
  if (field_exists(struct folio, _folio_dtor)) return ((const struct folio *)page)->_folio_dtor;
  return 0;
}

static u32 word_of(const struct grass_frame_rule *rule, u64 frame, const struct page *page) {
  struct grass_frame_marks marks = {
      .flags = page->flags,
      .mapping = page->mapping,
      .own = page->private,
      .compound = field_exists(struct page, compound_head) ? page->compound_head : page->compound_info,
      .type = field_exists(struct page, page_type) ? page->page_type : page->_mapcount,
  };
  if (marks.flags & rule->head) {
    marks.order = order_of(page);
    marks.destructor = destructor_of(page);
    marks.second_flags = next_page(page)->flags;
  }
  return grass_frame_word(rule, frame, &marks);
}

MONITOR(frames) {
  struct grass_frame_rule rule = rule_of(run);
  u64 start = grass_argument(run, 0), end = start + grass_argument(run, 1);
  const char *map = vmemmap_base;
  u64 stride = (u64)grass_lanes(run) * GRASS_FRAMES_A_CHUNK, lead = (u64)grass_lane(run) * GRASS_FRAMES_A_CHUNK;
  for (u64 chunk = start / GRASS_FRAMES_A_CHUNK * GRASS_FRAMES_A_CHUNK + lead; chunk < end; chunk += stride) {
    u32 runs[GRASS_FRAMES_A_CHUNK], count = 0;
    u64 first = chunk < start ? start : chunk;
    // Inside a block of free pages descriptions hold what they held before.
    u64 inner = 0;
    for (u64 frame = first; frame < end && frame < chunk + GRASS_FRAMES_A_CHUNK; frame++) {
      u32 word = word_of(&rule, frame, (const struct page *)(map + frame * type_size(struct page)));
      if (frame < inner) word = GRASS_FRAME_TAIL | (word & GRASS_FRAME_BROKEN);
      else if ((word & GRASS_FRAME_CLASS) == GRASS_FRAME_FREE)
        inner = frame + (1ul << (word >> GRASS_FRAME_ORDER_SHIFT & GRASS_FRAME_ORDER));
      if (count && (u16)runs[count - 1] == word) runs[count - 1] += 1u << 16;
      else runs[count++] = word | 1u << 16;
    }
    struct grass_frames_chunk *record = grass_emit(run, GRASS_FRAMES_CHUNK, sizeof *record + count * sizeof *runs);
    record->first = first;
    record->runs = count;
    u32 *said = (u32 *)(record + 1);
    for (u32 index = 0; index < count; index++) said[index] = runs[index];
  }
}
