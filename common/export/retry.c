#include "common/export/retry.h"
