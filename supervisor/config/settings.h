/* SPDX-License-Identifier: MIT */
/* What a configuration (holdfast.conf.5) says, as plain structs. config_load() makes them,
 * everything else works from them; nobody changes them afterwards. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_SETTINGS_H
#define HOLDFAST_SUPERVISOR_CONFIG_SETTINGS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/channel_spec.h"
#include "common/gate_limits.h"
#include "supervisor/policy/restart_policy.h"

struct settings {
    char log_dir[512];
    char control_socket[108]; /* sun_path */
    mode_t control_mode;
    char control_group[64]; /* "" = leave it */
    char read_socket[108];  /* sun_path; beside the control socket where it is not given */
    mode_t read_mode;
    char read_group[64];           /* as control_group */
    union socket_address read_tcp; /* family 0 = not over TCP */
    uint32_t read_enabled;         /* 0: no socket, and nobody behind it */
    struct gate_limits read_limits;
    uint32_t spare_workers;
    uint64_t hang_timeout_ns;
    struct restart_limits restart;
    size_t channel_count;
    struct channel_spec **channels; /* each of its own size: destinations follow */
};

/* With all channels; NULL and half-built ones are fine. */
void settings_free(struct settings *settings);

#endif
