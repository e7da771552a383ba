#ifndef GRASS_FLEET_FILES_H
#define GRASS_FLEET_FILES_H

/// A file of the web page as it was when GRASS was built.
struct fleet_file {
  const char *name;
  /// Its media type, or that of what a template gives.
  const char *type;
  const unsigned char *bytes;
  unsigned long count;
};

/// All of them, and how many they are.
const struct fleet_file *fleet_files(unsigned long *count);

#endif
