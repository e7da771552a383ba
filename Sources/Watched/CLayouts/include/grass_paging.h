// How page tables are laid out, and the walk through them: once, for the programs of devices, which include it, and for
// Swift, which imports it. Freestanding.
//
// A format is a number that requests carry and a `grass_page_layout` that says what it means. The layout goes through
// the functions below by value: where it is a constant, the compiler folds it away, and what is left is the walk for that
// one format.
//
// The tables are the watched host's, and may be made to hurt. A walk takes as many steps as there are levels, whatever
// they hold, and loads each entry once. An entry lies at a multiple of its size: low bits of a root, which processors use
// for other things, do not count.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "grass_fault.h"

/// A format of page tables. The numbers are part of the protocol: none ever gets another meaning.
enum grass_page_format {
  GRASS_PAGES_NONE = 0,  // There are none: all addresses are physical.
  // x86-64, by its levels: 48 or 57 bits of virtual address.
  GRASS_PAGES_X86_64_4 = 1,
  GRASS_PAGES_X86_64_5 = 2,
  // arm64, by its granule and the bits of a virtual address in each of its two halves. Those of 52 bits with granules of
  // 4 and 16 KiB are FEAT_LPA2's.
  GRASS_PAGES_ARM64_4K_39 = 16,
  GRASS_PAGES_ARM64_4K_48 = 17,
  GRASS_PAGES_ARM64_4K_52 = 18,
  GRASS_PAGES_ARM64_16K_36 = 19,
  GRASS_PAGES_ARM64_16K_47 = 20,
  GRASS_PAGES_ARM64_16K_48 = 21,
  GRASS_PAGES_ARM64_16K_52 = 22,
  GRASS_PAGES_ARM64_64K_42 = 23,
  GRASS_PAGES_ARM64_64K_48 = 24,
  GRASS_PAGES_ARM64_64K_52 = 25,
};

/// Bytes of an entry, in every format.
#define GRASS_PAGE_ENTRY 8u

/// What a format means. Levels count from 1, whose entries are pages, to the root's.
struct grass_page_layout {
  uint8_t levels;  // 0 where there is no such format.
  uint8_t page_bits;   // Address bits within the smallest page.
  uint8_t index_bits;  // Address bits that select an entry of a table.
  uint8_t root_bits;   // The same of the root, which may be a smaller table.
  uint8_t roots;       // 2 where the highest address bit chooses between two, else 1.
  uint8_t largest_level;  // The highest level at which a large page may stand.
  // An entry is in use, is a large page (above level 1), is a page (at level 1), where these of its bits are as said.
  uint64_t present_mask, present;
  uint64_t large_mask, large;
  uint64_t page_mask, page;
  uint64_t address_mask;  // Address bits that stand in their own places.
  uint64_t high_mask;     // The highest address bits, where these stand elsewhere,
  uint8_t high_shift;     // and how far below.
};

/// Of x86-64. Source: Intel SDM volume 3, 4.5; the kernel's arch/x86/include/asm/pgtable_types.h.
static inline struct grass_page_layout grass_page_layout_x86_64(unsigned levels) {
  return (struct grass_page_layout){
      .levels = (uint8_t)levels,
      .page_bits = 12,
      .index_bits = 9,
      .root_bits = 9,
      .roots = 1,
      .largest_level = 3,
      .present_mask = 1,
      .present = 1,
      .large_mask = 1 << 7,
      .large = 1 << 7,
      .address_mask = 0x000ffffffffff000ull,
  };
}

/// The levels of a format of x86-64's, 0 of any other: for devices that walk no others.
static inline unsigned grass_page_levels_x86_64(uint64_t format) {
  return format == GRASS_PAGES_X86_64_4 ? 4 : format == GRASS_PAGES_X86_64_5 ? 5 : 0;
}

