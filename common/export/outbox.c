#include "common/export/outbox.h"
