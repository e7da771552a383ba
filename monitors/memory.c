// The main lines of /proc/meminfo (fs/proc/meminfo.c; si_mem_available in mm/show_mem.c), by lane 0.
#include "kernel.h"
#include "records/memory.h"

enum zone_stat_item { NR_FREE_PAGES, NR_MLOCK };

enum node_stat_item {
  NR_ACTIVE_ANON, NR_INACTIVE_ANON, NR_ACTIVE_FILE, NR_INACTIVE_FILE, NR_UNEVICTABLE, NR_FILE_PAGES, NR_SWAPCACHE,
  NR_FILE_DIRTY, NR_WRITEBACK, NR_ANON_MAPPED, NR_FILE_MAPPED, NR_SHMEM, NR_SLAB_RECLAIMABLE_B,
  NR_SLAB_UNRECLAIMABLE_B, NR_KERNEL_MISC_RECLAIMABLE, NR_KERNEL_STACK_KB, NR_PAGETABLE,
};

enum zone_stat_item___before_5_11 { NR_PAGETABLE___before_5_11 };

enum zone_watermarks { WMARK_LOW };

KERNEL_STRUCTS

struct zone {
  u64 _watermark[4];
  u64 watermark_boost;
};

struct pglist_data {
  struct zone node_zones[1];
};

struct address_space {
  u64 nrpages;
};

struct inode {
  struct list_head i_sb_list;
  struct address_space *i_mapping;
};

struct super_block {
  struct list_head s_inodes;
};

END_KERNEL_STRUCTS

// Counters of the kernel's type atomic_long_t.
extern s64 vm_zone_stat[], vm_node_stat[], _totalram_pages;
extern s64 total_swap_pages __attribute__((weak)), nr_swap_pages __attribute__((weak));
extern s64 totalreserve_pages __attribute__((weak));
extern struct pglist_data *node_data[] __attribute__((weak));
extern struct pglist_data contig_page_data __attribute__((weak));
extern struct super_block *blockdev_superblock __attribute__((weak));

/// Counters are folded in from each CPU's share, so a small one may read below zero for a moment.
static u64 positive(s64 value) { return value < 0 ? 0 : value; }

#define zone_pages(item) positive(vm_zone_stat[enumerator(enum zone_stat_item, item)])
#define node_pages(item) \
  (enumerator_exists(enum node_stat_item, item) ? positive(vm_node_stat[enumerator(enum node_stat_item, item)]) : 0)

/// The watermarks below which a node's zones start to reclaim, in pages.
static u64 low_watermark(const struct pglist_data *node) {
  u64 count = field_size(struct pglist_data, node_zones) / type_size(struct zone), sum = 0;
  const struct zone *zone = node->node_zones;
  for (u64 index = 0; index < count && index < 8; index++, zone++) {
    sum += zone->_watermark[enumerator(enum zone_watermarks, WMARK_LOW)];
    if (field_exists(struct zone, watermark_boost)) sum += zone->watermark_boost;
  }
  return sum;
}

/// The pages that cache block devices: the kernel, too, counts them by walking the list of those devices.
static u64 buffers(void) {
  if (!&blockdev_superblock) return 0;
  const struct list_head *head = &blockdev_superblock->s_inodes;
  u64 pages = 0;
  for (const struct list_head *link = head->next; link != head; link = link->next)
    pages += container_of(link, struct inode, i_sb_list)->i_mapping->nrpages;
  return pages;
}

static u64 least(u64 a, u64 b) { return a < b ? a : b; }

MONITOR(memory) {
  if (grass_lane(run) != 0) return;
  u64 watermark = 0;
  if (&contig_page_data) watermark = low_watermark(&contig_page_data);
  if (node_data)
    for (u32 node = 0; node < 64 && (s64)node_data[node] < 0; node++) watermark += low_watermark(node_data[node]);

  u64 free = zone_pages(NR_FREE_PAGES);
  u64 slab = node_pages(NR_SLAB_RECLAIMABLE_B), fixed_slab = node_pages(NR_SLAB_UNRECLAIMABLE_B);
  u64 reclaimable = slab + node_pages(NR_KERNEL_MISC_RECLAIMABLE);
  u64 active_file = node_pages(NR_ACTIVE_FILE), inactive_file = node_pages(NR_INACTIVE_FILE);
  u64 active_anon = node_pages(NR_ACTIVE_ANON), inactive_anon = node_pages(NR_INACTIVE_ANON);
  u64 swap_cache = node_pages(NR_SWAPCACHE), cache = active_file + inactive_file;
  s64 available = free - (&totalreserve_pages ? positive(totalreserve_pages) : 0);
  available += cache - least(cache / 2, watermark);
  available += reclaimable - least(reclaimable / 2, watermark);

  struct grass_memory_usage *memory = grass_emit(run, GRASS_MEMORY_USAGE, sizeof *memory);
  memory->total = positive(_totalram_pages) << 12;
  memory->free = free << 12;
  memory->available = positive(available) << 12;
  memory->swap_cached = swap_cache << 12;
  memory->active = (active_anon + active_file) << 12;
  memory->inactive = (inactive_anon + inactive_file) << 12;
  memory->active_anon = active_anon << 12;
  memory->inactive_anon = inactive_anon << 12;
  memory->active_file = active_file << 12;
  memory->inactive_file = inactive_file << 12;
  memory->unevictable = node_pages(NR_UNEVICTABLE) << 12;
  memory->mlocked = zone_pages(NR_MLOCK) << 12;
  if (&total_swap_pages) memory->swap_total = positive(total_swap_pages) << 12;
  if (&nr_swap_pages) memory->swap_free = positive(nr_swap_pages) << 12;
  memory->dirty = node_pages(NR_FILE_DIRTY) << 12;
  memory->writeback = node_pages(NR_WRITEBACK) << 12;
  memory->anon = node_pages(NR_ANON_MAPPED) << 12;
  memory->mapped = node_pages(NR_FILE_MAPPED) << 12;
  memory->shmem = node_pages(NR_SHMEM) << 12;
  memory->kernel_reclaimable = reclaimable << 12;
  memory->slab = (slab + fixed_slab) << 12;
  memory->slab_reclaimable = slab << 12;
  memory->slab_unreclaimable = fixed_slab << 12;
  memory->kernel_stack = node_pages(NR_KERNEL_STACK_KB) << 10;
  u64 tables = node_pages(NR_PAGETABLE);
  if (enumerator_exists(enum zone_stat_item___before_5_11, NR_PAGETABLE___before_5_11))
    tables = positive(vm_zone_stat[enumerator(enum zone_stat_item___before_5_11, NR_PAGETABLE___before_5_11)]);
  memory->page_tables = tables << 12;
  // Last, since the list may lead astray: what is above stands then.
  u64 cached_blocks = buffers();
  memory->buffers = cached_blocks << 12;
  memory->cached = positive(node_pages(NR_FILE_PAGES) - swap_cache - cached_blocks) << 12;
}
