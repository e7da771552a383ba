#pragma once

#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

// A macro, which Swift does not see: gzip's form of what zlib unpacks.
static inline int grass_inflate_gzip(z_stream *stream) { return inflateInit2(stream, 15 + 16); }
