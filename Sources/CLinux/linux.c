#include "grass_linux.h"
