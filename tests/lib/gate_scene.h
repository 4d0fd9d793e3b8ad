/* SPDX-License-Identifier: MIT */
/* A gate with a channel, a log file of it, and a reader that behaves: what others do is to make no
 * difference to it. */
#ifndef HOLDFAST_TESTS_LIB_GATE_SCENE_H
#define HOLDFAST_TESTS_LIB_GATE_SCENE_H

#include <check.h>

#include "tests/lib/gate_rig.h"

#define GATE_SCENE_RING 77

struct gate_scene {
    struct gate_rig rig;
    struct ring_fixture fixture;
    int neighbour; /* attached to the channel */
    uint64_t committed;
    char log[SEGMENT_NAME_SIZE]; /* the first file */
};

void gate_scene_begin(struct gate_scene *scene);
void gate_scene_end(struct gate_scene *scene);

/* What main() ends with: each of these in this scene of its own, and those of `again` once more
 * where the kernel is one before 6.16, which can't keep readers' descriptors away. Both lists end
 * with NULL. */
int gate_scene_run(const char *suite, struct gate_scene *scene, const TTest *const tests[],
                   const TTest *const again[]);

/* The neighbour gets a descriptor, and a wake-up. */
void gate_scene_serves_neighbour(struct gate_scene *scene);

/* A packet to be spoiled; as long as any. */
struct gate_scene_packet {
    struct read_header header;
    union {
        struct read_find find;
        struct read_arm arm;
        uint8_t bytes[READ_PACKET_MAX];
    };
};
struct gate_scene_packet gate_scene_find(void);

#endif
