/* SPDX-License-Identifier: MIT */
/* This binary's own function names by address, prepared before they are needed: a dying process can
 * then look them up without a lock, an allocation or a system call. */
#ifndef HOLDFAST_WORKER_SYMBOLS_H
#define HOLDFAST_WORKER_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>

/* Read the symbol table of /proc/self/exe (elf(5)). Without one, names are simply not known. */
void symbols_load(void);

/* The address relative to the binary's start, or 0 when it is not in the binary. *ret_name: the
 * function or "". Safe in a signal handler. */
uint64_t symbols_find(uintptr_t address, const char **ret_name);

#endif
