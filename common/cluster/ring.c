#include "common/cluster/ring.h"
