// Runs the published vectors.
//
//   vectors FOLDER [MOST ITERATIONS]
#include "vectors.h"

#include <time.h>

int main(int argc, char **argv) {
  if (argc < 2) return fprintf(stderr, "usage: vectors FOLDER [MOST ITERATIONS]\n"), 64;
  struct vectors all = read_vectors(argv[1]);
  uint32_t most = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1000;
  unsigned passed = 0, failed = 0, skipped = 0, of[GRASS_CASE_OPERATIONS] = {0};
  for (unsigned index = 0; index < all.count; index++) {
    const struct vector *vector = &all.vectors[index];
    if (vector->operation >= GRASS_CASE_OPERATIONS) {
      fprintf(stderr, "vectors: unknown operation: %s\n", vector->name);
      failed++;
      continue;
    }
    if (iterations(vector) > most) {
      printf("left out: %u iterations of X25519\n", iterations(vector));
      skipped++;
      continue;
    }
    // No byte more than a case may use, so that a sanitizer sees the first one beyond.
    uint64_t capacity = vector->input_length + 1024, length = 0;
    uint8_t *input = malloc(vector->input_length), *output = malloc(capacity), *scratch = malloc(capacity);
    memcpy(input, vector->input, vector->input_length);
    int32_t result = grass_seal_case(vector->operation, input, vector->input_length, output, scratch, capacity, &length);
    const char *wrong = judge(vector, result, output, length);
    if (wrong) fprintf(stderr, "vectors: %s: %s\n", vector->name, wrong), failed++;
    else passed++, of[vector->operation]++;
    free(input), free(output), free(scratch);
  }
  for (uint32_t operation = 0; operation < GRASS_CASE_OPERATIONS; operation++)
    printf("%-16s %u\n", grass_case_name(operation), of[operation]);
  printf("vectors: %u passed, %u failed, %u left out\n", passed, failed, skipped);
  free_vectors(&all);
  return failed > 0;
}
