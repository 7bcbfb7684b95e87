#include "sampler/decide/predicate.h"
