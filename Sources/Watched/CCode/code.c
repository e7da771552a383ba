#include "grass_code.h"

#include <string.h>

// What follows an opcode.
enum {
  NONE = 0,
  // A ModRM byte and what it asks for.
  MODRM = 1,
  IMMEDIATE_8 = 2,
  // 4 bytes, 2 with an operand of 16 bits.
  IMMEDIATE = 4,
  RELATIVE_8 = 8,
  RELATIVE_32 = 16,
  // Forms of their own.
  SPECIAL = 32,
  INVALID = 64,
};

// Opcodes of one byte, a row of sixteen a line. Source: Intel SDM volume 2, appendix A.
#define A MODRM
#define B IMMEDIATE_8
#define Z IMMEDIATE
#define C (MODRM | IMMEDIATE_8)
#define D (MODRM | IMMEDIATE)
#define J RELATIVE_8
#define K RELATIVE_32
#define S SPECIAL
#define X INVALID
static const uint8_t one_byte[256] = {
  A, A, A, A, B, Z, X, X, A, A, A, A, B, Z, X, S, // 00, 0f leads to the second table
  A, A, A, A, B, Z, X, X, A, A, A, A, B, Z, X, X, // 10
  A, A, A, A, B, Z, X, X, A, A, A, A, B, Z, X, X, // 20
  A, A, A, A, B, Z, X, X, A, A, A, A, B, Z, X, X, // 30
  X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, X, // 40, REX prefixes where they may stand
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // 50
  X, X, S, A, X, X, X, X, Z, D, B, C, 0, 0, 0, 0, // 60, 62 is EVEX
  J, J, J, J, J, J, J, J, J, J, J, J, J, J, J, J, // 70
  C, D, X, C, A, A, A, A, A, A, A, A, A, A, A, A, // 80
  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, X, 0, 0, 0, 0, 0, // 90
  S, S, S, S, 0, 0, 0, 0, B, Z, 0, 0, 0, 0, 0, 0, // a0
  B, B, B, B, B, B, B, B, S, S, S, S, S, S, S, S, // b0
  C, C, S, 0, S, S, C, D, S, 0, S, 0, 0, B, X, 0, // c0, c4 and c5 are VEX
  A, A, A, A, X, X, X, 0, A, A, A, A, A, A, A, A, // d0
  J, J, J, J, B, B, B, B, K, K, X, J, 0, 0, 0, 0, // e0
  X, 0, X, X, 0, 0, S, S, 0, 0, 0, 0, 0, 0, A, A, // f0
};
// Opcodes behind 0f.
static const uint8_t two_bytes[256] = {
  A, A, A, A, X, 0, 0, 0, 0, 0, X, 0, X, A, 0, C, // 00
  A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, // 10
  B, B, B, B, X, X, X, X, A, A, A, A, A, A, A, A, // 20, whose ModRM byte always names a register
  0, 0, 0, 0, 0, 0, X, 0, S, X, S, X, X, X, X, X, // 30, 38 and 3a lead further
  A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, // 40
  A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, // 50
  A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, // 60
  C, C, C, C, A, A, A, 0, A, A, X, X, A, A, A, A, // 70
  K, K, K, K, K, K, K, K, K, K, K, K, K, K, K, K, // 80
  A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, // 90
  0, 0, 0, A, C, A, X, X, 0, 0, 0, A, C, A, A, A, // a0
  A, A, A, A, A, A, A, A, A, A, C, A, A, A, A, A, // b0
  A, A, C, A, C, C, C, A, 0, 0, 0, 0, 0, 0, 0, 0, // c0
  A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, // d0
  A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, // e0
  A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, A, // f0
};
#undef A
#undef B
#undef Z
#undef C
#undef D
#undef J
#undef K
#undef S
#undef X

