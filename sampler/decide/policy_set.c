#include "sampler/decide/policy_set.h"
