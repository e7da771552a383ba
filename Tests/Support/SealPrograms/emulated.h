// What mailbox.c has in place of a GPU's instructions: barriers, lanes and the clock of blocks whose threads take turns.
#pragma once

#include <stdint.h>

unsigned emulated_thread(void);
unsigned emulated_block(void);
uint64_t emulated_clock(void);
/// A barrier of the block. Returns whether it is so of any thread.
int emulated_barrier(int is);
void emulated_warp_barrier(void);
int emulated_from_lane(int value, int lane);
/// Lets others go on, in whatever waits for them without a barrier.
void emulated_pause(void);

// What each block has of its own lies in one piece: it is exchanged where another block's turn comes.
#define EMULATED_SHARED static __attribute__((section("emulated_shared"), used, aligned(16)))

#define __nvvm_read_ptx_sreg_tid_x emulated_thread
#define __nvvm_read_ptx_sreg_ctaid_x emulated_block
#define __nvvm_bar0_or(is) emulated_barrier(is)
#define __syncthreads() ((void)emulated_barrier(0))
#define __nvvm_bar_warp_sync(mask) emulated_warp_barrier()
#define __nvvm_shfl_sync_idx_i32(mask, value, lane, clamp) emulated_from_lane(value, lane)
#define __nvvm_membar_sys() __sync_synchronize()
