// Processes worth looking at. Called with a number, starts that many plain sleepers and one process of every kind
// that a process list can get wrong; called with MODE set in its environment, is one of them.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
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
  int watch = inotify_init1(0);
  // Files of three kinds of file systems, of which nobody changes any.
  inotify_add_watch(watch, "/bin", IN_CREATE);
  inotify_add_watch(watch, "/dev/pts", IN_CREATE | IN_ONESHOT);
  inotify_add_watch(watch, "/sys/kernel", IN_CREATE | IN_EXCL_UNLINK);
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
  pid_t parent = getpid();
  for (int i = 0; i < 2; i++) {
    if (fork()) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // The signal comes only where the parent ends after it was asked for.
    if (getppid() != parent) exit(1);
    file = open("/tmp/locked", O_RDWR);
    if (i ? flock(file, LOCK_EX) : fcntl(file, F_SETLKW, &range)) exit(1);
    // It got the lock for that its parent ends: a child made now would outlive both, with the parent's lock.
    for (;;) pause();
  }
}

static int bound(int type, int protocol, const char *address, int port) {
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
  int is_six = inet_pton(AF_INET6, address, &six.sin6_addr) == 1;
  if (!is_six) inet_pton(AF_INET, address, &four.sin_addr);
  int file = socket(is_six ? AF_INET6 : AF_INET, type, protocol), one = 1;
  setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  void *end = is_six ? (void *)&six : &four;
  if (bind(file, end, is_six ? sizeof six : sizeof four)) exit(1);
  return file;
}

static int reach(int file, int port) {
  struct sockaddr_in end = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  return connect(file, (struct sockaddr *)&end, sizeof end);
}

static int connected(int port) {
  int file = socket(AF_INET, SOCK_STREAM, 0);
  if (reach(file, port)) exit(1);
  return file;
}

// Sockets of every kind, with bytes in their queues, and TCP in all states in which it stays for a while.
static void open_sockets(void) {
  char text[1000] = "bytes";
  bound(SOCK_DGRAM, 0, "0.0.0.0", 5301);
  int datagrams = bound(SOCK_DGRAM, 0, "127.0.0.1", 5302);
  if (reach(datagrams, 5301)) exit(1);
  for (int i = 0; i < 3; i++) send(datagrams, text, 100 * (i + 1), 0);
  bound(SOCK_DGRAM, 0, "::1", 5303);
  int six = bound(SOCK_DGRAM, 0, "::1", 5304);
  struct sockaddr_in6 peer = {.sin6_family = AF_INET6, .sin6_port = htons(5303), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  if (connect(six, (struct sockaddr *)&peer, sizeof peer)) exit(1);
  send(six, text, 10, 0);

  int raw = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
  struct sockaddr_ll link = {
      .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = if_nametoindex("lo")};
  if (bind(raw, (struct sockaddr *)&link, sizeof link)) exit(1);
  socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ARP));

  int listener = bound(SOCK_STREAM, 0, "127.0.0.1", 5310);
  listen(listener, 8);
  // One that nobody accepts, one with bytes that nobody reads, one that is closed on one side, one in TIME-WAIT.
  connected(5310);
  int queued = connected(5310), half = connected(5310), closed = connected(5310), accepted[4];
  for (int i = 0; i < 4; i++) accepted[i] = accept(listener, 0, 0);
  connected(5310);
  send(queued, text, sizeof text, 0);
  shutdown(half, SHUT_WR);
  shutdown(closed, SHUT_WR);
  shutdown(accepted[3], SHUT_WR);
  close(accepted[3]);
  close(closed);
  // A listener whose queue is full does not answer: the next one stays in SYN-SENT.
  int full = bound(SOCK_STREAM, 0, "127.0.0.1", 5311);
  listen(full, 0);
  connected(5311);
  int waiting = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (reach(waiting, 5311) == 0) waiting = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), reach(waiting, 5311);
  listen(bound(SOCK_STREAM, 0, "::1", 5312), 3);

  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair)) exit(1);
  struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0grass abstract"};
  int abstract = socket(AF_UNIX, SOCK_DGRAM, 0);
  if (bind(abstract, (struct sockaddr *)&name, sizeof(sa_family_t) + 15)) exit(1);
}