// Bytes that a ModRM byte takes, itself included; 0 where they end too soon.
static size_t modrm_size(const uint8_t *code, size_t left) {
  if (left < 1) return 0;
  uint8_t mode = code[0] >> 6, low = code[0] & 7;
  size_t size = 1;
  if (mode == 3) return size;
  if (low == 4) {
    if (left < 2) return 0;
    size++;
    if (mode == 0 && (code[1] & 7) == 5) size += 4;
  } else if (mode == 0 && low == 5) {
    size += 4;
  }
  if (mode == 1) size += 1;
  if (mode == 2) size += 4;
  return size;
}

// Whether opcodes of the table behind 0f have a byte behind them in VEX and EVEX, too.
static int has_byte(uint8_t opcode) {
  return (opcode >= 0x70 && opcode <= 0x73) || opcode == 0xc2 || (opcode >= 0xc4 && opcode <= 0xc6);
}

// Behind a VEX or EVEX prefix that ends at `at`: an opcode of table `map`.
static size_t vector_end(const uint8_t *code, size_t count, size_t at, unsigned map) {
  if (at >= count) return 0;
  uint8_t opcode = code[at++];
  // vzeroupper and vzeroall have nothing behind them.
  if (map == 1 && opcode == 0x77) return at;
  size_t size = modrm_size(code + at, count - at);
  if (!size) return 0;
  return at + size + (map == 3 || (map == 1 && has_byte(opcode)) ? 1 : 0);
}

uint32_t grass_decode(const uint8_t *code, size_t count, struct grass_instruction *instruction) {
  if (count > 15) count = 15;
  instruction->length = 0;
  instruction->flow = GRASS_FLOW_NEXT;
  instruction->distance = 0;
  size_t at = 0;
  int is_short = 0, is_wide = 0, has_address = 0;
  for (; at < count; at++) {
    uint8_t byte = code[at];
    if (byte == 0x66) is_short = 1;
    else if (byte == 0x67) has_address = 1;
    else if (byte != 0xf2 && byte != 0xf3 && byte != 0xf0 && byte != 0x2e && byte != 0x36 && byte != 0x3e && byte != 0x26
             && byte != 0x64 && byte != 0x65) break;
  }
  if (at < count && (code[at] & 0xf0) == 0x40) is_wide = code[at++] >> 3 & 1;
  if (at >= count) return 0;
  uint8_t opcode = code[at++];
  unsigned form = one_byte[opcode];
  unsigned flow = GRASS_FLOW_NEXT;
  size_t extra = 0;
  if (form == SPECIAL) {
    switch (opcode) {
    case 0x0f:
      if (at >= count) return 0;
      opcode = code[at++];
      form = two_bytes[opcode];
      if (form == SPECIAL) {
        if (at >= count) return 0;
        at++;
        form = opcode == 0x3a ? MODRM | IMMEDIATE_8 : MODRM;
      }
      if (opcode == 0x0b) flow = GRASS_FLOW_END;
      // sysret, sysexit.
      if (opcode == 0x07 || opcode == 0x35) flow = GRASS_FLOW_END;
      if (form == RELATIVE_32) flow = GRASS_FLOW_BRANCH;
      break;
    case 0x62: {
      if (count - at < 3) return 0;
      at = vector_end(code, count, at + 3, code[at] & 7);
      form = NONE;
      if (!at) return 0;
      break;
    }
    case 0xc4:
      if (count - at < 2) return 0;
      at = vector_end(code, count, at + 2, code[at] & 31);
      form = NONE;
      if (!at) return 0;
      break;
    case 0xc5:
      if (count - at < 1) return 0;
      at = vector_end(code, count, at + 1, 1);
      form = NONE;
      if (!at) return 0;
      break;
    // An address of eight bytes, or of four.
    case 0xa0: case 0xa1: case 0xa2: case 0xa3: form = NONE; extra = has_address ? 4 : 8; break;
    case 0xc2: case 0xca: form = NONE; extra = 2; flow = GRASS_FLOW_RETURN; break;
    case 0xc8: form = NONE; extra = 3; break;
    // test has a number behind it, its neighbours in the same group do not.
    case 0xf6: case 0xf7:
      if (at >= count) return 0;
      form = MODRM | ((code[at] & 0x38) > 8 ? 0 : opcode == 0xf6 ? IMMEDIATE_8 : IMMEDIATE);
      break;
    // mov of a number to a register: the one whose numbers have eight bytes.
    default: form = is_wide ? NONE : IMMEDIATE; extra = is_wide ? 8 : 0; break;
    }
  } else if (form != INVALID) {
    switch (opcode) {
    case 0xc3: case 0xcb: case 0xcf: flow = GRASS_FLOW_RETURN; break;
    case 0xcc: flow = GRASS_FLOW_BREAKPOINT; break;
    case 0xe8: flow = GRASS_FLOW_CALL; break;
    case 0xe9: case 0xeb: flow = GRASS_FLOW_JUMP; break;
    case 0xff:
      if (at < count && ((code[at] >> 3 & 7) == 4 || (code[at] >> 3 & 7) == 5)) flow = GRASS_FLOW_END;
      break;
    default:
      if (form == RELATIVE_8) flow = GRASS_FLOW_BRANCH;
    }
  }
  if (form & INVALID) return 0;
  if (form & MODRM) {
    size_t size = modrm_size(code + at, count - at);
    if (!size) return 0;
    at += size;
  }
  if (form & IMMEDIATE_8) extra += 1;
  if (form & IMMEDIATE) extra += is_short && !is_wide ? 2 : 4;
  if (form & RELATIVE_8) extra += 1;
  if (form & RELATIVE_32) extra += 4;
  if (at > count || count - at < extra) return 0;
  if (form & RELATIVE_8) instruction->distance = (int8_t)code[at];
  if (form & RELATIVE_32) {
    int32_t distance;
    memcpy(&distance, code + at, 4);
    instruction->distance = distance;
  }
  instruction->flow = flow;
  instruction->length = (uint32_t)(at + extra);
  return instruction->length;
}