/// Of arm64: a granule of 2^`page_bits` bytes, and `bits` of virtual address in each half. A table's descriptor and a
/// page's have bit 1 set, a block's has it clear. `largest` is the highest level with blocks.
///
/// Source: Arm ARM D8.3; the kernel's arch/arm64/include/asm/pgtable-hwdef.h.
static inline struct grass_page_layout grass_page_layout_arm64(
    unsigned page_bits, unsigned bits, unsigned largest, uint64_t address_end, uint64_t high_mask, unsigned high_shift) {
  unsigned index_bits = page_bits - 3, levels = (bits - page_bits + index_bits - 1) / index_bits;
  return (struct grass_page_layout){
      .levels = (uint8_t)levels,
      .page_bits = (uint8_t)page_bits,
      .index_bits = (uint8_t)index_bits,
      .root_bits = (uint8_t)(bits - page_bits - (levels - 1) * index_bits),
      .roots = 2,
      .largest_level = (uint8_t)largest,
      .present_mask = 1,
      .present = 1,
      .large_mask = 2,
      .large = 0,
      .page_mask = 2,
      .page = 2,
      .address_mask = address_end - (1ull << page_bits),
      .high_mask = high_mask,
      .high_shift = (uint8_t)high_shift,
  };
}

/// What a number that came from anywhere means; no levels where it means nothing.
static inline struct grass_page_layout grass_page_layout_of(uint32_t format) {
  switch (format) {
  case GRASS_PAGES_X86_64_4: return grass_page_layout_x86_64(4);
  case GRASS_PAGES_X86_64_5: return grass_page_layout_x86_64(5);
  case GRASS_PAGES_ARM64_4K_39: return grass_page_layout_arm64(12, 39, 3, 1ull << 48, 0, 0);
  case GRASS_PAGES_ARM64_4K_48: return grass_page_layout_arm64(12, 48, 3, 1ull << 48, 0, 0);
  case GRASS_PAGES_ARM64_4K_52: return grass_page_layout_arm64(12, 52, 4, 1ull << 50, 0x300, 42);
  case GRASS_PAGES_ARM64_16K_36: return grass_page_layout_arm64(14, 36, 2, 1ull << 48, 0, 0);
  case GRASS_PAGES_ARM64_16K_47: return grass_page_layout_arm64(14, 47, 2, 1ull << 48, 0, 0);
  case GRASS_PAGES_ARM64_16K_48: return grass_page_layout_arm64(14, 48, 2, 1ull << 48, 0, 0);
  case GRASS_PAGES_ARM64_16K_52: return grass_page_layout_arm64(14, 52, 3, 1ull << 50, 0x300, 42);
  case GRASS_PAGES_ARM64_64K_42: return grass_page_layout_arm64(16, 42, 2, 1ull << 48, 0xf000, 36);
  case GRASS_PAGES_ARM64_64K_48: return grass_page_layout_arm64(16, 48, 2, 1ull << 48, 0xf000, 36);
  case GRASS_PAGES_ARM64_64K_52: return grass_page_layout_arm64(16, 52, 3, 1ull << 48, 0xf000, 36);
  default: return (struct grass_page_layout){0};
  }
}

/// Bits of virtual address that one root translates.
static inline unsigned grass_page_virtual_bits(struct grass_page_layout layout) {
  return layout.page_bits + (layout.levels - 1u) * layout.index_bits + layout.root_bits;
}

/// Whether all bits above the translated ones equal the highest of these or, where there are two roots, each other.
static inline bool grass_page_is_canonical(struct grass_page_layout layout, uint64_t address) {
  unsigned unused = 64 - grass_page_virtual_bits(layout) - (layout.roots - 1u);
  return (uint64_t)((int64_t)(address << unused) >> unused) == address;
}

/// Whether an address is for the second root, the kernel's, of a format that has two.
static inline bool grass_page_is_upper(struct grass_page_layout layout, uint64_t address) {
  return layout.roots > 1 && address >> 63;
}

/// How many low address bits a table of that level leaves untranslated.
static inline unsigned grass_page_shift(struct grass_page_layout layout, unsigned level) {
  return layout.page_bits + (level - 1) * layout.index_bits;
}

/// The index, within a table of that level, of the entry for an address.
static inline uint64_t grass_page_index(struct grass_page_layout layout, uint64_t address, unsigned level) {
  unsigned bits = level == layout.levels ? layout.root_bits : layout.index_bits;
  return address >> grass_page_shift(layout, level) & ((1u << bits) - 1);
}

