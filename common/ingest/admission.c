#include "common/ingest/admission.h"
