// Why bytes of the watched memory could not be had, or a monitor's lane ended early: one set of numbers for the programs
// of devices, for answers to remote hosts, and for Swift.
#pragma once

/// The numbers are part of the protocol: none ever gets another meaning.
enum grass_fault {
  GRASS_FAULT_NONE = 0,
  // Of memory that is read.
  GRASS_FAULT_ABSENT = 1,  // No segment holds the physical address.
  GRASS_FAULT_NOT_CANONICAL = 2,
  GRASS_FAULT_NOT_PRESENT = 3,  // A page-table entry on the way is not in use.
  GRASS_FAULT_BAD_ENTRY = 4,    // One cannot be, or leads out of the memory.
  GRASS_FAULT_LOST = 5,         // The owner of the memory lost it.
  // Of a lane, besides.
  GRASS_FAULT_UNALIGNED = 16,
  GRASS_FAULT_WILD = 17,      // An address that is neither the kernel's nor the run's own.
  GRASS_FAULT_STORE = 18,     // A store to the watched memory.
  GRASS_FAULT_BOUNDS = 19,    // Outside a variable of the monitor's own.
  GRASS_FAULT_BUDGET = 20,    // More steps than allowed.
  GRASS_FAULT_FULL = 21,      // No room for another record.
  GRASS_FAULT_DIVISION = 22,  // A division by zero, or one whose result does not fit.
};
