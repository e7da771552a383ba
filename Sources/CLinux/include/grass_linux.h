// Linux calls that the C library declares only for GNU sources, which Swift's importer does not define.
#pragma once

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

/// A file in memory without a name, closed on exec; -1 and errno on failure. The corresponding C function is
/// `memfd_create`.
static inline int grass_memfd_create(const char *name) {
  return (int)syscall(SYS_memfd_create, name, 1u /* MFD_CLOEXEC */);
}
