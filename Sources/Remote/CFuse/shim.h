// libfuse's low-level interface, and what of it Swift's importer does not see: macros, bit fields, symbols with versions.
#pragma once

#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/// Makes a session of `operations` with the mount options in `options`, as `-o` takes them. Returns null where libfuse
/// refuses, which has then said why on standard error. The corresponding C function is `fuse_session_new`.
static inline struct fuse_session *grass_fuse_session(
    const char *name, const char *options, const struct fuse_lowlevel_ops *operations, void *owner) {
  const char *words[] = {name, "-o", options, NULL};
  struct fuse_args arguments = FUSE_ARGS_INIT(3, (char **)words);
  struct fuse_session *session = fuse_session_new(&arguments, operations, sizeof *operations, owner);
  fuse_opt_free_args(&arguments);
  return session;
}

/// Marks an open file as one whose reads all come here, whatever its size says, and names it by `handle`.
static inline void grass_fuse_opened(struct fuse_file_info *info, uint64_t handle) {
  info->fh = handle;
  info->direct_io = 1;
}

static inline uint64_t grass_fuse_handle(const struct fuse_file_info *info) { return info->fh; }

/// The corresponding C macro is `makedev`.
static inline dev_t grass_device(unsigned int major, unsigned int minor) { return makedev(major, minor); }

static inline void grass_fuse_free(struct fuse_buf *buffer) { free(buffer->mem); }

/// Has the system refuse to follow symbolic links below `path`, a mount point. Returns 0, or -1 and errno: without the right to
/// mount, or before Linux 5.10. The corresponding C function is `mount`.
static inline int grass_refuse_links(const char *path) {
  const unsigned long no_symfollow = 256;  // MS_NOSYMFOLLOW of linux/mount.h.
  return mount(NULL, path, NULL,
               MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | no_symfollow, NULL);
}

/// Makes an epoll instance for one of several threads that wait for requests in `file`, of which each request wakes one, the same
/// again where it is waiting; and for `wake_up`, which wakes all. Returns -1 and errno where there cannot be another.
static inline int grass_fuse_waiting(int file, int wake_up) {
  int waiting = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event requests = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = file};
  struct epoll_event end = {.events = EPOLLIN, .data.fd = wake_up};
  if (waiting < 0 || epoll_ctl(waiting, EPOLL_CTL_ADD, file, &requests) != 0 ||
      epoll_ctl(waiting, EPOLL_CTL_ADD, wake_up, &end) != 0) {
    int code = errno;
    if (waiting >= 0) close(waiting);
    errno = code;
    return -1;
  }
  return waiting;
}

/// Waits for a request. Returns 1 where there is one, perhaps taken by another thread meanwhile, and 0 at the end.
static inline int grass_fuse_wait(int waiting, int wake_up) {
  struct epoll_event events[2];
  int count;
  do count = epoll_wait(waiting, events, 2, -1);
  while (count < 0 && errno == EINTR);
  for (int i = 0; i < count; ++i)
    if (events[i].data.fd == wake_up) return 0;
  return count > 0;
}
