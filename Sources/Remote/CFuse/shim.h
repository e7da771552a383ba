// libfuse's low-level interface, and what of it Swift's importer does not see: macros, bit fields, symbols with versions.
#pragma once

#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fuse3/fuse_lowlevel.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

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
