#define _GNU_SOURCE
#include "grass_linux.h"

#include <fcntl.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>

int grass_udmabuf_create(int file, uint64_t count) {
  // The device takes only a file that cannot become shorter.
  if (fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK)) return -1;
  int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
  if (device < 0) return -1;
  struct udmabuf_create create = {.memfd = (uint32_t)file, .flags = UDMABUF_FLAGS_CLOEXEC, .size = count};
  int buffer = ioctl(device, UDMABUF_CREATE, &create);
  int code = errno;
  close(device);
  errno = code;
  return buffer;
}