struct remarks {
  struct grass_remark *list;
  size_t most, count;
};

static void remark(struct remarks *remarks, size_t offset, size_t function, uint32_t kind, uint64_t target) {
  if (remarks->count < remarks->most)
    remarks->list[remarks->count] = (struct grass_remark){(uint32_t)offset, (uint32_t)function, kind, 0, target};
  remarks->count++;
}

// endbr64, and the two forms that kernels put over it where nobody calls indirectly: `gen_endbr_poison`.
static int is_landing(const uint8_t *code) {
  return !memcmp(code, "\xf3\x0f\x1e\xfa", 4) || !memcmp(code, "\x66\x0f\x1f\x00", 4) || !memcmp(code, "\x0f\x1f\x40\xd6", 4);
}

// Whether an instruction does nothing, and fills space.
static int is_nop(const uint8_t *code, size_t length) {
  size_t prefix = 0;
  while (prefix < length && (code[prefix] == 0x66 || code[prefix] == 0x2e)) prefix++;
  return prefix < length && (code[prefix] == 0x90 || (prefix + 1 < length && code[prefix] == 0x0f && code[prefix + 1] == 0x1f));
}

// Whether nothing but int3 and nops lies from `at` up to `end`.
static int is_padding(const uint8_t *bytes, size_t at, size_t end) {
  while (at < end) {
    struct grass_instruction one;
    if (!grass_decode(bytes + at, end - at, &one)) return 0;
    if (one.flow != GRASS_FLOW_BREAKPOINT && !is_nop(bytes + at, one.length)) return 0;
    at += one.length;
  }
  return 1;
}

// Whether int3 fills what is left from `at` to where the next function may begin: at a multiple of 16.
static int is_filled(const struct grass_text *text, size_t at, size_t end) {
  for (; at < end && (text->address + at) % 16; at++) {
    if (text->bytes[at] != 0xcc) return 0;
  }
  return 1;
}

// Whether the five bytes are a nop for tracers; kernels before 5.13 have another one for some processors.
static int is_place(const uint8_t *code) {
  return !memcmp(code, "\x0f\x1f\x44\x00\x00", 5) || !memcmp(code, "\x66\x66\x66\x66\x90", 5);
}

