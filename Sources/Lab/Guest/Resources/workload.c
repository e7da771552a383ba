// Processes worth looking at. Called with a number, starts that many plain sleepers and one process of every kind
// that a process list can get wrong; called with MODE set in its environment, is one of them.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
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
  return 0;
}
