#include "common/run/worker.h"
