#include "sampler/decide/decision_cache.h"
