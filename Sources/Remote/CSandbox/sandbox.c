#define _GNU_SOURCE
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t start(uint64_t flags) {
  struct clone_args arguments = {.flags = flags, .exit_signal = SIGCHLD};
  return (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
}

static int write_file(const char *path, const char *text) {
  int file = open(path, O_WRONLY | O_CLOEXEC);
  if (file < 0) return -1;
  ssize_t written = write(file, text, strlen(text));
  int code = errno;
  close(file);
  errno = code;
  return written < 0 ? -1 : 0;
}

static void say(int channel, enum grass_sandbox_event event, int value, const char *stage, int file) {
  struct grass_sandbox_message message = {.event = event, .value = value};
  strncpy(message.stage, stage, sizeof message.stage - 1);
  struct iovec piece = {&message, sizeof message};
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control = {{0}};
  struct msghdr header = {.msg_iov = &piece, .msg_iovlen = 1};
  if (file >= 0) {
    header.msg_control = &control;
    header.msg_controllen = sizeof control;
    struct cmsghdr *item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(item), &file, sizeof file);
  }
  while (sendmsg(channel, &header, MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
}

// Ends this process, having said what it could not do.
static _Noreturn void fail(int channel, const char *stage) {
  say(channel, GRASS_SANDBOX_FAILED, errno, stage, -1);
  _exit(127);
}

static void mount_all(const struct grass_sandbox *sandbox, int channel) {
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) fail(channel, "making mounts private");
  if (mount("proc", sandbox->own_processes, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
    fail(channel, "mounting a proc of one's own");
  for (uint32_t index = 0; index < sandbox->mount_count; index++) {
    const struct grass_sandbox_mount *one = &sandbox->mounts[index];
    if (!one->source) {
      if (mount("tmpfs", one->target, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m") != 0)
        fail(channel, one->target);
      continue;
    }
    struct stat source, target;
    if (stat(one->source, &source) != 0) fail(channel, one->source);
    if (stat(one->target, &target) != 0) {
      int file = S_ISREG(source.st_mode) ? open(one->target, O_CREAT | O_EXCL | O_CLOEXEC, 0444) : -1;
      // What this machine has not, the program does not find.
      if (file < 0) continue;
      close(file);
    }
    if (mount(one->source, one->target, NULL, MS_BIND, NULL) != 0) fail(channel, one->target);
  }
}

static _Noreturn void run_program(const struct grass_sandbox *sandbox, int channel) {
  // What the thread that started all this holds back or ignores is its own affair.
  for (int number = 1; number < 65; number++)
    if (number != SIGKILL && number != SIGSTOP) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail(channel, "giving up new privileges");
  struct sock_fprog filter = {
      .len = (unsigned short)(sandbox->filter_bytes / sizeof(struct sock_filter)),
      .filter = (struct sock_filter *)sandbox->filter,
  };
  int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
  if (listener < 0) fail(channel, "having system calls answered");
  say(channel, GRASS_SANDBOX_STARTED, 0, "", listener);
  close(listener);
  execvp(sandbox->command[0], sandbox->command);
  fail(channel, sandbox->command[0]);
}

// Seconds and nanoseconds, these never below zero, by which the clock is to differ from this machine's.
static void offset(clockid_t clock, int64_t wanted, int64_t *seconds, int64_t *nanoseconds) {
  struct timespec now = {0};
  clock_gettime(clock, &now);
  int64_t difference = wanted - (now.tv_sec * 1000000000LL + now.tv_nsec);
  *nanoseconds = difference % 1000000000;
  *seconds = difference / 1000000000;
  if (*nanoseconds < 0) {
    *nanoseconds += 1000000000;
    --*seconds;
  }
}

// Clocks that count from the boot, which programs read without a call that could be answered, and compare with times of the
// host's log and processes. Kernels without namespaces of time leave them as they are.
static void set_clocks(const struct grass_sandbox *sandbox) {
  if (unshare(CLONE_NEWTIME) != 0) return;
  int64_t seconds[2], nanoseconds[2];
  offset(CLOCK_MONOTONIC, sandbox->monotonic_time, &seconds[0], &nanoseconds[0]);
  offset(CLOCK_BOOTTIME, sandbox->boot_time, &seconds[1], &nanoseconds[1]);
  char text[160];
  snprintf(text, sizeof text, "monotonic %lld %lld\nboottime %lld %lld\n", (long long)seconds[0],
           (long long)nanoseconds[0], (long long)seconds[1], (long long)nanoseconds[1]);
  write_file("self/timens_offsets", text);
}

static _Noreturn void run_first(const struct grass_sandbox *sandbox, int channel) {
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  // Who started this may have been gone before that was said: then nobody sends this.
  char is_mapped = 0;
  if (recv(channel, &is_mapped, 1, 0) != 1) _exit(127);
  // What the starter has open is none of the program's, and would outlive the starter here.
  if (channel > 3) syscall(SYS_close_range, 3, channel - 1, 0);
  syscall(SYS_close_range, channel + 1, ~0u, 0);
  mount_all(sandbox, channel);
  if (sethostname(sandbox->node_name, strlen(sandbox->node_name)) != 0) fail(channel, "naming the host");
  if (setdomainname(sandbox->domain_name, strlen(sandbox->domain_name)) != 0) fail(channel, "naming the domain");

  // Where the kernel cannot be told so (without CONFIG_CHECKPOINT_RESTORE), the numbers begin at 2.
  if (chdir(sandbox->own_processes) == 0) {
    char number[16];
    snprintf(number, sizeof number, "%d", sandbox->process_id - 1);
    write_file("sys/kernel/ns_last_pid", number);
    set_clocks(sandbox);
  }
  if (chdir(sandbox->working_folder) != 0 && chdir("/") != 0) fail(channel, "entering the working folder");
  pid_t program = start(0);
  if (program < 0) fail(channel, "starting a process");
  if (program == 0) run_program(sandbox, channel);
  for (;;) {
    int status = 0;
    pid_t ended = waitpid(-1, &status, 0);
    if (ended < 0 && errno == EINTR) continue;
    if (ended != program && ended >= 0) continue;
    say(channel, GRASS_SANDBOX_ENDED, ended < 0 ? 127 << 8 : status, "", -1);
    _exit(0);
  }
}

// All numbers of users and groups as they are where that may be said, else only one's own.
static int map_users(pid_t process) {
  char path[48], text[48];
  snprintf(path, sizeof path, "/proc/%d/uid_map", process);
  int is_whole = write_file(path, "0 0 4294967295") == 0;
  snprintf(text, sizeof text, "%u %u 1", geteuid(), geteuid());
  if (!is_whole && write_file(path, text) != 0) return -1;

  snprintf(path, sizeof path, "/proc/%d/gid_map", process);
  if (is_whole) return write_file(path, "0 0 4294967295");
  char groups[48];
  snprintf(groups, sizeof groups, "/proc/%d/setgroups", process);
  if (write_file(groups, "deny") != 0) return -1;
  snprintf(text, sizeof text, "%u %u 1", getegid(), getegid());
  return write_file(path, text);
}

pid_t grass_sandbox_start(const struct grass_sandbox *sandbox, int *channel) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return -1;
  pid_t first = start(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET);
  if (first == 0) {
    close(ends[0]);
    run_first(sandbox, ends[1]);
  }
  int code = errno;
  close(ends[1]);
  if (first < 0) {
    close(ends[0]);
    errno = code;
    return -1;
  }
  if (map_users(first) != 0 || send(ends[0], "", 1, MSG_NOSIGNAL) != 1) {
    code = errno;
    kill(first, SIGKILL);
    waitpid(first, NULL, 0);
    close(ends[0]);
    errno = code;
    return -1;
  }
  *channel = ends[0];
  return first;
}

int grass_sandbox_receive(int channel, struct grass_sandbox_message *message, int *file) {
  *file = -1;
  struct iovec piece = {message, sizeof *message};
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  struct msghdr header = {
      .msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  ssize_t count;
  do count = recvmsg(channel, &header, MSG_CMSG_CLOEXEC);
  while (count < 0 && errno == EINTR);
  if (count < 0 && errno == ECONNRESET) return 0;
  if (count <= 0) return (int)count;
  for (struct cmsghdr *item = CMSG_FIRSTHDR(&header); item; item = CMSG_NXTHDR(&header, item))
    if (item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_RIGHTS) memcpy(file, CMSG_DATA(item), sizeof *file);
  message->stage[sizeof message->stage - 1] = 0;
  return 1;
}

int64_t grass_sandbox_peek(pid_t process, uint64_t address, void *bytes, uint64_t count) {
  struct iovec here = {bytes, count}, there = {(void *)(uintptr_t)address, count};
  return process_vm_readv(process, &here, 1, &there, 1, 0);
}

int64_t grass_sandbox_poke(pid_t process, uint64_t address, const void *bytes, uint64_t count) {
  struct iovec here = {(void *)bytes, count}, there = {(void *)(uintptr_t)address, count};
  return process_vm_writev(process, &here, 1, &there, 1, 0);
}

int grass_sandbox_give(int listener, uint64_t question, int file, int wanted, int closes) {
  struct seccomp_notif_addfd give = {
      .id = question,
      .flags = wanted >= 0 ? SECCOMP_ADDFD_FLAG_SETFD : 0,
      .srcfd = (uint32_t)file,
      .newfd = wanted >= 0 ? (uint32_t)wanted : 0,
      .newfd_flags = closes ? O_CLOEXEC : 0,
  };
  return ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &give);
}

void grass_sandbox_take_turns(int listener) {
  // SECCOMP_IOCTL_NOTIF_SET_FLAGS and SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, which older headers lack.
  ioctl(listener, _IOW('!', 4, uint64_t), (uint64_t)1);
}

int grass_sandbox_answer(int listener, uint64_t question, int file, int closes) {
  struct seccomp_notif_addfd give = {
      .id = question,
      .flags = 2,  // SECCOMP_ADDFD_FLAG_SEND, which older headers lack.
      .srcfd = (uint32_t)file,
      .newfd_flags = closes ? O_CLOEXEC : 0,
  };
  return ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &give);
}

int grass_sandbox_place(const char *path) { return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC); }

int grass_sandbox_silence(void) { return eventfd(0, EFD_CLOEXEC); }

int grass_sandbox_leave_mounts(void) {
  if (unshare(CLONE_NEWNS) != 0) return -1;
  return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

int grass_sandbox_netlink(uint64_t number, int *here, int *there) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) != 0) return -1;
  // An abstract name as long as `sockaddr_nl`, whose bytes lie where that one has padding, a port of zero, which is the kernel's,
  // and groups. Its first byte has to be zero; of the rest those are free that nobody looks at.
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  name.sun_path[1] = (char)number;
  for (int byte = 0; byte < 4; byte++) name.sun_path[6 + byte] = (char)(number >> (8 + 8 * byte));
  if (bind(ends[0], (struct sockaddr *)&name, 12) != 0) {
    int code = errno;
    close(ends[0]);
    close(ends[1]);
    errno = code;
    return -1;
  }
  *here = ends[0];
  *there = ends[1];
  return 0;
}
