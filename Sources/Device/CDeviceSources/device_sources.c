// The texts of the programs that run on devices: whoever compiles monitors has them with him, wherever his own files lie.

#include "device_sources.h"

static const unsigned char grass_h[] = {
#embed "../../../monitors/grass.h"
};
static const unsigned char kernel_h[] = {
#embed "../../../monitors/kernel.h"
};
static const unsigned char tasks_h[] = {
#embed "../../../monitors/tasks.h"
};
static const unsigned char grass_frame_h[] = {
#embed "../../Watched/CLayouts/include/grass_frame.h"
};
static const unsigned char records_cpu_h[] = {
#embed "../../../monitors/records/cpu.h"
};
static const unsigned char records_frames_h[] = {
#embed "../../../monitors/records/frames.h"
};
static const unsigned char records_life_h[] = {
#embed "../../../monitors/records/life.h"
};
static const unsigned char records_memory_h[] = {
#embed "../../../monitors/records/memory.h"
};
static const unsigned char records_panic_h[] = {
#embed "../../../monitors/records/panic.h"
};
static const unsigned char records_ps_h[] = {
#embed "../../../monitors/records/ps.h"
};
static const unsigned char records_search_h[] = {
#embed "../../../monitors/records/search.h"
};
static const unsigned char swift_window_h[] = {
#embed "../../../monitors/swift/window.h"
};
static const unsigned char detect_h[] = {
#embed "../../../monitors/detect.h"
};
static const unsigned char records_finding_h[] = {
#embed "../../../monitors/records/finding.h"
};
static const unsigned char log_h[] = {
#embed "../../../monitors/log.h"
};
static const unsigned char records_words_h[] = {
#embed "../../../monitors/records/words.h"
};
static const unsigned char detect_clock_c[] = {
#embed "../../../monitors/detect/clock.c"
};
static const unsigned char detect_panic_c[] = {
#embed "../../../monitors/detect/panic.c"
};
static const unsigned char detect_taint_c[] = {
#embed "../../../monitors/detect/taint.c"
};
static const unsigned char detect_memory_c[] = {
#embed "../../../monitors/detect/memory.c"
};
static const unsigned char detect_cpus_c[] = {
#embed "../../../monitors/detect/cpus.c"
};
static const unsigned char detect_tasks_c[] = {
#embed "../../../monitors/detect/tasks.c"
};
static const unsigned char detect_rcu_c[] = {
#embed "../../../monitors/detect/rcu.c"
};
static const unsigned char detect_shares_c[] = {
#embed "../../../monitors/detect/shares.c"
};
static const unsigned char detect_words_c[] = {
#embed "../../../monitors/detect/words.c"
};
static const unsigned char grass_runtime_h[] = {
#embed "../CRuntime/include/grass_runtime.h"
};
static const unsigned char grass_result_h[] = {
#embed "../../Between/CRegion/include/grass_result.h"
};
static const unsigned char grass_paging_h[] = {
#embed "../../Watched/CLayouts/include/grass_paging.h"
};
static const unsigned char grass_fault_h[] = {
#embed "../../Watched/CLayouts/include/grass_fault.h"
};
static const unsigned char grass_segment_h[] = {
#embed "../../Watched/CLayouts/include/grass_segment.h"
};
static const unsigned char grass_digest_h[] = {
#embed "../../Watched/CLayouts/include/grass_digest.h"
};
static const unsigned char grass_finding_h[] = {
#embed "../../Between/CRegion/include/grass_finding.h"
};
static const unsigned char grass_words_h[] = {
#embed "../../Between/CRegion/include/grass_words.h"
};
static const unsigned char runtime_c[] = {
#embed "../CRuntime/runtime.c"
};
static const unsigned char resident_c[] = {
#embed "../CMailbox/gpu/resident.c"
};
static const unsigned char grass_gpu_h[] = {
#embed "../CMailbox/include/grass_gpu.h"
};
static const unsigned char grass_mailbox_h[] = {
#embed "../CMailbox/include/grass_mailbox.h"
};
static const unsigned char grass_region_h[] = {
#embed "../../Between/CRegion/include/grass_region.h"
};
static const unsigned char grass_detect_h[] = {
#embed "../CMailbox/include/grass_detect.h"
};
static const unsigned char detect_c[] = {
#embed "../CMailbox/detect.c"
};
static const unsigned char grass_keyring_h[] = {
#embed "../CMailbox/include/grass_keyring.h"
};
static const unsigned char grass_chacha20_h[] = {
#embed "../../Between/CSeal/include/grass_chacha20.h"
};
static const unsigned char grass_noise_h[] = {
#embed "../../Between/CSeal/include/grass_noise.h"
};
static const unsigned char grass_poly1305_h[] = {
#embed "../../Between/CSeal/include/grass_poly1305.h"
};
static const unsigned char grass_random_h[] = {
#embed "../../Between/CSeal/include/grass_random.h"
};
static const unsigned char grass_seal_h[] = {
#embed "../../Between/CSeal/include/grass_seal.h"
};
static const unsigned char grass_session_h[] = {
#embed "../../Between/CSeal/include/grass_session.h"
};
static const unsigned char grass_sha256_h[] = {
#embed "../../Between/CSeal/include/grass_sha256.h"
};
static const unsigned char grass_wipe_h[] = {
#embed "../../Between/CSeal/include/grass_wipe.h"
};
static const unsigned char grass_x25519_h[] = {
#embed "../../Between/CSeal/include/grass_x25519.h"
};
static const unsigned char keyed_c[] = {
#embed "../CMailbox/gpu/keyed.c"
};
static const unsigned char keyring_c[] = {
#embed "../CMailbox/keyring.c"
};
static const unsigned char bytes_h[] = {
#embed "../../Between/CSeal/bytes.h"
};
static const unsigned char chacha20_c[] = {
#embed "../../Between/CSeal/chacha20.c"
};
static const unsigned char noise_c[] = {
#embed "../../Between/CSeal/noise.c"
};
static const unsigned char poly1305_c[] = {
#embed "../../Between/CSeal/poly1305.c"
};
static const unsigned char random_c[] = {
#embed "../../Between/CSeal/random.c"
};
static const unsigned char seal_c[] = {
#embed "../../Between/CSeal/seal.c"
};
static const unsigned char session_c[] = {
#embed "../../Between/CSeal/session.c"
};
static const unsigned char sha256_c[] = {
#embed "../../Between/CSeal/sha256.c"
};
static const unsigned char wipe_c[] = {
#embed "../../Between/CSeal/wipe.c"
};
static const unsigned char x25519_c[] = {
#embed "../../Between/CSeal/x25519.c"
};

