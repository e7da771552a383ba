#include "grass_keyring.h"

#include "grass_wipe.h"

/// Kept once in the program, as in the core of sessions' keys: a GPU's driver compiles the program at each start.
#define APART __attribute__((noinline)) static

static void copy(void *to, const void *from, uint64_t count) {
  for (uint64_t index = 0; index < count; index++) ((uint8_t *)to)[index] = ((const uint8_t *)from)[index];
}

/// Whether two public keys are the same; they are no secret.
static bool is_same(const uint8_t *one, const uint8_t *other) {
  for (unsigned index = 0; index < 32; index++)
    if (one[index] != other[index]) return false;
  return true;
}

/// After how long without a request whoever has a slot may be gone, in nanoseconds.
#define GONE_NS 1000000000ull

/// How many sessions of slots below one are tried that its own does not open.
#define MOST_NEIGHBOURS 4u

/// A number without its epoch.
static uint64_t number_of(uint64_t sequence) { return sequence & ((1ull << GRASS_EPOCH_SHIFT) - 1); }

/// Whether more than `span` nanoseconds have passed: none where the clock was read in another order than it is used.
static bool is_past(uint64_t now, uint64_t since, uint64_t span) {
  return (int64_t)(now - since) > 0 && now - since > span;
}

// MARK: - What happened

APART void note(
    struct grass_keyring *keyring, uint32_t kind, uint32_t rights, const uint8_t *key, const uint8_t *by, const char *comment,
    const struct grass_session_state *session) {
  struct grass_key_events *events = keyring->beside.events;
  uint64_t put = keyring->event_put;
  if (put - grass_load(&events->taken) >= GRASS_KEY_EVENTS) {
    grass_store(&events->lost, grass_load(&events->lost) + 1);
    return;
  }
  struct grass_key_event *event = &events->entries[put % GRASS_KEY_EVENTS];
  *event = (struct grass_key_event){.kind = kind, .rights = rights};
  copy(event->key, key, sizeof event->key);
  if (by) copy(event->by, by, sizeof event->by);
  if (session) event->read = session->read, event->runs = session->runs;
  if (comment) copy(event->comment, comment, sizeof event->comment);
  keyring->event_put = put + 1;
  grass_store(&events->put, put + 1);
}

#if !defined(__NVPTX__)
bool grass_key_events_take(struct grass_key_events *events, struct grass_key_event *event) {
  uint64_t taken = events->taken;
  if (taken == grass_load(&events->put)) return false;
  *event = events->entries[taken % GRASS_KEY_EVENTS];
  grass_store(&events->taken, taken + 1);
  return true;
}
#endif

// MARK: - The list of keys

APART struct grass_key_line *find(struct grass_keyring *keyring, const uint8_t *key) {
  struct grass_key_list *list = keyring->beside.list;
  for (uint32_t index = 0; index < list->count; index++)
    if (is_same(list->lines[index].key, key)) return &list->lines[index];
  return 0;
}

APART bool is_over(const struct grass_keyring *keyring, const struct grass_key_line *line, uint64_t now) {
  return line->expiry && (now + keyring->utc_offset) / 1000000000ull >= line->expiry;
}

/// Makes a new key for what is said to all, which those that are not in the list any more do not have.
APART void renew_group(struct grass_keyring *keyring) {
  struct grass_group *group = keyring->beside.group;
  uint64_t next = group->generation + 1;
  grass_random_fill(&keyring->random, group->keys[next % GRASS_GROUP_KEYS], 32);
  grass_store(&group->generation, next);
}

APART void end(struct grass_keyring *keyring, uint32_t session) {
  struct grass_session_state *state = &keyring->sessions[session];
  if (state->is_live && state->rights) {
    const struct grass_key_line *line = find(keyring, state->key);
    note(keyring, GRASS_KEY_EVENT_END, state->rights, state->key, 0, line ? line->comment : 0, state);
  }
  grass_wipe(state, sizeof *state);
  for (uint32_t slot = 0; slot < keyring->slot_count; slot++)
    if (keyring->owners[slot] == session) keyring->owners[slot] = GRASS_NO_SESSION;
}

