/* SPDX-License-Identifier: MIT */
/* The rules that need more than one value. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_CHECK_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_CHECK_H

#include "supervisor/config/config_draft.h"
#include "supervisor/config/config_errors.h"

void config_check(const struct config_draft *draft, struct config_error_list *errors);

#endif