static const struct grass_source sources[] = {
    {GRASS_FOR_MONITORS, "grass.h", grass_h, sizeof grass_h},
    {GRASS_FOR_MONITORS, "kernel.h", kernel_h, sizeof kernel_h},
    {GRASS_FOR_MONITORS, "tasks.h", tasks_h, sizeof tasks_h},
    {GRASS_FOR_MONITORS, "grass_frame.h", grass_frame_h, sizeof grass_frame_h},
    {GRASS_FOR_MONITORS, "records/cpu.h", records_cpu_h, sizeof records_cpu_h},
    {GRASS_FOR_MONITORS, "records/frames.h", records_frames_h, sizeof records_frames_h},
    {GRASS_FOR_MONITORS, "records/life.h", records_life_h, sizeof records_life_h},
    {GRASS_FOR_MONITORS, "records/memory.h", records_memory_h, sizeof records_memory_h},
    {GRASS_FOR_MONITORS, "records/panic.h", records_panic_h, sizeof records_panic_h},
    {GRASS_FOR_MONITORS, "records/ps.h", records_ps_h, sizeof records_ps_h},
    {GRASS_FOR_MONITORS, "records/search.h", records_search_h, sizeof records_search_h},
    {GRASS_FOR_MONITORS, "swift/window.h", swift_window_h, sizeof swift_window_h},
    {GRASS_FOR_MONITORS, "detect.h", detect_h, sizeof detect_h},
    {GRASS_FOR_MONITORS, "records/finding.h", records_finding_h, sizeof records_finding_h},
    {GRASS_FOR_MONITORS, "log.h", log_h, sizeof log_h},
    {GRASS_FOR_MONITORS, "records/words.h", records_words_h, sizeof records_words_h},
    {GRASS_DETECTOR, "detect_clock.c", detect_clock_c, sizeof detect_clock_c},
    {GRASS_DETECTOR, "detect_panic.c", detect_panic_c, sizeof detect_panic_c},
    {GRASS_DETECTOR, "detect_taint.c", detect_taint_c, sizeof detect_taint_c},
    {GRASS_DETECTOR, "detect_memory.c", detect_memory_c, sizeof detect_memory_c},
    {GRASS_DETECTOR, "detect_cpus.c", detect_cpus_c, sizeof detect_cpus_c},
    {GRASS_DETECTOR, "detect_tasks.c", detect_tasks_c, sizeof detect_tasks_c},
    {GRASS_DETECTOR, "detect_rcu.c", detect_rcu_c, sizeof detect_rcu_c},
    {GRASS_DETECTOR, "detect_shares.c", detect_shares_c, sizeof detect_shares_c},
    {GRASS_DETECTOR, "detect_words.c", detect_words_c, sizeof detect_words_c},
    {GRASS_FOR_PROGRAMS, "grass_runtime.h", grass_runtime_h, sizeof grass_runtime_h},
    {GRASS_FOR_PROGRAMS, "grass_result.h", grass_result_h, sizeof grass_result_h},
    {GRASS_FOR_PROGRAMS, "grass_paging.h", grass_paging_h, sizeof grass_paging_h},
    {GRASS_FOR_PROGRAMS, "grass_fault.h", grass_fault_h, sizeof grass_fault_h},
    {GRASS_FOR_PROGRAMS, "grass_segment.h", grass_segment_h, sizeof grass_segment_h},
    {GRASS_FOR_PROGRAMS, "grass_digest.h", grass_digest_h, sizeof grass_digest_h},
    {GRASS_FOR_PROGRAMS, "grass_finding.h", grass_finding_h, sizeof grass_finding_h},
    {GRASS_FOR_PROGRAMS, "grass_words.h", grass_words_h, sizeof grass_words_h},
    {GRASS_RUNTIME, "runtime.c", runtime_c, sizeof runtime_c},
    {GRASS_RESIDENT, "resident.c", resident_c, sizeof resident_c},
    {GRASS_RESIDENT, "grass_gpu.h", grass_gpu_h, sizeof grass_gpu_h},
    {GRASS_RESIDENT, "grass_mailbox.h", grass_mailbox_h, sizeof grass_mailbox_h},
    {GRASS_RESIDENT, "grass_region.h", grass_region_h, sizeof grass_region_h},
    {GRASS_RESIDENT, "grass_detect.h", grass_detect_h, sizeof grass_detect_h},
    {GRASS_RESIDENT, "detect.c", detect_c, sizeof detect_c},
    {GRASS_RESIDENT, "grass_keyring.h", grass_keyring_h, sizeof grass_keyring_h},
    {GRASS_RESIDENT, "grass_chacha20.h", grass_chacha20_h, sizeof grass_chacha20_h},
    {GRASS_RESIDENT, "grass_noise.h", grass_noise_h, sizeof grass_noise_h},
    {GRASS_RESIDENT, "grass_poly1305.h", grass_poly1305_h, sizeof grass_poly1305_h},
    {GRASS_RESIDENT, "grass_random.h", grass_random_h, sizeof grass_random_h},
    {GRASS_RESIDENT, "grass_seal.h", grass_seal_h, sizeof grass_seal_h},
    {GRASS_RESIDENT, "grass_session.h", grass_session_h, sizeof grass_session_h},
    {GRASS_RESIDENT, "grass_sha256.h", grass_sha256_h, sizeof grass_sha256_h},
    {GRASS_RESIDENT, "grass_wipe.h", grass_wipe_h, sizeof grass_wipe_h},
    {GRASS_RESIDENT, "grass_x25519.h", grass_x25519_h, sizeof grass_x25519_h},
    {GRASS_RESIDENT_KEYS, "keyed.c", keyed_c, sizeof keyed_c},
    {GRASS_RESIDENT_KEYS, "keyring.c", keyring_c, sizeof keyring_c},
    {GRASS_RESIDENT_KEYS, "bytes.h", bytes_h, sizeof bytes_h},
    {GRASS_RESIDENT_KEYS, "chacha20.c", chacha20_c, sizeof chacha20_c},
    {GRASS_RESIDENT_KEYS, "noise.c", noise_c, sizeof noise_c},
    {GRASS_RESIDENT_KEYS, "poly1305.c", poly1305_c, sizeof poly1305_c},
    {GRASS_RESIDENT_KEYS, "random.c", random_c, sizeof random_c},
    {GRASS_RESIDENT_KEYS, "seal.c", seal_c, sizeof seal_c},
    {GRASS_RESIDENT_KEYS, "session.c", session_c, sizeof session_c},
    {GRASS_RESIDENT_KEYS, "sha256.c", sha256_c, sizeof sha256_c},
    {GRASS_RESIDENT_KEYS, "wipe.c", wipe_c, sizeof wipe_c},
    {GRASS_RESIDENT_KEYS, "x25519.c", x25519_c, sizeof x25519_c},
};

const struct grass_source *grass_sources(unsigned long *count) {
  *count = sizeof sources / sizeof sources[0];
  return sources;
}
