/* What a look at watched files found. */
#pragma once

enum reload_outcome {
    RELOAD_SAME,   /* nothing changed, or what changed may still be half written */
    RELOAD_NEW,    /* new files are in force */
    RELOAD_FAILED, /* they changed and are no good; the old ones stay in force. Said once a change */
};
