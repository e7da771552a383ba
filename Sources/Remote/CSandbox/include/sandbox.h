// A program in namespaces of its own, whose questions about its host are answered by who started it: what of that Swift cannot
// do, since it happens between fork and exec, or by calls that Swift's importer does not see.
#pragma once

#include <seccomp.h>
#include <stdint.h>
#include <sys/types.h>

/// Something to mount before the program starts.
struct grass_sandbox_mount {
  /// What is mounted: a file or a folder, or null for an empty file system in memory.
  const char *source;
  /// Where. A file that is not there is made where its folder can be written; elsewhere nothing is mounted.
  const char *target;
};

struct grass_sandbox {
  /// The program's path or name, and what it is told; null at the end.
  char *const *command;
  const struct grass_sandbox_mount *mounts;
  uint32_t mount_count;
  /// Where the program finds the /proc of itself and of what it starts.
  const char *own_processes;
  /// Where the program begins.
  const char *working_folder;
  const char *node_name, *domain_name;
  /// The filter, as `seccomp_export_bpf` writes it.
  const void *filter;
  uint32_t filter_bytes;
  /// The process ID that the program is to have where the kernel can be told; the numbers of what it starts follow.
  int32_t process_id;
  /// Nanoseconds that CLOCK_MONOTONIC and CLOCK_BOOTTIME show the program when it starts, where the kernel can be told.
  int64_t monotonic_time, boot_time;
};

enum grass_sandbox_event {
  GRASS_SANDBOX_FAILED = 1,   // `value` is errno, `stage` what failed.
  GRASS_SANDBOX_STARTED = 2,  // `file` is where the program's questions arrive.
  GRASS_SANDBOX_ENDED = 3,    // `value` is what `waitpid` said of the program.
};

/// What the sandbox says of itself.
struct grass_sandbox_message {
  int32_t event;  // `grass_sandbox_event`
  int32_t value;
  char stage[48];
};

/// Starts the first process of new user, mount, PID, UTS, IPC, network and time namespaces, which prepares them and starts the
/// program. All of them end with the thread that calls. Messages arrive at `*channel`, which the caller closes. Returns that
/// process's ID, of which the caller waits for the end, or -1 and errno.
pid_t grass_sandbox_start(const struct grass_sandbox *sandbox, int *channel);

/// Takes the next message. Returns 1, 0 where no more will come, or -1 and errno; `*file` is -1, or what came along.
int grass_sandbox_receive(int channel, struct grass_sandbox_message *message, int *file);

/// Reads or writes the memory of the process that asks. Returns how many bytes, or -1 and errno. The corresponding C functions are
/// `process_vm_readv` and `process_vm_writev`.
int64_t grass_sandbox_peek(pid_t process, uint64_t address, void *bytes, uint64_t count);
int64_t grass_sandbox_poke(pid_t process, uint64_t address, const void *bytes, uint64_t count);

/// Gives the process that asks `file` as its answer: as its file `wanted`, or a number of its choice where that is -1. It is
/// closed when the process executes something else where `closes` is not 0. Returns the number, or -1 and errno.
int grass_sandbox_give(int listener, uint64_t question, int file, int wanted, int closes);

/// Answers the process that asks by giving it `file`, of which it gets the number. Returns that, or -1 and errno: EINVAL from
/// kernels before 5.14, to which the number has to be answered.
int grass_sandbox_answer(int listener, uint64_t question, int file, int closes);

/// Has questions and answers at `listener` take turns on one processor: who asks waits for the answer anyway, and is spared waking
/// another one. Kernels before 6.6 do not know how.
void grass_sandbox_take_turns(int listener);

/// Makes two ends of a conversation by messages. What is sent by `*here` comes to `*there` as if Linux itself had sent it by
/// netlink; `number`, of at most 40 bits, is of this pair alone. Returns 0, or -1 and errno: EADDRINUSE where it is not.
int grass_sandbox_netlink(uint64_t number, int *here, int *there);

/// Gives the calling thread a list of mounts of its own, of which others see nothing. Returns 0, or -1 and errno. The corresponding
/// C function is `unshare`.
int grass_sandbox_leave_mounts(void);

/// Opens a folder as a place that others are named from, no more; -1 and errno. The corresponding C function is `open`.
int grass_sandbox_place(const char *path);

/// Opens a file of which nothing is ever to be read; -1 and errno. The corresponding C function is `eventfd`.
int grass_sandbox_silence(void);

/// A number of Linux for `action` and `op` of libseccomp, which are macros with casts.
static inline uint32_t grass_seccomp_allow(void) { return SCMP_ACT_ALLOW; }
static inline uint32_t grass_seccomp_notify(void) { return SCMP_ACT_NOTIFY; }
static inline uint32_t grass_seccomp_error(uint16_t code) { return SCMP_ACT_ERRNO(code); }
static inline uint32_t grass_seccomp_continue(void) { return SECCOMP_USER_NOTIF_FLAG_CONTINUE; }