/// Gives the sessions of a key the rights that it has now, and its line. Those that it takes all rights end.
APART void apply(struct grass_keyring *keyring, const uint8_t *key, uint32_t rights, uint64_t line) {
  for (uint32_t slot = 0; slot < keyring->slot_count; slot++) {
    struct grass_session_state *waiting = &keyring->doors[slot].waiting;
    if (waiting->keys.epoch && is_same(waiting->key, key)) {
      waiting->rights = rights;
      waiting->line = line;
    }
    struct grass_session_state *state = &keyring->sessions[slot];
    if (!state->is_live || !is_same(state->key, key)) continue;
    state->line = line;
    if (rights) state->rights = rights;
    else end(keyring, slot);
  }
}

/// The number of a line of the list; GRASS_NO_LINE for none.
static uint64_t index_of(const struct grass_keyring *keyring, const struct grass_key_line *line) {
  return line ? (uint64_t)(line - keyring->beside.list->lines) : GRASS_NO_LINE;
}

APART void remove_line(struct grass_keyring *keyring, struct grass_key_line *line) {
  struct grass_key_line gone = *line;
  struct grass_key_list *list = keyring->beside.list;
  // The last one takes its place.
  uint64_t last = --list->count, index = index_of(keyring, line);
  *line = list->lines[last];
  list->uses[index] = list->uses[last];
  apply(keyring, gone.key, 0, GRASS_NO_LINE);
  if (index != last) apply(keyring, line->key, line->rights, index);
  if (gone.rights & GRASS_RIGHT_WATCH) keyring->is_group_stale = true;
}

uint32_t grass_keyring_set(struct grass_keyring *keyring, uint32_t action, const struct grass_key_line *line, const uint8_t *by) {
  struct grass_key_line *old = find(keyring, line->key);
  if (action == GRASS_KEY_REMOVE) {
    if (!old) return GRASS_BAD_KEY;
    note(keyring, GRASS_KEY_EVENT_REMOVED, old->rights, old->key, by, old->comment, 0);
    remove_line(keyring, old);
    return GRASS_OK;
  }
  uint8_t any = 0;
  for (unsigned index = 0; index < sizeof line->key; index++) any |= line->key[index];
  // It is shown to people.
  bool has_ended = false, is_plain = true;
  for (unsigned index = 0; index < sizeof line->comment; index++) {
    uint8_t byte = (uint8_t)line->comment[index];
    if (byte == 0) has_ended = true;
    else is_plain &= !has_ended && byte >= 0x20 && byte != 0x7f;
  }
  if (action != GRASS_KEY_ADD || line->reserved || !line->rights || line->rights & ~GRASS_ALL_RIGHTS || !any ||
      !is_plain)
    return GRASS_BAD_FIELD;
  struct grass_key_list *list = keyring->beside.list;
  if (!old && list->count == GRASS_MAX_KEYS) return GRASS_BAD_KEY;
  bool loses = old && old->rights & ~line->rights & GRASS_RIGHT_WATCH;
  note(keyring, old ? GRASS_KEY_EVENT_CHANGED : GRASS_KEY_EVENT_ADDED, line->rights, line->key, by, line->comment, 0);
  if (!old) {
    list->uses[list->count] = (struct grass_key_use){0};
    old = &list->lines[list->count++];
  }
  *old = *line;
  apply(keyring, line->key, line->rights, index_of(keyring, old));
  if (loses) keyring->is_group_stale = true;
  return GRASS_OK;
}

static bool is_same_line(const struct grass_key_line *one, const struct grass_key_line *other) {
  const uint8_t *first = (const uint8_t *)one, *second = (const uint8_t *)other;
  for (uint64_t index = 0; index < sizeof *one; index++)
    if (first[index] != second[index]) return false;
  return true;
}

