/* SPDX-License-Identifier: MIT */
/* The service manager's copy of a hold. The story: a supervisor that finds the ring of an older
 * version tells the manager what it has made of it, and may be killed between any two messages;
 * what is stored then leads its successor to everything that the ring held. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/channel_spec.h"
#include "common/fd.h"
#include "supervisor/hold/hold.h"
#include "supervisor/hold/store.h"
#include "supervisor/system/manager.h"
#include "supervisor/system/timer.h"
#include "tests/lib/unit.h"

static char path[] = "/tmp/holdfast-store-XXXXXX";
static int manager = -1;

static void settled(void *data)
{
    (void)data;
}

static void set_up(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    ck_assert_ptr_nonnull(mkdtemp(path));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/notify", path);
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert(bind(manager, (struct sockaddr *)&address, sizeof address) == 0);
    setenv("NOTIFY_SOCKET", address.sun_path, 1);
}

static void tear_down(void)
{
    char name[64];
    snprintf(name, sizeof name, "%s/notify", path);
    unlink(name);
    rmdir(path);
    fd_close(&manager);
}

/* The next message, its descriptors closed; NULL when there is none. */
static const char *said(void)
{
    static char text[256];
    ssize_t length = recv(manager, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = '\0';
    return length > 0 ? text : NULL;
}

static int memory(void)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

START_TEST(an_older_ring_is_known_by_its_new_name_before_the_former_one_goes)
{
    struct channel_spec spec = {.name = "engine", .max_datagram = 2048, .ring_size = 1 << 20};
    struct store store;
    struct stored stored;
    struct hold hold;
    bool old = false, private_part = false, ring = true; /* under this name lies the older one */
    ck_assert_int_eq(hold_init(&hold, &spec), 0);
    store_init(&store, NULL, settled, NULL);
    store_add(&store, &stored, spec.name, &hold);
    hold.old_ring = memory();
    store_note_restored(&stored);
    hold.ring = memory();
    hold.private_part = memory();
    store_follow(&stored);
    const char *message;
    for (int i = 0; (message = said()); i++) {
        bool removes = strstr(message, "FDSTOREREMOVE=1");
        old |= !removes && strstr(message, "FDNAME=engine.old");
        private_part |= !removes && strstr(message, "FDNAME=engine.private");
        if (strstr(message, "FDNAME=engine.ring"))
            ring = false;
        ck_assert_msg(old || ring, "killed after message %d, nobody finds the older ring", i);
        ck_assert_msg(private_part || ring, "killed after message %d, half of the memory is there",
                      i);
    }
    ck_assert_msg(old && private_part && !ring, "everything was said");
    stored_free(&stored);
    store_free(&store);
    hold_close(&hold);
}
END_TEST

static int never(sd_event_source *source, uint64_t time_us, void *userdata)
{
    (void)source;
    (void)time_us;
    (void)userdata;
    return 0;
}

static void allow_descriptors(bool more)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = more ? limit.rlim_max : 0;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* What is missing for a moment is no reason to keep nothing of a hold. */
START_TEST(without_a_free_descriptor_it_is_told_later)
{
    struct channel_spec spec = {.name = "engine", .max_datagram = 2048, .ring_size = 1 << 20};
    struct store store;
    struct stored stored;
    struct hold hold;
    struct timer other = {0}; /* with the first one, the loop takes a descriptor for all of them */
    sd_event *event = NULL;
    ck_assert_int_ge(sd_event_new(&event), 0);
    ck_assert_int_eq(timer_arm(&other, event, 3600 * NS_PER_S, never, NULL), 0);
    ck_assert_int_eq(hold_init(&hold, &spec), 0);
    store_init(&store, event, settled, NULL);
    store_add(&store, &stored, spec.name, &hold);
    hold.ring = memory();
    allow_descriptors(false);
    store_follow(&stored); /* the first thing that is ever said: there is no socket for it yet */
    ck_assert(stored.behind && store.behind);
    ck_assert_ptr_null(said());
    allow_descriptors(true);
    while (store.behind)
        ck_assert_int_ge(sd_event_run(event, NS_PER_S / NS_PER_US), 1);
    ck_assert_str_eq(said(), "FDSTORE=1\nFDPOLL=0\nFDNAME=engine.ring");
    allow_descriptors(false); /* from here on it needs none */
    ck_assert_int_eq(manager_notify("WATCHDOG=1", -1), 0);
    allow_descriptors(true);
    ck_assert_str_eq(said(), "WATCHDOG=1");
    store_free(&store);
    stored_free(&stored);
    hold_close(&hold);
    timer_disarm(&other);
    sd_event_unref(event);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *order = tcase_create("order");
    tcase_add_checked_fixture(order, set_up, tear_down);
    tcase_add_test(order, an_older_ring_is_known_by_its_new_name_before_the_former_one_goes);
    tcase_add_test(order, without_a_free_descriptor_it_is_told_later);
    suite_add_tcase(suite, order);
    return unit_run(suite);
}
