// The vectors of Tests/Between/SealTests/Resources, read for programs in C.
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grass_noise.h"
#include "grass_seal_cases.h"

struct vector {
  char name[160];
  uint32_t operation;
  uint8_t *input, *expected;
  uint64_t input_length, expected_length;
  int refused;
};

struct vectors {
  struct vector *vectors;
  unsigned count;
};

struct bytes {
  uint8_t *bytes;
  uint64_t length;
};

static char *read_text(const char *folder, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "r");
  if (!file) perror(path), exit(1);
  char *text = calloc(1, 1 << 20);
  if (fread(text, 1, (1 << 20) - 1, file) == 0) fprintf(stderr, "%s: nothing in it\n", path), exit(1);
  fclose(file);
  return text;
}

static void put_bytes(struct bytes *to, const void *bytes, uint64_t count) {
  to->bytes = realloc(to->bytes, to->length + count + 1);
  memcpy(to->bytes + to->length, bytes, count);
  to->length += count;
}

/// Hexadecimal, "-" for nothing, or a byte that often: "61*1000000".
static struct bytes from_hex(const char *text) {
  struct bytes bytes = {calloc(1, strlen(text) / 2 + 1), 0};
  if (text[0] == '-') return bytes;
  for (; text[0] && text[1] && text[0] != '*'; text += 2) {
    unsigned value;
    if (sscanf(text, "%2x", &value) != 1) fprintf(stderr, "no hexadecimal: %s\n", text), exit(1);
    bytes.bytes[bytes.length++] = (uint8_t)value;
  }
  if (text[0] == '*') {
    uint64_t count = strtoull(text + 1, NULL, 10);
    uint8_t byte = bytes.bytes[0];
    bytes.bytes = realloc(bytes.bytes, count);
    memset(bytes.bytes, byte, count);
    bytes.length = count;
  }
  return bytes;
}

static void put_field(struct bytes *input, struct bytes field) {
  uint32_t length = (uint32_t)field.length;
  put_bytes(input, &length, 4);
  put_bytes(input, field.bytes, field.length);
  free(field.bytes);
}

static void put_vector(struct vectors *all, struct vector vector) {
  all->vectors = realloc(all->vectors, (all->count + 1) * sizeof vector);
  all->vectors[all->count++] = vector;
}

static void read_plain_vectors(struct vectors *all, const char *folder) {
  char *text = read_text(folder, "vectors.txt"), source[120] = "";
  for (char *line = strtok(text, "\n"), *rest; line; line = strtok(NULL, "\n")) {
    if (line[0] == '#') {
      snprintf(source, sizeof source, "%s", line + 2);
      continue;
    }
    struct vector vector = {.operation = GRASS_CASE_OPERATIONS};
    struct bytes input = {0}, expected = {0};
    int is_expected = 0;
    char *word = strtok_r(line, " ", &rest);
    for (uint32_t operation = 0; operation < GRASS_CASE_OPERATIONS; operation++)
      if (strcmp(word, grass_case_name(operation)) == 0) vector.operation = operation;
    snprintf(vector.name, sizeof vector.name, "%s: %s", word, source);
    while ((word = strtok_r(NULL, " ", &rest))) {
      if (strcmp(word, "=") == 0) is_expected = 1;
      else if (!is_expected) put_field(&input, from_hex(word));
      else if (strcmp(word, "refused") == 0) vector.refused = 1;
      else expected = from_hex(word);
    }
    vector.input = input.bytes, vector.input_length = input.length;
    vector.expected = expected.bytes, vector.expected_length = expected.length;
    put_vector(all, vector);
  }
  free(text);
}

/// The next string of a JSON text, null at its end. All strings of this file are free of escapes.
static char *next_string(char **at) {
  char *start = strchr(*at, '"');
  if (!start) return NULL;
  char *end = strchr(start + 1, '"');
  *end = 0;
  *at = end + 1;
  return start + 1;
}