void grass_keyring_replace(struct grass_keyring *keyring, const struct grass_key_list *list) {
  struct grass_key_list *own = keyring->beside.list;
  uint32_t count = list->count < GRASS_MAX_KEYS ? list->count : GRASS_MAX_KEYS;
  for (uint32_t index = 0; index < own->count;) {
    bool stays = false;
    for (uint32_t other = 0; other < count && !stays; other++) stays = is_same(own->lines[index].key, list->lines[other].key);
    // The last line takes the place of one that goes.
    if (stays) index++;
    else grass_keyring_set(keyring, GRASS_KEY_REMOVE, &own->lines[index], 0);
  }
  for (uint32_t index = 0; index < count; index++) {
    struct grass_key_line line = list->lines[index];
    const struct grass_key_line *old = find(keyring, line.key);
    if (!old || !is_same_line(old, &line)) grass_keyring_set(keyring, GRASS_KEY_ADD, &line, 0);
  }
}

// MARK: - Sessions

void grass_keyring_start(
    struct grass_keyring *keyring, struct grass_keyring_places beside, const struct grass_header *layout, const uint8_t private_key[32], const uint8_t seed[64],
    uint64_t utc_offset, uint64_t now) {
  grass_wipe(keyring, sizeof *keyring);
  grass_random_mix(&keyring->random, seed, 64);
  uint8_t own[32];
  if (private_key) copy(own, private_key, sizeof own);
  else grass_random_fill(&keyring->random, own, sizeof own);
  grass_make_key_pair(&keyring->identity, own);
  grass_wipe(own, sizeof own);
  keyring->prologue = *layout;
  keyring->utc_offset = utc_offset;
  keyring->beside = beside;
  keyring->event_put = grass_load(&beside.events->put);
  keyring->slot_count = layout->slot_count;
  keyring->swept = now;
  for (uint32_t slot = 0; slot < GRASS_KEYRING_SLOTS; slot++) keyring->owners[slot] = GRASS_NO_SESSION;
  if (!beside.group->generation) renew_group(keyring);
}

struct grass_session_state *grass_keyring_session(struct grass_keyring *keyring, uint32_t slot) {
  uint32_t owner = keyring->owners[slot];
  return owner == GRASS_NO_SESSION ? 0 : &keyring->sessions[owner];
}

/// Takes a slot out of the session that has it. Whoever repeats that session's records there does not get it back.
APART void leave(struct grass_keyring *keyring, uint32_t slot) {
  struct grass_session_state *state = grass_keyring_session(keyring, slot);
  if (state) state->floor = state->highest;
  keyring->owners[slot] = GRASS_NO_SESSION;
  keyring->doors[slot].last = 0;
}

void grass_keyring_release(struct grass_keyring *keyring, uint32_t slot) {
  if (keyring->sessions[slot].is_live) end(keyring, slot);
  leave(keyring, slot);
  grass_wipe(&keyring->doors[slot], sizeof keyring->doors[slot]);
}

/// Goes on to the next epoch. Where there is none, the session has come to its end.
APART void advance(struct grass_keyring *keyring, uint32_t session, uint64_t now) {
  struct grass_session_state *state = &keyring->sessions[session];
  if (!grass_session_keys_next(&state->keys)) {
    end(keyring, session);
    return;
  }
  state->records = 0;
  state->epoch_since = now;
}

