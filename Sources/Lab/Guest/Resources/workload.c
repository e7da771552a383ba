// Processes worth looking at. Called with a number, starts that many plain sleepers and one process of every kind
// that a process list can get wrong; called with MODE set in its environment, is one of them.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

static void *sleep_thread(void *name) {
  prctl(PR_SET_NAME, name);
  for (;;) pause();
}

static void burn(int milliseconds) {
  struct rusage usage;
  do {
    getrusage(RUSAGE_SELF, &usage);
  } while (usage.ru_utime.tv_sec * 1000 + usage.ru_utime.tv_usec / 1000 < milliseconds);
}

// Open files and mappings of every kind, so that each has a name that the kernel makes up.
static void open_files(void) {
  int pipes[2], sockets[2];
  if (pipe(pipes) || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets)) exit(1);
  int poll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN};
  epoll_ctl(poll, EPOLL_CTL_ADD, pipes[0], &event);
  eventfd(7, 0);
  timerfd_create(CLOCK_MONOTONIC, 0);
  inotify_init1(0);
  sigset_t signals;
  sigemptyset(&signals);
  signalfd(-1, &signals, 0);
  socket(AF_INET, SOCK_STREAM, 0);
  int memory = memfd_create("grass memory", 0);
  if (ftruncate(memory, 8192)) exit(1);
  int gone = open("/tmp/gone file", O_RDWR | O_CREAT, 0600);
  if (write(gone, "still here", 10) != 10) exit(1);
  unlink("/tmp/gone file");
  lseek(gone, 3, SEEK_SET);
  open("/tmp", O_RDONLY | O_DIRECTORY);
  open("/proc/self/ns/uts", O_RDONLY);
  open("/proc/self/status", O_RDONLY);
  open("/dev/null", O_WRONLY | O_APPEND);
  // A number far from the others, so that the table of files has grown and has holes.
  dup2(gone, 700);
  mmap(0, 4096, PROT_READ, MAP_PRIVATE, gone, 0);
  mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  // More areas than one node of the tree holds: neighbours that differ in what they permit.
  char *areas = mmap(0, 200 * 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < 200; i++) mprotect(areas + i * 8192, 4096, PROT_READ | PROT_WRITE);
}

// Fewer rights than others: a smaller set of capabilities, and a filter of system calls that lets all pass.
static void confine(void) {
  for (int capability = 20; capability < 30; capability++) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  if (setresuid(4000, 4000, 4000)) exit(1);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
  struct sock_fprog program = {1, &allow};
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}

// Locks of both kinds on one file, and for each a process that waits for it.
static void lock_files(void) {
  struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 20};
  int file = open("/tmp/locked", O_RDWR | O_CREAT, 0600);
  if (flock(file, LOCK_SH) || fcntl(file, F_SETLK, &range)) exit(1);
  for (int i = 0; i < 2; i++) {
    if (fork()) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    file = open("/tmp/locked", O_RDWR);
    if (i ? flock(file, LOCK_EX) : fcntl(file, F_SETLKW, &range)) exit(1);
  }
}

static void be(const char *mode, char **argv) {
  if (!strcmp(mode, "threads")) {
    static char names[24][16];
    for (int i = 0; i < 24; i++) {
      snprintf(names[i], sizeof names[i], "thread %d", i);
      pthread_t thread;
      pthread_attr_t attributes;
      pthread_attr_init(&attributes);
      pthread_attr_setstacksize(&attributes, 64 * 1024);
      pthread_create(&thread, &attributes, sleep_thread, names[i]);
    }
  } else if (!strcmp(mode, "name")) {
    prctl(PR_SET_NAME, argv[1]);
  } else if (!strcmp(mode, "users")) {
    if (setresgid(100, 200, 300) || setresuid(1000, 2000, 3000)) exit(1);
  } else if (!strcmp(mode, "nice")) {
    if (setpriority(PRIO_PROCESS, 0, atoi(argv[1]))) exit(1);
  } else if (!strcmp(mode, "zombie")) {
    if (fork() == 0) exit(0);
  } else if (!strcmp(mode, "stopped")) {
    raise(SIGSTOP);
  } else if (!strcmp(mode, "uninterruptible")) {
    if (vfork() == 0) execve("/bin/workload", (char *[]){"vforked", 0}, (char *[]){"MODE=hold", 0});
  } else if (!strcmp(mode, "hold")) {
  } else if (!strcmp(mode, "terminal")) {
    setsid();
    int primary = posix_openpt(O_RDWR | O_NOCTTY);
    grantpt(primary);
    unlockpt(primary);
    int terminal = open(ptsname(primary), O_RDWR);
    ioctl(terminal, TIOCSCTTY, 0);
  } else if (!strcmp(mode, "title")) {
    // As setproctitle does: over the arguments and on into the environment, with no zero where they ended.
    memset(argv[0], 'T', strlen(argv[0]) + 1 + strlen(argv[1]) + 1 + 6);
  } else if (!strcmp(mode, "files")) {
    open_files();
  } else if (!strcmp(mode, "locks")) {
    lock_files();
  } else if (!strcmp(mode, "confined")) {
    confine();
  } else if (!strcmp(mode, "busy")) {
    burn(300);
  }
  for (;;) pause();
}

static pid_t start(const char *mode, char *const *argv) {
  char variable[64];
  snprintf(variable, sizeof variable, "MODE=%s", mode);
  pid_t child = fork();
  if (child == 0) {
    execve("/bin/workload", argv, (char *[]){variable, "PADDING=xxxxxxxxxxxxxxxxxxxxxxxx", 0});
    _exit(127);
  }
  return child;
}

int main(int argc, char **argv) {
  char *mode = getenv("MODE");
  if (mode) be(mode, argv);
  int count = argc > 1 ? atoi(argv[1]) : 0;
  for (int i = 0; i < count; i++) {
    char number[16];
    snprintf(number, sizeof number, "%d", i);
    start("sleep", (char *[]){"sleeper", "--number", number, 0});
  }
  static char longer[9001];
  memset(longer, 'l', 9000);
  start("sleep", (char *[]){"", "", "empty", "", 0});
  start("sleep", (char *[]){"bytes", "\xff\xfe\x80", "caf\xc3\xa9", "tab\there", "new\nline", "\x1b[31m", 0});
  start("sleep", (char *[]){"long", longer, "end", 0});
  start("threads", (char *[]){"threads", 0});
  start("name", (char *[]){"name", "a b) (c", 0});
  start("name", (char *[]){"name", "new\nline\\\x01", 0});
  start("name", (char *[]){"name", "\xff\x80 no utf8", 0});
  start("users", (char *[]){"users", 0});
  start("nice", (char *[]){"nice", "7", 0});
  start("nice", (char *[]){"nice", "-11", 0});
  start("zombie", (char *[]){"zombie", 0});
  start("stopped", (char *[]){"stopped", 0});
  start("terminal", (char *[]){"terminal", 0});
  start("title", (char *[]){"title", "to be overwritten", 0});
  start("busy", (char *[]){"busy", 0});
  start("files", (char *[]){"files", 0});
  start("confined", (char *[]){"confined", 0});
  return 0;
}
