#ifndef GRASS_DEVICE_SOURCES_H
#define GRASS_DEVICE_SOURCES_H

/// What a source is for.
enum grass_source_use {
  /// A header that monitors include, by the name that they include it by.
  GRASS_FOR_MONITORS,
  /// A detector that comes with GRASS.
  GRASS_DETECTOR,
  /// A header of the programs below.
  GRASS_FOR_PROGRAMS,
  /// The runtime that is linked into every monitor.
  GRASS_RUNTIME,
  /// A GPU's resident program.
  GRASS_RESIDENT,
  /// What is added to it for regions with keys.
  GRASS_RESIDENT_KEYS,
};

/// A source as it was when GRASS was built.
struct grass_source {
  enum grass_source_use use;
  const char *name;
  const unsigned char *bytes;
  unsigned long count;
};

/// All of them, and how many they are.
const struct grass_source *grass_sources(unsigned long *count);

#endif
