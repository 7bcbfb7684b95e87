#include "common/export/link.h"
