/* SPDX-License-Identifier: MIT */
/* Memory for somebody who may read it and no more. */
#ifndef HOLDFAST_SUPERVISOR_HOLD_HOLD_LEND_H
#define HOLDFAST_SUPERVISOR_HOLD_HOLD_LEND_H

/* Whoever has a descriptor of it to read can't open it anew to write. 0 or -errno. */
int hold_lend_protect(int memory);

/* A descriptor of its own, by which it can't be written to, neither by itself nor by what it leads
 * to in /proc. The caller's; or -errno. */
int hold_lend_read_only(int memory);

#endif
