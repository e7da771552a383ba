// What every monitor includes. A monitor is C as the kernel's own is written: declare the fields of kernel structs that
// you use (kernel.h has many), declare kernel variables as extern, and follow pointers. LLView puts each field where the
// watched kernel has it, translates every load, counts every loop and refuses stores to the kernel.
//
// A whole kernel struct cannot be a local variable, and sizeof of one is its declaration's: use type_size.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long s64;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

struct grass_lane_state;

/// The one function of a file that is run: MONITOR(name) { … } with `run` at hand.
#define MONITOR(name)                      \
  void name(struct grass_lane_state *run);        \
  __attribute__((section("grass/monitor"))) \
  void name(struct grass_lane_state *run)

/// Room for a record of a kind from 1 on, zeroed. Where there is none the run ends, so the result needs no check.
void *grass_emit(struct grass_lane_state *run, u32 kind, u32 size);
/// Which of the run's lanes this is, and how many there are: they divide the work among them.
///
/// A GPU has thousands, far from the memory, and a word that many of them load costs many waits, one after the other. So
/// what is found once is passed on: a lane leaves items for the next stage, and when all lanes of this one have ended,
/// the monitor is called again with 64 lanes for each item. It runs in up to 16 stages, the first of them 0.
u32 grass_lane(const struct grass_lane_state *run);
u32 grass_lanes(const struct grass_lane_state *run);
u32 grass_stage(const struct grass_lane_state *run);
/// Leaves an item of two words for the next stage.
void grass_next(struct grass_lane_state *run, u64 first, u64 second);
/// A word of the item that this lane shares.
u64 grass_item(const struct grass_lane_state *run, u32 index);
/// One of the four numbers that whoever asked for the run gave; 0 where none was given.
u64 grass_argument(const struct grass_lane_state *run, u32 index);

/// A word that a detector remembered in an earlier run, 0 for one that it never did. A run that was asked for remembers
/// nothing, so a monitor that relies on it is of use only as a detector.
u64 grass_recall(const struct grass_lane_state *run, u64 index);
/// Remembers one of 4,096 words for later runs; they are lost when monitors are loaded anew.
void grass_remember(struct grass_lane_state *run, u64 index, u64 value);
/// Counts such a word up, also where many lanes do so at once. Returns what it was.
u64 grass_count(struct grass_lane_state *run, u64 index);

/// The physical memory: the start of one of its pieces, which ascend, and its size, 0 after the last one.
u64 grass_memory_start(const struct grass_lane_state *run, u32 index);
u64 grass_memory_size(const struct grass_lane_state *run, u32 index);
/// Where the kernel has a physical address mapped.
const void *grass_physical(struct grass_lane_state *run, u64 address);

/// Makes declarations of structs between KERNEL_STRUCTS and END_KERNEL_STRUCTS those of the kernel.
#define KERNEL_STRUCTS _Pragma("clang attribute push(__attribute__((preserve_access_index)), apply_to = record)")
#define END_KERNEL_STRUCTS _Pragma("clang attribute pop")

/// Whether the kernel's struct has the field; code that such a question excludes may use what is not there.
/// A struct called name___anything declares another form of the struct called name.
#define field_exists(type, field) __builtin_preserve_field_info(((type *)0)->field, 2)
#define field_offset(type, field) __builtin_preserve_field_info(((type *)0)->field, 0)
#define field_size(type, field) __builtin_preserve_field_info(((type *)0)->field, 1)
#define type_exists(type) __builtin_preserve_type_info(*(type *)0, 0)
#define type_size(type) __builtin_preserve_type_info(*(type *)0, 1)

/// The value that the kernel gives an enumerator, and whether it has it. Values of a declaration do not matter.
#define enumerator(type, name) __builtin_preserve_enum_value(*(type *)name, 1)
#define enumerator_exists(type, name) __builtin_preserve_enum_value(*(type *)name, 0)

#define container_of(pointer, type, member) ((type *)((char *)(pointer) - field_offset(type, member)))
/// A per-CPU variable of one processor.
#define per_cpu(variable, cpu) ((__typeof__(&(variable)))((char *)&(variable) + __per_cpu_offset[cpu]))
extern u64 __per_cpu_offset[];