void grass_keyring_sweep(struct grass_keyring *keyring, uint64_t now) {
  if (!is_past(now, keyring->swept, GRASS_SWEEP_NS)) return;
  keyring->swept = now;
  for (uint32_t index = 0; index < keyring->beside.list->count;) {
    struct grass_key_line *line = &keyring->beside.list->lines[index];
    if (!is_over(keyring, line, now)) {
      index++;
      continue;
    }
    note(keyring, GRASS_KEY_EVENT_EXPIRED, line->rights, line->key, 0, line->comment, 0);
    remove_line(keyring, line);
  }
  for (uint32_t slot = 0; slot < keyring->slot_count; slot++) {
    struct grass_session_state *state = &keyring->sessions[slot], *waiting = &keyring->doors[slot].waiting;
    if (waiting->keys.epoch && is_past(now, waiting->used, GRASS_EPOCH_NS)) grass_wipe(waiting, sizeof *waiting);
    if (!state->is_live) continue;
    if (is_past(now, state->used, GRASS_SESSION_NS)) {
      end(keyring, slot);
    } else if (is_past(now, state->epoch_since, GRASS_EPOCH_NS)) {
      // An epoch without a record has nothing to forget: who was silent for long is one epoch behind, and not many.
      if (state->records) advance(keyring, slot, now);
      else grass_session_keys_forget(&state->keys);
    }
  }
}

// MARK: - Handshakes

void grass_keyring_tell(struct grass_keyring *keyring, uint64_t now) {
  keyring->round++;
  // One for all keys that were taken out together.
  if (keyring->is_group_stale) {
    keyring->is_group_stale = false;
    renew_group(keyring);
  }
  if (keyring->has_handshake) {
    keyring->has_handshake = false;
    uint64_t took = is_past(now, keyring->handshake_began, 0) ? now - keyring->handshake_began : 0;
    if (took > GRASS_HANDSHAKE_NS) took = GRASS_HANDSHAKE_NS;
    keyring->handshake_next = now + (GRASS_HANDSHAKE_SHARE - 1) * took;
    return;
  }
  // A whole round in which nobody from this slot on wanted one: the others have their turn.
  if (keyring->handshake_next == 0) keyring->handshake_slot = 0;
  else if (now >= keyring->handshake_next) keyring->handshake_next = 0;
}

bool grass_keyring_may_shake(struct grass_keyring *keyring, uint32_t slot) {
  return !keyring->has_handshake && keyring->handshake_next == 0 && slot >= keyring->handshake_slot;
}

/// Makes a session of a handshake that has ended, which waits until somebody shows that he has its keys.
APART void make_session(struct grass_keyring *keyring, uint32_t slot, uint64_t now) {
  struct grass_door *door = &keyring->doors[slot];
  struct grass_session_state *waiting = &door->waiting;
  struct grass_cipher send, receive;
  grass_wipe(waiting, sizeof *waiting);
  if (grass_noise_split(&door->noise, &send, &receive) == GRASS_NOISE_OK) {
    grass_session_keys_start(&waiting->keys, receive.key, send.key, door->noise.hash);
    copy(waiting->key, door->noise.remote_static, sizeof waiting->key);
    const struct grass_key_line *line = find(keyring, waiting->key);
    waiting->rights = line && !is_over(keyring, line, now) ? line->rights : 0;
    waiting->line = index_of(keyring, line);
    waiting->used = waiting->epoch_since = now;
  }
  grass_wipe(&send, sizeof send);
  grass_wipe(&receive, sizeof receive);
  grass_noise_wipe(&door->noise);
}

static uint64_t refuse_handshake(struct grass_keyring *keyring, uint8_t *to) {
  struct grass_response response = {.operation = GRASS_HANDSHAKE, .status = GRASS_BAD_HANDSHAKE};
  copy(to, &response, sizeof response);
  keyring->refused++;
  return sizeof response;
}

