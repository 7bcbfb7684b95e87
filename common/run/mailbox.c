#include "common/run/mailbox.h"
