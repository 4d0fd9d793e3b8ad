/* SPDX-License-Identifier: MIT */
/* From the scanned text to a draft, value by value. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_READ_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_READ_H

#include "supervisor/config/config_draft.h"
#include "supervisor/config/config_errors.h"
#include "supervisor/config/config_text.h"

/* Returns 0 also when values are wrong (see errors); -EINVAL when libconfuse refuses the text;
 * -ENOMEM. */
int config_read(const struct config_text *text, struct config_draft *ret,
                struct config_error_list *errors);

#endif
