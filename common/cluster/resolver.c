#include "common/cluster/resolver.h"
