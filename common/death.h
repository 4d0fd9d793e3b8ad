/* SPDX-License-Identifier: MIT */
/* How a process has ended, as numbers that processes tell each other and as words: causes
 * (death_causes.def) and signals. */
#ifndef HOLDFAST_COMMON_DEATH_H
#define HOLDFAST_COMMON_DEATH_H

enum death_cause {
#define DEATH_CAUSE(NAME, number, name, text) DEATH_##NAME = number,
#include "common/death_causes.def"
#undef DEATH_CAUSE
};

/* "asked", "crash", "hang", "killed", "exit": for programs; "unknown" for other numbers. */
const char *death_cause_name(enum death_cause cause);

/* "end", "crash", "hang", "killed", "unexpected exit": as log lines and the journal's
 * HOLDFAST_CAUSE have it; "unknown" for other numbers. */
const char *death_cause_text(enum death_cause cause);

#define SIGNAL_NAME_SIZE 24

/* "SIGSEGV", or "signal 64" where it has no name. Returns buffer. */
const char *signal_name(int signal, char buffer[SIGNAL_NAME_SIZE]);

#endif
