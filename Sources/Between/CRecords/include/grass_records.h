// The records of the monitors that come with GRASS, as their C source has them.
#pragma once

#include "../../../../monitors/records/cpu.h"
#include "../../../../monitors/records/frames.h"
#include "../../../../monitors/records/life.h"
#include "../../../../monitors/records/memory.h"
#include "../../../../monitors/records/panic.h"
#include "../../../../monitors/records/ps.h"
#include "../../../../monitors/records/search.h"
