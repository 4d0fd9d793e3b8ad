/* SPDX-License-Identifier: MIT */
/* `recover [-o OUT] FILE...`: write every sound record to FILE.recovered.avro beside the original,
 * or to OUT, for one file. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_RECOVER_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_RECOVER_H

#include <stdbool.h>

#include "supervisor/ctl/ctl_files.h"

/* output: -o OUT, or NULL. Talks to nobody. 0 all is well, 1 a result could not be written, 2
 * usage. */
int ctl_recover(const struct ctl_files *files, const char *output, bool json);

#endif
