/* SPDX-License-Identifier: MIT */
/* The regular look after everything: signs of life of workers, retention, systemd's watchdog. */
#ifndef HOLDFAST_SUPERVISOR_TICK_H
#define HOLDFAST_SUPERVISOR_TICK_H

#include "supervisor/supervisor.h"

int health_start(struct supervisor *supervisor);
void health_stop(struct supervisor *supervisor);

#endif
