#include "grass_region.h"