uint64_t grass_keyring_handshake(
    struct grass_keyring *keyring, uint32_t slot, const uint8_t *payload, uint64_t length, uint8_t *to, uint64_t capacity,
    uint64_t now) {
  struct grass_request request;
  struct grass_response response = {.operation = GRASS_HANDSHAKE};
  keyring->has_handshake = true;
  keyring->handshake_began = now;
  keyring->handshake_slot = slot + 1;
  if (length < sizeof request) return refuse_handshake(keyring, to);
  copy(&request, payload, sizeof request);
  // In the field of a gather's format lies which message of the handshake it is.
  bool is_first = request.format == 0;
  if (request.operation != GRASS_HANDSHAKE || (request.count != GRASS_NOISE_XX && request.count != GRASS_NOISE_IK) ||
      request.reserved || (!is_first && (request.format != 2 || request.count != GRASS_NOISE_XX)))
    return refuse_handshake(keyring, to);
  struct grass_noise *noise = &keyring->doors[slot].noise;
  if (is_first) {
    struct grass_key_pair ephemeral;
    uint8_t random[32];
    grass_random_fill(&keyring->random, random, sizeof random);
    grass_make_key_pair(&ephemeral, random);
    uint32_t error = grass_noise_start(
        noise, request.count, GRASS_NOISE_RESPONDER, (const uint8_t *)&keyring->prologue, sizeof keyring->prologue,
        &keyring->identity, &ephemeral, 0, 0);
    grass_wipe(random, sizeof random);
    grass_wipe(&ephemeral, sizeof ephemeral);
    if (error != GRASS_NOISE_OK) return refuse_handshake(keyring, to);
  }
  uint8_t text[GRASS_MAX_CERTIFICATE];
  uint64_t text_length = 0, written = 0;
  if (grass_noise_read(noise, payload + sizeof request, length - sizeof request, text, sizeof text, &text_length) != GRASS_NOISE_OK)
    return refuse_handshake(keyring, to);
  if (!grass_noise_has_ended(noise) &&
      grass_noise_write(
          noise, keyring->certificate, keyring->certificate_length, to + sizeof response, capacity - sizeof response, &written) !=
          GRASS_NOISE_OK)
    return refuse_handshake(keyring, to);
  if (grass_noise_has_ended(noise)) make_session(keyring, slot, now);
  response.count = (uint32_t)written;
  copy(to, &response, sizeof response);
  return sizeof response + written;
}

// MARK: - What a key may have

/// Whether what is due at a time is further off than what may be had at once.
static bool is_ahead(uint64_t due, uint64_t now) { return is_past(due, now, GRASS_BURST_NS); }

bool grass_keyring_may_ask(const struct grass_keyring *keyring, uint32_t slot, uint64_t now) {
  uint32_t owner = keyring->owners[slot];
  if (owner == GRASS_NO_SESSION) return true;
  uint64_t index = keyring->sessions[owner].line;
  const struct grass_key_list *list = keyring->beside.list;
  if (index >= list->count) return true;
  const struct grass_key_use *use = &list->uses[index];
  const struct grass_key_line *line = &list->lines[index];
  if (use->round == keyring->round && use->bytes >= GRASS_ROUND_BYTES) return false;
  return !(line->requests && is_ahead(use->requests_due, now)) && !(line->kibibytes && is_ahead(use->bytes_due, now));
}

/// Moves on when a key will have been due to have `amount` more, of which it may have `rate` in a second.
static uint64_t later(uint64_t due, uint64_t now, uint64_t amount, uint64_t rate) {
  return (is_past(due, now, 0) ? due : now) + amount * 1000000000ull / rate;
}

void grass_keyring_charge(struct grass_keyring *keyring, uint32_t slot, uint64_t requests, uint64_t bytes, uint64_t now) {
  uint32_t owner = keyring->owners[slot];
  if (owner == GRASS_NO_SESSION) return;
  uint64_t index = keyring->sessions[owner].line;
  struct grass_key_list *list = keyring->beside.list;
  if (index >= list->count) return;
  struct grass_key_use *use = &list->uses[index];
  const struct grass_key_line *line = &list->lines[index];
  if (use->round != keyring->round) {
    use->round = keyring->round;
    use->bytes = 0;
  }
  use->bytes += bytes;
  // No request has more bytes than 32 bits hold: nothing overflows.
  if (line->requests && requests) use->requests_due = later(use->requests_due, now, requests, line->requests);
  if (line->kibibytes && bytes) use->bytes_due = later(use->bytes_due, now, bytes, (uint64_t)line->kibibytes << 10);
}

// MARK: - Records

