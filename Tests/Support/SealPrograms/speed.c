// What the core costs on this processor's core, each the best of several rounds.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "grass_noise.h"
#include "grass_random.h"

/// This thread's time only: others use the machine, too.
static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/// Nanoseconds of `code`, the best mean of seven rounds of about 30 ms.
#define TIME(result, code)                                             \
  do {                                                                 \
    uint64_t times_ = 1;                                               \
    double took_ = 0;                                                  \
    while (took_ < 1e7) {                                              \
      double start_ = now();                                           \
      for (uint64_t index_ = 0; index_ < times_; index_++) code;       \
      if ((took_ = now() - start_) < 1e7) times_ *= 2;                 \
    }                                                                  \
    result = took_ / (double)times_;                                   \
    for (int round_ = 0; round_ < 7; round_++) {                       \
      double start_ = now();                                           \
      for (uint64_t index_ = 0; index_ < times_; index_++) code;       \
      took_ = (now() - start_) / (double)times_;                       \
      if (took_ < result) result = took_;                              \
    }                                                                  \
  } while (0)

static struct grass_key_pair pairs[4];

/// A handshake; what the responder takes of it, in nanoseconds.
static double handshake(uint32_t pattern, int makes_ephemeral) {
  struct grass_noise ends[2];
  struct grass_cipher ciphers[2];
  uint8_t message[256], text[64] = {1}, random[32];
  uint64_t length, got;
  double spent = 0, start;
  int failed = 0;
  failed |= grass_noise_start(&ends[0], pattern, 0, NULL, 0, &pairs[0], &pairs[1], pattern % 2 ? pairs[2].public_key : NULL, NULL);
  memcpy(random, pairs[3].private_key, 32);
  start = now();
  if (makes_ephemeral) grass_make_key_pair(&pairs[3], random);
  failed |= grass_noise_start(&ends[1], pattern, 1, NULL, 0, &pairs[2], &pairs[3], NULL, NULL);
  spent += now() - start;
  for (unsigned index = 0; !failed && !grass_noise_has_ended(&ends[0]); index++) {
    start = now();
    failed |= grass_noise_write(&ends[index % 2], text, 32, message, sizeof message, &length);
    if (index % 2 == 1) spent += now() - start;
    start = now();
    failed |= grass_noise_read(&ends[1 - index % 2], message, length, text, sizeof text, &got);
    if (index % 2 == 0) spent += now() - start;
  }
  start = now();
  failed |= grass_noise_split(&ends[1], &ciphers[0], &ciphers[1]);
  spent += now() - start;
  if (failed) fprintf(stderr, "speed: the handshake failed\n"), exit(1);
  return spent;
}

int main(void) {
  static uint8_t text[1 << 20], sealed[1 << 20];
  uint8_t key[32] = {1}, nonce[12] = {2}, tag[16], digest[32], shared[32] = {9};
  uint64_t number = 0;
  double time;
  for (unsigned index = 0; index < 4; index++) {
    uint8_t random[32] = {(uint8_t)(index + 1)};
    grass_make_key_pair(&pairs[index], random);
  }
  const uint64_t sizes[] = {0, 16, 64, 256, 1024, 8192, 1 << 20};
  for (unsigned index = 0; index < 7; index++) {
    uint64_t size = sizes[index];
    TIME(time, (memcpy(nonce, &number, 8), number++, grass_seal(key, nonce, text, 16, text, size, sealed, tag)));
    double open;
    grass_seal(key, nonce, text, 16, text, size, sealed, tag);
    TIME(open, grass_open(key, nonce, text, 16, sealed, size, tag, text));
    printf("seal %7lu bytes, 16 beside them: %9.0f ns, open %9.0f ns", (unsigned long)size, time, open);
    if (size >= 1024) printf(", %5.0f MB/s", (double)size / time * 1e3);
    printf("\n");
  }
  struct grass_prepared prepared, copy;
  grass_prepare(&prepared, key, nonce);
  TIME(time, (copy = prepared, grass_seal_prepared(&copy, key, nonce, text, 16, text, 64, sealed, tag)));
  printf("seal 64 bytes, prepared: %.0f ns\n", time);
  TIME(time, grass_chacha20_xor(key, nonce, 1, text, sealed, 1 << 20));
  printf("chacha20 of 1 MiB: %.0f MB/s\n", (double)(1 << 20) / time * 1e3);
  TIME(time, grass_poly1305(key, text, 1 << 20, tag));
  printf("poly1305 of 1 MiB: %.0f MB/s\n", (double)(1 << 20) / time * 1e3);
  TIME(time, grass_sha256(text, 1 << 20, digest));
  printf("sha256 of 1 MiB: %.0f MB/s\n", (double)(1 << 20) / time * 1e3);
  TIME(time, grass_sha256(text, 64, digest));
  printf("sha256 of 64 bytes: %.0f ns\n", time);
  TIME(time, grass_noise_hkdf(key, shared, 32, sealed, 2));
  printf("noise's hkdf: %.0f ns\n", time);
  TIME(time, grass_x25519(shared, key, pairs[0].public_key));
  printf("x25519: %.1f us\n", time / 1e3);
  struct grass_random random = {0};
  grass_random_mix(&random, text, 32);
  TIME(time, grass_random_fill(&random, sealed, 32));
  printf("32 random bytes: %.0f ns\n", time);
  for (uint32_t pattern = 0; pattern < 2; pattern++) {
    for (int makes = 1; makes >= 0; makes--) {
      double best = 1e18;
      for (int round = 0; round < 300; round++) {
        double took = handshake(pattern, makes);
        if (took < best) best = took;
      }
      printf("handshake %s, responder%s: %.0f us\n", pattern ? "IK" : "XX", makes ? "" : ", ephemeral key at hand", best / 1e3);
    }
  }
  return 0;
}
