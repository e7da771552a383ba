// Linux calls that the C library declares only for GNU sources, which Swift's importer does not define.
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/// A file in memory without a name, closed on exec; -1 and errno on failure. The corresponding C function is
/// `memfd_create`.
static inline int grass_memfd_create(const char *name) {
  return (int)syscall(SYS_memfd_create, name, 1u /* MFD_CLOEXEC */);
}

/// The same, whose size can be fixed; -1 and errno on failure.
int grass_sealable_memfd_create(const char *name);

/// Makes a dma-buf of a sealable file's first `count` bytes, whole pages; -1 and errno on failure. By Linux's /dev/udmabuf.
int grass_udmabuf_create(int file, uint64_t count);

/// Keeps this process alive where the file behind a mapping is cut: a page that is gone then reads as zeros, and `*lost`
/// becomes 1, before the load that touched it goes on.
///
/// Installs a handler of SIGBUS for the whole process, which passes on what is not its own. `lost` is the caller's until
/// the mapping is unguarded. Returns false where too many mappings are guarded already.
bool grass_guard_mapping(const void *base, size_t size, uint32_t *lost);

/// Ends that for the mapping at `base`, which is then unmapped by its owner.
void grass_unguard_mapping(const void *base);

/// Has `sysinfo` report so many bytes of memory more than there are, to every library of this process.
///
/// NVIDIA's driver refuses to map more host memory than it was told of; what a device watches, a guest's or another
/// machine's, is not among that.
void grass_report_more_memory(uint64_t bytes);