/// Whether a record opens under a session's keys: those of its epoch, or of the next one, which who sealed it has begun.
APART bool opens(const struct grass_session_keys *keys, uint32_t slot, const struct grass_record *head, uint8_t *payload) {
  uint32_t epoch = (uint32_t)grass_epoch(head->sequence);
  const struct grass_epoch_keys *of = grass_session_keys_of(keys, epoch);
  if (of)
    return grass_record_open_payload(
        of->request, keys->token, slot, head->sequence, payload, head->length, (const uint8_t *)head->check, payload);
  if (keys->epoch == 0 || epoch != keys->epoch + 1) return false;
  struct grass_session_keys next = *keys;
  bool is_right = grass_session_keys_next(&next) &&
                  grass_record_open_payload(
                      next.now.request, next.token, slot, head->sequence, payload, head->length, (const uint8_t *)head->check,
                      payload);
  grass_wipe(&next, sizeof next);
  return is_right;
}

bool grass_keyring_open(
    struct grass_keyring *keyring, uint32_t slot, const struct grass_record *head, uint8_t *payload, struct grass_opened *opened) {
  uint64_t number = number_of(head->sequence);
  struct grass_door *door = &keyring->doors[slot];
  *opened = (struct grass_opened){.session = keyring->owners[slot], .sequence = head->sequence};
  const struct grass_session_state *owner = grass_keyring_session(keyring, slot);
  if (owner && number > door->last && opens(&owner->keys, slot, head, payload)) return true;
  // A client's slots are neighbours, and its session is that of the first: also where others, who are gone by now, had sessions in
  // some of them.
  uint32_t tried = 0;
  for (uint32_t first = slot + 1; first-- > 0 && tried < MOST_NEIGHBOURS;) {
    const struct grass_session_state *state = &keyring->sessions[first];
    if (!state->is_live || state == owner) continue;
    tried++;
    if (number > state->floor && opens(&state->keys, slot, head, payload)) {
      opened->session = first;
      return true;
    }
  }
  // Whom nobody lets in takes no slot from whom somebody does, unless that one is gone: who only reads makes his session anew.
  bool may_enter =
      door->waiting.rights || !owner || !owner->rights || is_past(keyring->swept, owner->used, GONE_NS);
  if (door->waiting.keys.epoch && may_enter && opens(&door->waiting.keys, slot, head, payload)) {
    opened->session = slot;
    opened->is_waiting = true;
    return true;
  }
  keyring->dropped++;
  return false;
}

void grass_keyring_accept(struct grass_keyring *keyring, uint32_t slot, const struct grass_opened *opened, uint64_t now) {
  struct grass_door *door = &keyring->doors[slot];
  uint64_t number = number_of(opened->sequence);
  if (opened->is_waiting) {
    if (keyring->sessions[slot].is_live) end(keyring, slot);
    leave(keyring, slot);
    struct grass_session_state *state = &keyring->sessions[slot];
    *state = door->waiting;
    grass_wipe(&door->waiting, sizeof door->waiting);
    state->is_live = true;
    state->epoch_since = now;
    const struct grass_key_line *line = find(keyring, state->key);
    // Strangers make as many as they like: of theirs some are told, lest they push out what else happened.
    if (state->rights || is_past(now, keyring->refusal_told, GRASS_REFUSAL_NS)) {
      if (!state->rights) keyring->refusal_told = now;
      note(keyring, GRASS_KEY_EVENT_SESSION, state->rights, state->key, 0, line ? line->comment : 0, 0);
    }
  }
  if (keyring->owners[slot] != opened->session) {
    leave(keyring, slot);
    // A session that was another's own slot's has no other way back.
    if (opened->session != slot && keyring->sessions[slot].is_live) end(keyring, slot);
  }
  keyring->owners[slot] = opened->session;
  struct grass_session_state *state = &keyring->sessions[opened->session];
  door->last = number;
  if (number > state->highest) state->highest = number;
  state->used = now;
  state->records++;
  if (grass_epoch(opened->sequence) > state->keys.epoch) advance(keyring, opened->session, now);
  else if (state->records >= GRASS_EPOCH_RECORDS) advance(keyring, opened->session, now);
}

