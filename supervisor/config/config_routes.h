/* SPDX-License-Identifier: MIT */
/* The rules that need more than one channel: who listens where, and who feeds whom. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_ROUTES_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_ROUTES_H

#include "supervisor/config/config_draft.h"
#include "supervisor/config/config_errors.h"

void config_routes_check(const struct config_draft *draft, struct config_error_list *errors);

#endif
