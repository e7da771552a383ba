#include "grass_monitor.h"