const uint8_t *grass_keyring_response_key(
    const struct grass_keyring *keyring, uint32_t slot, uint64_t sequence, uint64_t *token) {
  uint32_t owner = keyring->owners[slot];
  if (owner == GRASS_NO_SESSION) return 0;
  const struct grass_session_keys *keys = &keyring->sessions[owner].keys;
  const struct grass_epoch_keys *of = grass_session_keys_of(keys, (uint32_t)grass_epoch(sequence));
  *token = keys->token;
  return of ? of->response : 0;
}

const uint8_t *grass_keyring_request_key(
    const struct grass_keyring *keyring, uint32_t slot, uint64_t sequence, uint64_t *token) {
  uint32_t owner = keyring->owners[slot];
  if (owner == GRASS_NO_SESSION || number_of(sequence) <= keyring->doors[slot].last) return 0;
  const struct grass_session_keys *keys = &keyring->sessions[owner].keys;
  const struct grass_epoch_keys *of = grass_session_keys_of(keys, (uint32_t)grass_epoch(sequence));
  *token = keys->token;
  return of ? of->request : 0;
}

struct grass_next_record grass_keyring_next(const struct grass_keyring *keyring, uint32_t slot) {
  uint32_t owner = keyring->owners[slot];
  if (owner == GRASS_NO_SESSION) return (struct grass_next_record){0};
  const struct grass_session_state *state = &keyring->sessions[owner];
  if (!(state->rights & GRASS_RIGHT_WATCH) || state->keys.epoch == 0) return (struct grass_next_record){0};
  uint64_t number = number_of(keyring->doors[slot].last + 1);
  return (struct grass_next_record){
      .request = state->keys.now.request,
      .response = state->keys.now.response,
      .token = state->keys.token,
      .sequence = number | (uint64_t)state->keys.epoch << GRASS_EPOCH_SHIFT,
  };
}

bool grass_keyring_seal(
    struct grass_keyring *keyring, uint32_t slot, uint64_t sequence, uint8_t *payload, uint64_t length, uint64_t check[2]) {
  uint64_t token;
  const uint8_t *key = grass_keyring_response_key(keyring, slot, sequence, &token);
  if (!key) return false;
  grass_record_seal_payload(key, token, slot, sequence, payload, length, payload, (uint8_t *)check);
  return true;
}

bool grass_keyring_line(struct grass_keyring *keyring, uint32_t slot, struct grass_session_line *line) {
  const struct grass_session_state *state = &keyring->sessions[slot];
  if (!state->is_live || !state->rights) return false;
  line->counter = number_of(line->counter) | (uint64_t)state->keys.epoch << GRASS_EPOCH_SHIFT;
  line->counter_end = line->counter;
  uint64_t size = offsetof(struct grass_session_line, check) - sizeof line->counter;
  uint8_t *text = (uint8_t *)line + sizeof line->counter;
  // Who may not watch sees that his session lives, and nothing else.
  if (!(state->rights & GRASS_RIGHT_WATCH))
    for (uint64_t index = sizeof line->clock; index < size; index++) text[index] = 0;
  grass_record_seal_payload(
      state->keys.now.line, state->keys.token, GRASS_LINE_SLOT, line->counter, text, size, text, (uint8_t *)line->check);
  return true;
}

// MARK: - Questions about keys