/// The physical address of the entry for an address in the table at `table`.
static inline uint64_t grass_page_entry_place(
    struct grass_page_layout layout, uint64_t table, uint64_t address, unsigned level) {
  return (table + grass_page_index(layout, address, level) * GRASS_PAGE_ENTRY) & ~(uint64_t)(GRASS_PAGE_ENTRY - 1);
}

/// What an entry is.
enum grass_page_entry_kind {
  GRASS_PAGE_NOT_PRESENT,
  GRASS_PAGE_IMPOSSIBLE,
  GRASS_PAGE_TABLE,
  GRASS_PAGE_PAGE,
};

static inline enum grass_page_entry_kind grass_page_entry_kind(
    struct grass_page_layout layout, uint64_t entry, unsigned level) {
  if ((entry & layout.present_mask) != layout.present) return GRASS_PAGE_NOT_PRESENT;
  if (level == 1) return (entry & layout.page_mask) == layout.page ? GRASS_PAGE_PAGE : GRASS_PAGE_IMPOSSIBLE;
  if ((entry & layout.large_mask) != layout.large) return GRASS_PAGE_TABLE;
  return level <= layout.largest_level ? GRASS_PAGE_PAGE : GRASS_PAGE_IMPOSSIBLE;
}

/// The physical address of the table that an entry names, or, of a page's, that of the page.
static inline uint64_t grass_page_entry_target(
    struct grass_page_layout layout, uint64_t entry, unsigned level, enum grass_page_entry_kind kind) {
  uint64_t target = (entry & layout.address_mask) | (entry & layout.high_mask) << layout.high_shift;
  // In a large page's entry some of the address bits mean other things: on x86-64 the lowest is the PAT bit.
  return kind == GRASS_PAGE_PAGE ? target & ~((1ull << grass_page_shift(layout, level)) - 1) : target;
}

/// Where a walk ended.
struct grass_page_walk {
  uint64_t physical;   // Where the address lies, and how many bytes of its page there are from there on,
  uint64_t remaining;  // where it is mapped.
  uint64_t entry;      // The last entry; where that was not to be had, the table it would have been in.
  uint32_t level;      // The level of that table; 0 where no table was looked at.
};

/// Loads the entry at a physical address that is a multiple of 8. Returns false where that is not in the memory.
typedef bool (*grass_page_load)(void *context, uint64_t place, uint64_t *entry);

/// Walks the page tables below `root` for one address. Returns GRASS_FAULT_NONE, or why it is not mapped.
///
/// `load` is to be the name of a function: it becomes part of the walk.
__attribute__((always_inline)) static inline enum grass_fault grass_page_walk(
    struct grass_page_layout layout, uint64_t root, uint64_t address, grass_page_load load, void *context,
    struct grass_page_walk *walk) {
  *walk = (struct grass_page_walk){0};
  if (!grass_page_is_canonical(layout, address)) return GRASS_FAULT_NOT_CANONICAL;
  uint64_t table = root;
  for (unsigned level = layout.levels; level >= 1; level--) {
    uint64_t entry;
    walk->level = level;
    walk->entry = table;
    if (!load(context, grass_page_entry_place(layout, table, address, level), &entry)) return GRASS_FAULT_BAD_ENTRY;
    walk->entry = entry;
    enum grass_page_entry_kind kind = grass_page_entry_kind(layout, entry, level);
    if (kind == GRASS_PAGE_NOT_PRESENT) return GRASS_FAULT_NOT_PRESENT;
    if (kind == GRASS_PAGE_IMPOSSIBLE) return GRASS_FAULT_BAD_ENTRY;
    uint64_t target = grass_page_entry_target(layout, entry, level, kind);
    if (kind == GRASS_PAGE_PAGE) {
      uint64_t size = 1ull << grass_page_shift(layout, level), offset = address & (size - 1);
      walk->physical = target | offset;
      walk->remaining = size - offset;
      return GRASS_FAULT_NONE;
    }
    table = target;
  }
  return GRASS_FAULT_BAD_ENTRY;
}
