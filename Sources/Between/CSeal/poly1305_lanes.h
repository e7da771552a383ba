// LANES blocks side by side, one in each lane of a vector, in limbs of 26 bits, whose products fit a lane: each lane's sum is
// multiplied by r^LANES for the next, and in the end by the power of r that its last block is to have.
//
// Included by poly1305.c once for each width of vectors, with what differs between them:
//   LANES              how many there are
//   NUMBERS            the type of a vector of as many words of 64 bits
//   TARGET             what compiles a function for processors that have such vectors
//   OF_LANES(name)     the name of one width's function
//   EVEN_NUMBERS(a, b), ODD_NUMBERS(a, b)
//                      every other word of two vectors, from the first and from the second on

/// A factor: its limbs, and these times five. None passes 2^27.
struct OF_LANES(poly1305_factor) {
  NUMBERS limb[5], five[5];
};

/// Adds products lane by lane, uncarried; no limb of `a` passes 2^28.
TARGET GRASS_INLINE void OF_LANES(poly1305_add_products)(
    NUMBERS d[5], const NUMBERS a[5], const struct OF_LANES(poly1305_factor) *b) {
  const NUMBERS low = (NUMBERS){} + 0xffffffff;
  GRASS_UNROLL for (unsigned i = 0; i < 5; i++)
    GRASS_UNROLL for (unsigned j = 0; j < 5; j++)
      d[(i + j) % 5] += (a[i] & low) * ((i + j < 5 ? b->limb[j] : b->five[j]) & low);
}

/// Carries sums of two products and less.
TARGET GRASS_INLINE void OF_LANES(poly1305_carry)(NUMBERS a[5], NUMBERS d[5]) {
  const NUMBERS mask = (NUMBERS){} + LOW26;
  // Two carries at a time, each from where the other does not go.
  d[1] += d[0] >> 26, d[0] &= mask, d[4] += d[3] >> 26, d[3] &= mask;
  d[2] += d[1] >> 26, d[1] &= mask, d[0] += (d[4] >> 26) * 5, d[4] &= mask;
  d[3] += d[2] >> 26, d[2] &= mask, d[1] += d[0] >> 26, d[0] &= mask;
  d[4] += d[3] >> 26, d[3] &= mask;
  GRASS_UNROLL for (unsigned index = 0; index < 5; index++) a[index] = d[index];
}

/// Adds the next LANES blocks.
TARGET GRASS_INLINE void OF_LANES(poly1305_add_text)(NUMBERS a[5], const uint8_t *text) {
  const NUMBERS mask = (NUMBERS){} + LOW26;
  NUMBERS one, two;
  __builtin_memcpy(&one, text, sizeof one);
  __builtin_memcpy(&two, text + sizeof one, sizeof two);
  NUMBERS low = EVEN_NUMBERS(one, two), high = ODD_NUMBERS(one, two);
  a[0] += low & mask, a[1] += low >> 26 & mask, a[2] += (low >> 52 | high << 12) & mask;
  a[3] += high >> 14 & mask, a[4] += high >> 40 | 1ull << 24;
}

/// Takes LANES blocks at a time, `times` times, which is 1 at least; two at once between carries.
TARGET static poly1305_sum OF_LANES(poly1305_lanes)(poly1305_sum r, poly1305_sum at, const uint8_t *text, uint64_t times) {
  poly1305_sum power[LANES] = {r};
  GRASS_UNROLL for (unsigned index = 1; index < LANES; index++) power[index] = poly1305_product(power[index - 1], r);
  uint64_t narrow[LANES][5], squared[5];
  GRASS_UNROLL for (unsigned index = 0; index < LANES; index++) poly1305_narrow(narrow[index], power[index]);
  poly1305_narrow(squared, poly1305_product(power[LANES - 1], power[LANES - 1]));
  struct OF_LANES(poly1305_factor) once, twice, last;
  NUMBERS a[5];
  GRASS_UNROLL for (unsigned limb = 0; limb < 5; limb++) {
    once.limb[limb] = (NUMBERS){} + narrow[LANES - 1][limb], twice.limb[limb] = (NUMBERS){} + squared[limb];
    GRASS_UNROLL for (unsigned lane = 0; lane < LANES; lane++) last.limb[limb][lane] = narrow[LANES - 1 - lane][limb];
    once.five[limb] = once.limb[limb] * 5, twice.five[limb] = twice.limb[limb] * 5, last.five[limb] = last.limb[limb] * 5;
  }
  poly1305_narrow(narrow[0], at);
  GRASS_UNROLL for (unsigned limb = 0; limb < 5; limb++) a[limb] = (NUMBERS){narrow[0][limb]};
  OF_LANES(poly1305_add_text)(a, text);
  text += 16 * LANES, times--;
  for (; times >= 2; times -= 2, text += 32 * LANES) {
    NUMBERS first[5] = {}, d[5] = {};
    OF_LANES(poly1305_add_text)(first, text);
    OF_LANES(poly1305_add_products)(d, a, &twice);
    OF_LANES(poly1305_add_products)(d, first, &once);
    OF_LANES(poly1305_carry)(a, d);
    OF_LANES(poly1305_add_text)(a, text + 16 * LANES);
  }
  NUMBERS d[5] = {}, end[5] = {};
  if (times > 0) {
    OF_LANES(poly1305_add_products)(d, a, &once);
    OF_LANES(poly1305_carry)(a, d);
    OF_LANES(poly1305_add_text)(a, text);
  }
  OF_LANES(poly1305_add_products)(end, a, &last);
  OF_LANES(poly1305_carry)(a, end);
  uint64_t limbs[5];
  GRASS_UNROLL for (unsigned index = 0; index < 5; index++) {
    limbs[index] = 0;
    GRASS_UNROLL for (unsigned lane = 0; lane < LANES; lane++) limbs[index] += a[index][lane];
  }
  poly1305_sum sum = poly1305_widen(limbs);
  GRASS_FORGET(power);
  GRASS_FORGET(narrow);
  GRASS_FORGET(squared);
  GRASS_FORGET(once);
  GRASS_FORGET(twice);
  GRASS_FORGET(last);
  GRASS_FORGET(limbs);
  return sum;
}

#undef LANES
#undef NUMBERS
#undef TARGET
#undef OF_LANES
#undef EVEN_NUMBERS
#undef ODD_NUMBERS
