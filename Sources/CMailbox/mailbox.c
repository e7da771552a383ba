#include "grass_mailbox.h"
