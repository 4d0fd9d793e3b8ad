/* SPDX-License-Identifier: MIT */
/* `verify FILE...`: read every block and record; tell the first fault, and what each file says
 * about losses. Files of one channel that follow each other on the command line are held against
 * each other too. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_VERIFY_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_VERIFY_H

#include <stdbool.h>

#include "supervisor/ctl/ctl_files.h"

/* Talks to nobody. 0 all is well, 1 a file has a fault or can't be
 * read, 2 usage. */
int ctl_verify(struct ctl_files *files, bool json);

#endif
