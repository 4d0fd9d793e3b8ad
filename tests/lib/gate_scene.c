/* SPDX-License-Identifier: MIT */
/* The scene of all tests in which readers do what they should not. */
#include "tests/lib/gate_scene.h"

#include <check.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "tests/lib/deny_call.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

static const struct denied_call older_kernel = {
    .number = SYS_setsockopt, .error = ENOPROTOOPT, .argument = 2, .is = SO_PASSRIGHTS};

static void begin(struct gate_scene *scene, const struct denied_call *denied)
{
    const struct ring_fixture_settings settings = {.ring_size = 1 << 20, .max_datagram = 1400};
    ring_fixture_open(&scene->fixture, &settings);
    gate_rig_prepare(&scene->rig);
    scene->rig.denied = denied;
    gate_rig_lend(&scene->rig, GATE_RIG_CHANNEL, GATE_SCENE_RING, scene->fixture.memory.ring);
    gate_rig_log(&scene->rig, 0, 10, false, scene->log);
    gate_rig_start(&scene->rig);
    scene->committed = 0;
    scene->neighbour = gate_rig_connect(&scene->rig);
    gate_rig_attach(scene->neighbour, GATE_RIG_CHANNEL, HF_NEW);
}

void gate_scene_begin(struct gate_scene *scene)
{
    begin(scene, NULL);
}

void gate_scene_end(struct gate_scene *scene)
{
    fd_close(&scene->neighbour);
    gate_rig_end(&scene->rig);
    ring_fixture_close(&scene->fixture);
}

void gate_scene_serves_neighbour(struct gate_scene *scene)
{
    const struct read_arm arm = {
        .what = READ_FOR_COMMITTED, .seq = scene->committed, .ring = GATE_SCENE_RING};
    ck_assert_str_eq(gate_rig_find(scene->neighbour, READ_FIRST, 0)->found->name, scene->log);
    gate_rig_request(scene->neighbour, READ_ARM, 0, &arm, sizeof arm);
    gate_rig_quiet(scene->neighbour);
    channel_page_write_commit(scene->fixture.ring.page,
                              &(struct commit_progress){.next_seq = ++scene->committed});
    read_wake_ring(&scene->rig.words[GATE_RIG_WORD], scene->rig.bell, READ_WAKE_ANY);
    gate_rig_answer(scene->neighbour, READ_WOKEN);
}

struct gate_scene_packet gate_scene_find(void)
{
    struct gate_scene_packet packet = {.header = {.magic = READ_MAGIC,
                                                  .version = READ_VERSION,
                                                  .type = READ_FIND,
                                                  .request = 5,
                                                  .size = sizeof packet.find}};
    packet.find.by = READ_FIRST;
    return packet;
}

/* ---- all of them ---- */

static struct gate_scene *present; /* fixtures have no argument */

static void set_up(void)
{
    begin(present, NULL);
}

static void set_up_older(void)
{
    begin(present, &older_kernel);
}

static void tear_down(void)
{
    gate_scene_end(present);
}

static void add(Suite *suite, const char *name, void set_up_one(void), const TTest *const tests[])
{
    TCase *part = tcase_create(name);
    tcase_add_checked_fixture(part, set_up_one, tear_down);
    tcase_set_timeout(part, 200);
    for (; *tests; tests++)
        tcase_add_test(part, *tests);
    suite_add_tcase(suite, part);
}

int gate_scene_run(const char *suite, struct gate_scene *scene, const TTest *const tests[],
                   const TTest *const again[])
{
    Suite *all = suite_create(suite);
    present = scene;
    add(all, "present", set_up, tests);
    add(all, "older", set_up_older, again);
    return log_maker_run(all);
}
