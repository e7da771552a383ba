// Code of x86-64 as bytes: how long instructions are, where they lead, and what of a text is not as compilers leave it.
//
// The bytes come from memory that may lie. Nothing here reads outside the bytes that it is given, and each function's cost is
// linear in them.
#ifndef GRASS_CODE_H
#define GRASS_CODE_H

#include <stddef.h>
#include <stdint.h>

// What an instruction does to the flow of control.
enum grass_flow {
  // Goes on with the next one, also where it calls by a register or by memory.
  GRASS_FLOW_NEXT = 0,
  // A call, a jump, or a jump with a condition to a place that the instruction itself names.
  GRASS_FLOW_CALL = 1,
  GRASS_FLOW_JUMP = 2,
  GRASS_FLOW_BRANCH = 3,
  // Does not go on with the next one: ret, iret, a jump by a register, ud2.
  GRASS_FLOW_END = 4,
  // int3.
  GRASS_FLOW_BREAKPOINT = 5,
  // ret and its kin: GRASS_FLOW_END as well, told apart.
  GRASS_FLOW_RETURN = 6,
};

struct grass_instruction {
  // Bytes, 15 at most.
  uint32_t length;
  uint32_t flow;
  // Of calls, jumps and branches how far from the instruction's end they lead.
  int64_t distance;
};

// Decodes the instruction at `code`, of which there are `count` bytes. Returns its length; 0 where the bytes are no instruction
// of 64-bit code, or end before it does.
uint32_t grass_decode(const uint8_t *code, size_t count, struct grass_instruction *instruction);

// Something in a text that has to be explained.
enum grass_remark_kind {
  // A call, jump or branch out of the image; `target` is where it leads.
  GRASS_REMARK_BRANCH = 1,
  // An int3 that the code before it runs into.
  GRASS_REMARK_BREAKPOINT = 2,
  // A place for tracers that is not the nop of five bytes.
  GRASS_REMARK_PLACE = 3,
  // What lies between a function's start and its place for tracers is no landing place of indirect branches.
  GRASS_REMARK_LANDING = 4,
};

struct grass_remark {
  // Where in the text, and where the function begins that it lies in.
  uint32_t offset;
  uint32_t function;
  uint32_t kind;
  uint32_t unused;
  uint64_t target;
};

// A text to be looked through.
struct grass_text {
  const uint8_t *bytes;
  size_t count;
  // Where its last function ends: what lies behind that is of the next piece, and only tells how long an instruction is.
  size_t end;
  // The address of its first byte.
  uint64_t address;
  // What branches may lead to without a remark: the whole image.
  uint64_t image_start, image_end;
  // Where functions begin, as offsets in ascending order.
  const uint32_t *functions;
  size_t function_count;
  // Where tracers' places are, as offsets in ascending order.
  const uint32_t *places;
  size_t place_count;
};

// Looks through a text, function by function and instruction by instruction. Writes `most` remarks at most and returns how many
// there are; `undecoded` gets the number of functions that could not be decoded to their end.
size_t grass_look_through(
  const struct grass_text *text, struct grass_remark *remarks, size_t most, size_t *undecoded);

// Finds 64-bit words, at multiples of eight, that lie in one of `ranges`: pairs of a start and an end, ascending, without
// overlap. Writes the offsets of `most` of them at most, and returns how many there are.
size_t grass_find_words(
  const uint8_t *bytes, size_t count, const uint64_t *ranges, size_t range_count, uint32_t *offsets, size_t most);

#endif
