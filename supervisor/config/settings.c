/* SPDX-License-Identifier: MIT */
/* Lets settings go, also those that reading gave up halfway. Called by whoever loaded them, once
 * nothing points into them any more. */
#include "supervisor/config/settings.h"

#include <stdlib.h>

void settings_free(struct settings *settings)
{
    if (!settings)
        return;
    for (size_t i = 0; i < settings->channel_count; i++)
        free(settings->channels[i]);
    free(settings->channels);
    free(settings);
}
