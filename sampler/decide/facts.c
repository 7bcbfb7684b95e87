#include "sampler/decide/facts.h"
