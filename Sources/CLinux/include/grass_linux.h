// Linux calls that the C library declares only for GNU sources, which Swift's importer does not define.
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum grass_memfd {
  GRASS_MEMFD_PLAIN = 0,
  GRASS_MEMFD_SEALABLE = 2,  // Its size can be fixed: MFD_ALLOW_SEALING.
  GRASS_MEMFD_HUGE = 4,      // In huge pages, which somebody must have set aside: MFD_HUGETLB.
};

/// Where a file's data goes on, for `lseek`: SEEK_DATA and SEEK_HOLE.
enum grass_seek {
  GRASS_SEEK_DATA = 3,  // The next byte that is not in a hole.
  GRASS_SEEK_HOLE = 4,  // The next byte that is, or the file's end.
};

/// A pipe, both of whose ends are closed on exec; -1 and errno on failure. The corresponding C function is `pipe2`.
int grass_pipe(int *ends);

/// A file in memory without a name, closed on exec; -1 and errno on failure. The corresponding C function is
/// `memfd_create`.
static inline int grass_memfd_create(const char *name, enum grass_memfd kind) {
  return (int)syscall(SYS_memfd_create, name, 1u /* MFD_CLOEXEC */ | (unsigned)kind);
}

/// A file in memory that the kernel itself and no other process sees, closed on exec; -1 and errno where the kernel has none to
/// give. The corresponding call is `memfd_secret`.
static inline int grass_memfd_secret(void) {
  return (int)syscall(447 /* SYS_memfd_secret, which older headers lack */, 02000000 /* O_CLOEXEC */);
}

/// Gives the bytes of a file from `offset` on, `count` of them, their pages, whatever its size is, which stays; -1 and errno on
/// failure: EOPNOTSUPP where the file system cannot, ENOSPC where it is full. The corresponding C function is `fallocate`.
static inline int grass_allocate_pages(int file, int64_t offset, int64_t count) {
  return (int)syscall(SYS_fallocate, file, 1 /* FALLOC_FL_KEEP_SIZE */, offset, count);
}

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

/// Has the C library keep memory that is freed, up to 1 GiB: pieces of some MiB are else given back to the kernel each time and
/// asked of it anew, page by page.
void grass_keep_freed_memory(void);

/// Has freed memory go back to the system as soon as it can, for who runs for long with many threads.
void grass_return_freed_memory(void);

/// Gives back what is free between what is in use, too.
void grass_trim_memory(void);

/// Has `sysinfo` report so many bytes of memory more than there are, to every library of this process.
///
/// NVIDIA's driver refuses to map more host memory than it was told of; what a device watches, a guest's or another
/// machine's, is not among that.
void grass_report_more_memory(uint64_t bytes);
