#include "grass_fuzz.h"

// Word by word, and not by memcmp: what that compares libFuzzer takes for what it is to try.
bool grass_fuzz_holds(const uint8_t *bytes, uint64_t count, const uint8_t sought[32]) {
  uint64_t words[4], found[4];
  __builtin_memcpy(words, sought, sizeof words);
  for (uint64_t at = 0; at + sizeof found <= count; at++) {
    __builtin_memcpy(&found[0], bytes + at, sizeof found[0]);
    if (found[0] != words[0]) continue;
    __builtin_memcpy(found, bytes + at, sizeof found);
    if (found[1] == words[1] && found[2] == words[2] && found[3] == words[3]) return true;
  }
  return false;
}