// What of one function, from `start` up to `end`, has to be explained. Returns whether all of it could be decoded.
static int look_at(const struct grass_text *text, size_t start, size_t end, struct remarks *remarks) {
  int runs_into = 1, after_call = 0;
  size_t leapt = SIZE_MAX;
  for (size_t at = start; at < end;) {
    struct grass_instruction one;
    if (!grass_decode(text->bytes + at, text->count - at, &one)) return 0;
    size_t next = at + one.length;
    switch (one.flow) {
    case GRASS_FLOW_CALL: case GRASS_FLOW_JUMP: case GRASS_FLOW_BRANCH: {
      uint64_t target = text->address + next + (uint64_t)one.distance;
      if (target < text->image_start || target >= text->image_end) remark(remarks, at, start, GRASS_REMARK_BRANCH, target);
      break;
    }
    case GRASS_FLOW_BREAKPOINT:
      // A trap for speculation that the call before it leaps over is none, nor is padding behind a call that does not come back.
      if (after_call && is_filled(text, at, end)) {
        runs_into = 0;
      } else if (runs_into && at != leapt) {
        // What is left of the instruction whose first byte it took is none.
        if (!is_padding(text->bytes, at, end)) remark(remarks, at, start, GRASS_REMARK_BREAKPOINT, 0);
        return 1;
      }
      break;
    default: break;
    }
    after_call = one.flow == GRASS_FLOW_CALL;
    if (one.flow == GRASS_FLOW_CALL && one.distance > 0 && one.distance <= 16) leapt = next;
    // Nops behind what does not come back are padding, too.
    if (one.flow != GRASS_FLOW_BREAKPOINT && (runs_into || !is_nop(text->bytes + at, one.length)))
      runs_into = one.flow != GRASS_FLOW_JUMP && one.flow != GRASS_FLOW_END && one.flow != GRASS_FLOW_RETURN;
    at = next;
  }
  return 1;
}

size_t grass_look_through(
  const struct grass_text *text, struct grass_remark *list, size_t most, size_t *undecoded) {
  struct remarks remarks = {list, most, 0};
  size_t place = 0;
  *undecoded = 0;
  for (size_t index = 0; index < text->function_count; index++) {
    size_t start = text->functions[index];
    size_t end = index + 1 < text->function_count ? text->functions[index + 1] : text->end;
    if (end > text->count) end = text->count;
    if (start >= end) continue;
    for (; place < text->place_count && text->places[place] < start; place++) continue;
    for (size_t one = place; one < text->place_count && text->places[one] < end; one++) {
      size_t at = text->places[one];
      if (text->count - at < 5) break;
      if (!is_place(text->bytes + at)) {
        int32_t distance;
        memcpy(&distance, text->bytes + at + 1, 4);
        // A call's target; none where it is no call.
        uint64_t target = text->bytes[at] == 0xe8 ? text->address + at + 5 + (uint64_t)(int64_t)distance : 0;
        remark(&remarks, at, start, GRASS_REMARK_PLACE, target);
      }
      if (at - start == 4 && !is_landing(text->bytes + start)) remark(&remarks, start, start, GRASS_REMARK_LANDING, 0);
    }
    if (!look_at(text, start, end, &remarks)) ++*undecoded;
  }
  return remarks.count;
}

size_t grass_find_words(
  const uint8_t *bytes, size_t count, const uint64_t *ranges, size_t range_count, uint32_t *offsets, size_t most) {
  size_t found = 0;
  if (!range_count) return 0;
  uint64_t low = ranges[0], high = ranges[2 * range_count - 1];
  for (size_t at = 0; count >= 8 && at <= count - 8; at += 8) {
    uint64_t word;
    memcpy(&word, bytes + at, 8);
    if (word < low || word >= high) continue;
    // The last range that starts at or below it.
    size_t first = 0, last = range_count;
    while (last - first > 1) {
      size_t middle = (first + last) / 2;
      if (ranges[2 * middle] <= word) first = middle; else last = middle;
    }
    if (word >= ranges[2 * first + 1]) continue;
    if (found < most) offsets[found] = (uint32_t)at;
    found++;
  }
  return found;
}
