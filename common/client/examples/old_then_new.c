/* SPDX-License-Identifier: MIT */
/* Works through all of a channel, what is recorded and what comes, and goes on where it was when it
 * is started again: each datagram at least once. A failure between the work and the next hf_save()
 * makes it come again, so the work must bear that.
 *
 *   old_then_new CHANNEL POSITION
 *
 * Build: cc old_then_new.c $(pkg-config --cflags --libs holdfast) */
#include <holdfast.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define SAVE_EVERY 1000

static int work_on(const struct hf_datagram *datagram)
{
    return fwrite(datagram->data, 1, datagram->length, stdout) == datagram->length ? 0 : -1;
}

/* Everything before this number is done with, as far as this program can see to it. */
static int save(hf_reader *reader, unsigned long long done_before)
{
    if (fflush(stdout) != 0)
        return -1;
    int result = hf_save(reader, done_before);
    if (result < 0) /* the daemon may be away: it will be said again later */
        fprintf(stderr, "not saved: %s\n", strerror(-result));
    return 0;
}

static int follow(hf_reader *reader)
{
    struct pollfd wait = {.fd = hf_reader_fd(reader), .events = POLLIN};
    struct hf_datagram datagram;
    unsigned long long done_before = 0, unsaved = 0;
    for (;;) {
        int event = hf_next(reader, &datagram);
        if (event == HF_DATAGRAM) {
            if (work_on(&datagram) < 0)
                return 1;
            done_before = datagram.seq + 1;
            unsaved++;
        } else if (event == HF_LOST) {
            fprintf(stderr, "from %llu on, %llu are missing: %s\n",
                    (unsigned long long)datagram.seq, (unsigned long long)datagram.lost,
                    hf_why_text(datagram.why));
        } else if (event == HF_LIVE) {
            fprintf(stderr, "all that was recorded is done; what follows is new\n");
        } else if (event < 0) {
            fprintf(stderr, "reading: %s; trying again\n", strerror(-event));
        }
        bool idle = event == HF_NONE || event < 0;
        if (unsaved >= SAVE_EVERY || (idle && unsaved > 0)) {
            if (save(reader, done_before) < 0)
                return 1;
            unsaved = 0;
        }
        if (idle)
            poll(&wait, 1, -1);
    }
}

int main(int argc, char **argv)
{
    hf *daemon;
    hf_reader *reader;
    if (argc != 3)
        return 2;
    const struct hf_start start = {.at = HF_POSITION, .position = argv[2]};
    int result = hf_open(&daemon, NULL);
    if (result == 0)
        result = hf_read(daemon, argv[1], &start, HF_JOINED, &reader);
    if (result == 0)
        return follow(reader);
    fprintf(stderr, "%s: %s\n", argv[1], strerror(-result));
    return 1;
}