static void read_noise_vectors(struct vectors *all, const char *folder) {
  static const char *keys[] = {"init_prologue", "init_static",        "init_ephemeral", "resp_prologue", "resp_static",
                               "resp_ephemeral", "init_remote_static", "init_psks",      "handshake_hash"};
  char *text = read_text(folder, "noise-vectors.json"), *at = text, *key = "", *string;
  char *values[9], *payloads[8], *messages[8], *name = NULL;
  unsigned count = 0;
  while (1) {
    string = next_string(&at);
    if (string && at[strspn(at, " \n")] == ':') {
      key = string;
      continue;
    }
    if (!string || strcmp(key, "protocol_name") == 0) {
      if (name) {
        struct vector vector = {.operation = GRASS_CASE_NOISE};
        struct bytes input = {0}, expected = {0};
        uint32_t psk = strstr(name, "psk") != NULL, ik = strstr(name, "_IK") != NULL;
        uint32_t pattern = psk ? (ik ? GRASS_NOISE_IKPSK2 : GRASS_NOISE_XXPSK3) : (ik ? GRASS_NOISE_IK : GRASS_NOISE_XX);
        struct bytes number = {calloc(1, 4), 4};
        memcpy(number.bytes, &pattern, 4);
        put_field(&input, number);
        for (unsigned index = 0; index < 8; index++) put_field(&input, from_hex(values[index] ? values[index] : "-"));
        for (unsigned index = 0; index < count; index++) put_field(&input, from_hex(payloads[index]));
        struct bytes hash = from_hex(values[8]);
        put_bytes(&expected, hash.bytes, hash.length);
        free(hash.bytes);
        for (unsigned index = 0; index < count; index++) {
          struct bytes message = from_hex(messages[index]);
          put_bytes(&expected, message.bytes, message.length);
          free(message.bytes);
        }
        snprintf(vector.name, sizeof vector.name, "%s", name);
        vector.input = input.bytes, vector.input_length = input.length;
        vector.expected = expected.bytes, vector.expected_length = expected.length;
        put_vector(all, vector);
      }
      if (!string) break;
      name = string;
      memset(values, 0, sizeof values);
      count = 0;
      continue;
    }
    for (unsigned index = 0; index < 9; index++)
      if (strcmp(key, keys[index]) == 0) values[index] = string;
    if (strcmp(key, "payload") == 0 && count < 8) payloads[count] = string;
    if (strcmp(key, "ciphertext") == 0 && count < 8) messages[count++] = string;
  }
  free(text);
}

static struct vectors read_vectors(const char *folder) {
  struct vectors all = {0};
  read_plain_vectors(&all, folder);
  read_noise_vectors(&all, folder);
  return all;
}

static void free_vectors(struct vectors *all) {
  for (unsigned index = 0; index < all->count; index++) free(all->vectors[index].input), free(all->vectors[index].expected);
  free(all->vectors);
}

/// Null where the case gave what the vector says, else what is wrong. Of an HMAC's tag a vector may give only the
/// start.
static const char *judge(const struct vector *vector, int32_t result, const uint8_t *output, uint64_t length) {
  static char text[80];
  if (vector->refused) return result == GRASS_CASE_REFUSED ? NULL : "was not refused";
  if (result != GRASS_CASE_DONE) return snprintf(text, sizeof text, "result %d of the case", result), text;
  int is_cut = vector->operation == GRASS_CASE_HMAC && vector->expected_length == 16;
  if (length != vector->expected_length && !is_cut) return "another length came out";
  return memcmp(output, vector->expected, vector->expected_length) == 0 ? NULL : "something else came out";
}

/// How often the case iterates; 0 for others.
static uint32_t iterations(const struct vector *vector) {
  uint32_t count = 0;
  if (vector->operation == GRASS_CASE_X25519_ITERATED && vector->input_length == 8) memcpy(&count, vector->input + 4, 4);
  return count;
}
