/* SPDX-License-Identifier: MIT */
/* A gate that takes nothing more is asked for one channel, however many wait for it. */
#include <check.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "common/channel_page.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/channel/channel.h"
#include "supervisor/channel/channels.h"
#include "supervisor/child/child.h"
#include "supervisor/gate/gate_client.h"
#include "tests/lib/unit.h"

#define CHANNELS 100

START_TEST(a_gate_that_is_behind_is_tried_once)
{
    static struct channel channel[CHANNELS];
    static struct channel *list[CHANNELS];
    static struct channel_spec spec = {.name = "engine"};
    static struct gate_client gate;
    static struct child child;
    static struct channel_host host = {.gate = &gate};
    struct channels channels = {.host = &host, .list = list, .count = CHANNELS};
    void *page = calloc(1, sizeof(struct channel_page));
    ck_assert_int_ge(sd_event_new(&gate.event), 0);
    child.queue = (struct queued_message *)page; /* there is one: no more is looked at */
    gate.child = &child;
    for (int i = 0; i < CHANNELS; i++) {
        list[i] = &channel[i];
        channel[i].host = &host;
        channel[i].spec = &spec;
        channel[i].hold.page = page;
        channel[i].hold.ring = memfd_create("ring", MFD_CLOEXEC);
        channel[i].hold.old_ring = -1;
        channel[i].reading.behind = true;
    }
    channels_lend_on(&channels);
    ck_assert_str_eq(channel[0].reading.lent.channel, "engine");
    for (int i = 1; i < CHANNELS; i++)
        ck_assert_msg(!channel[i].reading.lent.channel[0], "channel %d was made ready in vain", i);
}
END_TEST

/* Of an earlier version's ring: 5000 datagrams, all of them in the log. Its first worker has yet to
 * bring it over. */
START_TEST(a_position_is_kept_before_an_old_ring_is_brought_over)
{
    static struct channel channel;
    static struct channel *list[] = {&channel};
    static struct channel_spec spec = {.name = "engine", .record.enabled = true};
    static struct gate_client gate;
    static struct child child;
    static struct archive_client archive;
    static struct channel_host host = {.gate = &gate, .archive = &archive};
    struct channels channels = {.host = &host, .list = list, .by_name = list, .count = 1};
    struct channel_page *page = calloc(1, sizeof *page);
    gate.child = &child;
    channel.host = &host;
    channel.spec = &spec;
    /* as restore_old_ring() leaves it: start_seq 0, published 5000, recorded 5000 */
    channel.hold.page = page;
    channel.hold.ring = memfd_create("ring", MFD_CLOEXEC);
    channel.hold.old_ring = memfd_create("old", MFD_CLOEXEC);
    atomic_store(&page->private.converted, RING_TO_BE_CONVERTED);
    channel.recording.restored = channel.recording.placed = true;
    channel.ledger.seq_end = 5000;
    struct message_position_save save = {.channel = "engine", .name = "mine", .seq = 5000};
    const struct archive_owner owner = channels_as_archive_owner(&channels);
    ck_assert_int_eq(owner.position_judge(owner.data, &save), POSITION_MAY_GO);
    ck_assert_uint_eq(save.seq, 5000);
    save.seq = 6000;
    ck_assert_int_eq(owner.position_judge(owner.data, &save), POSITION_MAY_GO);
    ck_assert_uint_eq(save.seq, 5000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("channels_lend");
    TCase *part = tcase_create("lend");
    tcase_add_test(part, a_gate_that_is_behind_is_tried_once);
    tcase_add_test(part, a_position_is_kept_before_an_old_ring_is_brought_over);
    suite_add_tcase(suite, part);
    return unit_run(suite);
}
