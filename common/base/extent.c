#include "common/base/extent.h"