static uint64_t answer_session(struct grass_keyring *keyring, const struct grass_session_state *state, uint8_t *to, uint64_t now) {
  const struct grass_key_line *line = find(keyring, state->key);
  struct grass_response response = {.operation = GRASS_SESSION};
  struct grass_session_answer answer = {
      .rights = state->rights, .expiry = line ? line->expiry : 0, .utc = now + keyring->utc_offset};
  uint64_t size = sizeof response + sizeof answer;
  if (state->rights & GRASS_RIGHT_WATCH) {
    const struct grass_group *group = keyring->beside.group;
    uint64_t newest = group->generation, count = newest < GRASS_GROUP_KEYS ? newest : GRASS_GROUP_KEYS;
    for (uint64_t generation = newest - count + 1; generation <= newest; generation++, response.count++) {
      struct grass_group_key key = {.generation = generation};
      copy(key.key, group->keys[generation % GRASS_GROUP_KEYS], sizeof key.key);
      copy(to + size, &key, sizeof key);
      grass_wipe(&key, sizeof key);
      size += sizeof key;
    }
  }
  copy(to, &response, sizeof response);
  copy(to + sizeof response, &answer, sizeof answer);
  return size;
}

uint64_t grass_keyring_answer(
    struct grass_keyring *keyring, uint32_t slot, const struct grass_request *request, const uint8_t *payload, uint64_t length,
    uint8_t *to, uint64_t capacity, uint64_t now) {
  struct grass_response response = {.operation = request->operation};
  const struct grass_session_state *state = grass_keyring_session(keyring, slot);
  uint64_t size = sizeof response;
  bool is_plain = request->operation == GRASS_SESSION || request->operation == GRASS_KEYS;
  if (!state) response.status = GRASS_NOT_ALLOWED;
  else if (is_plain && length) response.status = GRASS_BAD_LENGTH;
  else if (is_plain ? !grass_request_is_plain(request) : (request->format | request->reserved) != 0)
    response.status = GRASS_BAD_FIELD;
  if (response.status) {
    copy(to, &response, sizeof response);
    return size;
  }
  switch (request->operation) {
  case GRASS_SESSION:
    if (capacity < size + sizeof(struct grass_session_answer) + GRASS_GROUP_KEYS * sizeof(struct grass_group_key)) break;
    return answer_session(keyring, state, to, now);
  case GRASS_KEYS: {
    const struct grass_key_list *list = keyring->beside.list;
    uint64_t count = list->count * sizeof list->lines[0];
    if (capacity < size + count) break;
    response.count = list->count;
    copy(to + size, list->lines, count);
    copy(to, &response, sizeof response);
    return size + count;
  }
  case GRASS_SET_KEY: {
    struct grass_key_request change;
    if (length != sizeof change || request->count) {
      response.status = GRASS_BAD_LENGTH;
    } else {
      copy(&change, payload, sizeof change);
      // Who removed his own key would hear no answer; another's admin key does it.
      if (change.action == GRASS_KEY_REMOVE && is_same(change.line.key, state->key)) response.status = GRASS_NOT_ALLOWED;
      else if (change.reserved) response.status = GRASS_BAD_FIELD;
      else response.status = grass_keyring_set(keyring, change.action, &change.line, state->key);
    }
    copy(to, &response, sizeof response);
    return size;
  }
  case GRASS_CERTIFY:
    if (length != request->count || length > sizeof keyring->certificate) {
      response.status = GRASS_BAD_LENGTH;
    } else {
      copy(keyring->certificate, payload, length);
      keyring->certificate_length = (uint32_t)length;
      note(keyring, GRASS_KEY_EVENT_CERTIFIED, state->rights, keyring->identity.public_key, state->key, 0, 0);
    }
    copy(to, &response, sizeof response);
    return size;
  default: break;
  }
  response.status = GRASS_TOO_LARGE;
  copy(to, &response, sizeof response);
  return size;
}

// MARK: - What is said to all

struct grass_group_place grass_group_next(const struct grass_group *group, uint64_t *editions) {
  return (struct grass_group_place){
      .generation = grass_load(&group->generation), .edition = ++*editions};
}

void grass_group_seal(
    const struct grass_group *group, struct grass_group_place place, uint32_t kind, uint64_t number, uint8_t *text, uint64_t length,
    uint64_t check[2]) {
  grass_record_seal_payload(
      group->keys[place.generation % GRASS_GROUP_KEYS], number, kind, place.edition, text, length, text, (uint8_t *)check);
}
