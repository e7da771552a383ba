// X25519, RFC 7748 section 5: a shared secret out of one's own private key and another's public one.
#pragma once

#include <stdbool.h>
#include <stdint.h>

/// A private key and the public one that belongs to it.
struct grass_key_pair {
  uint8_t private_key[32];
  uint8_t public_key[32];
};

/// Writes the secret that is shared with the owner of `public_key`. False, with zeros written, where it would be all
/// zeros: the public key is one of the few points of small order, and everybody knows the result (RFC 7748 section
/// 6.1).
///
/// Private keys are any 32 bytes; the bits that RFC 7748 fixes are fixed here. Of a public key the top bit is not
/// looked at, and numbers from 2^255 - 19 on count modulo that. `shared` may be where an argument is. In constant time.
/// Cost: some 40 µs on a processor's core.
bool grass_x25519(uint8_t shared[32], const uint8_t private_key[32], const uint8_t public_key[32]);

/// The public key of a private one. Cost: as above.
void grass_x25519_public(uint8_t public_key[32], const uint8_t private_key[32]);

/// Makes a pair of 32 random bytes. What is made before it is needed shortens a handshake by this.
void grass_make_key_pair(struct grass_key_pair *pair, const uint8_t random[32]);