static int bpf(int command, union bpf_attr *attributes) {
  return syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

// Programs and maps, attached and not, and what the kernel says of all that it has.
static void load_programs(void) {
  union bpf_attr attributes = {
      .map_type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 24, .max_entries = 77, .map_name = "grass_map"};
  int map = bpf(BPF_MAP_CREATE, &attributes);
  // r1 = map; r0 = the length asked for; return.
  struct bpf_insn instructions[] = {
      {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map}, {0},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 64}, {.code = BPF_JMP | BPF_EXIT}};
  for (int i = 0; i < 2; i++) {
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = i ? BPF_PROG_TYPE_CGROUP_SKB : BPF_PROG_TYPE_SOCKET_FILTER;
    attributes.insns = (unsigned long)instructions;
    attributes.insn_cnt = 4;
    attributes.license = (unsigned long)"GPL";
    strcpy(attributes.prog_name, i ? "grass_group" : "grass_filter");
    instructions[2].imm = i ? 1 : 64;
    int program = bpf(BPF_PROG_LOAD, &attributes);
    if (map < 0 || program < 0) exit(1);
    if (i == 0) {
      int file = socket(AF_INET, SOCK_DGRAM, 0);
      if (setsockopt(file, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof program)) exit(1);
    }
  }
  for (int is_map = 0; is_map < 2; is_map++) {
    unsigned next = 0;
    for (;;) {
      memset(&attributes, 0, sizeof attributes);
      attributes.start_id = next;
      if (bpf(is_map ? BPF_MAP_GET_NEXT_ID : BPF_PROG_GET_NEXT_ID, &attributes)) break;
      next = attributes.next_id;
      memset(&attributes, 0, sizeof attributes);
      attributes.prog_id = next;
      int file = bpf(is_map ? BPF_MAP_GET_FD_BY_ID : BPF_PROG_GET_FD_BY_ID, &attributes);
      struct bpf_prog_info program = {0};
      struct bpf_map_info info = {0};
      memset(&attributes, 0, sizeof attributes);
      attributes.info.bpf_fd = file;
      attributes.info.info_len = is_map ? sizeof info : sizeof program;
      attributes.info.info = is_map ? (unsigned long)&info : (unsigned long)&program;
      if (file < 0 || bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes)) exit(1);
      close(file);
      if (is_map) {
        printf("map %u %u %s %u %u %u\n", info.id, info.type, info.name, info.key_size, info.value_size,
               info.max_entries);
      } else {
        printf("prog %u %u %s ", program.id, program.type, program.name);
        for (int i = 0; i < 8; i++) printf("%02x", program.tag[i]);
        printf(" %u %llu\n", program.xlated_prog_len / 8, (unsigned long long)program.load_time);
      }
    }
  }
  fflush(stdout);
}

// Memory whose first use blocks for good: nobody answers the user fault.
static char *blocking_memory(void) {
  int faults = syscall(SYS_userfaultfd, O_CLOEXEC);
  struct uffdio_api api = {.api = UFFD_API};
  char *memory = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct uffdio_register range = {
      .range = {.start = (unsigned long)memory, .len = 65536}, .mode = UFFDIO_REGISTER_MODE_MISSING};
  if (ioctl(faults, UFFDIO_API, &api) || ioctl(faults, UFFDIO_REGISTER, &range)) exit(1);
  return memory;
}

// Locks of the kernel that are held for good, and tasks that wait for them, each named after what it does.
static void hold_locks(void) {
  mkdir("/tmp/held", 0700);
  mkdir("/tmp/held/inside", 0700);
  close(open("/tmp/held-file", O_RDWR | O_CREAT, 0600));
  pthread_mutex_t *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
  pthread_mutex_init(shared, &attributes);
  static const char *names[] = {"file-holder", "file-writer", "dir-holder", "dir-writer",
                                "dir-reader",  "pi-holder",   "pi-waiter"};
  for (int i = 0; i < 7; i++) {
    if (fork()) {
      usleep(300000);
      continue;
    }
    prctl(PR_SET_NAME, names[i]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char buffer[4096];
    int file = open(i < 2 ? "/tmp/held-file" : "/tmp/held", i < 2 ? O_RDWR : O_RDONLY);
    switch (i) {
    // A write copies from its buffer under the file's lock, and a directory is listed under the directory's.
    case 0: write(file, blocking_memory(), 4096); break;
    case 1: write(file, buffer, 100); break;
    case 2: syscall(SYS_getdents64, file, blocking_memory(), 4096); break;
    case 3: mkdir("/tmp/held/new", 0700); break;
    case 4: syscall(SYS_getdents64, file, buffer, sizeof buffer); break;
    default: pthread_mutex_lock(shared);
    }
    for (;;) pause();
  }
}

// Writes a count that grows all over one of `pages` pages after the other, `rate` pages a millisecond at most: at any instant the counts of
// all pages are less than a round apart. Each page begins with a mark, to which the rate is added, and its number.
static void stamp_pages(uint64_t pages, uint64_t rate) {
  volatile uint64_t *all = mmap(0, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (all == MAP_FAILED) exit(1);
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (uint64_t count = 0;; count++) {
    volatile uint64_t *page = all + count % pages * 512;
    page[0] = 0x5350504d41545347 + rate;
    page[1] = count % pages;
    for (int word = 2; word < 512; word++) page[word] = count;
    if (count == 2 * pages) printf("stamped\n"), fflush(stdout);
    if (count % 64) continue;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t due = count * 1000000 / rate - ((now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec);
    if (due > 1000000) usleep(due / 1000);
  }
}

// Objects of System V, which stay when the process ends: a segment in use, semaphores of which one was used, a queue with a message.
static void share(void) {
  int segment = shmget(0x1234, 3 * 4096, IPC_CREAT | 0640);
  char *memory = shmat(segment, 0, 0);
  if (memory != (char *)-1) memory[4096] = 1;
  int semaphores = semget(0x4321, 3, IPC_CREAT | 0600);
  struct sembuf up = {.sem_num = 1, .sem_op = 2};
  semop(semaphores, &up, 1);
  int queue = msgget(-5, IPC_CREAT | 0644);
  struct { long kind; char text[5]; } message = {1, "text"};
  msgsnd(queue, &message, 5, IPC_NOWAIT);
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
  } else if (!strcmp(mode, "sockets")) {
    open_sockets();
  } else if (!strcmp(mode, "shared")) {
    share();
  } else if (!strcmp(mode, "bpf")) {
    load_programs();
  } else if (!strcmp(mode, "held")) {
    hold_locks();
  } else if (!strcmp(mode, "confined")) {
    confine();
  } else if (!strcmp(mode, "busy")) {
    burn(300);
  } else if (!strcmp(mode, "stamps")) {
    stamp_pages(atoi(argv[1]), atoi(argv[2]));
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
