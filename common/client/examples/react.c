/* SPDX-License-Identifier: MIT */
/* Reads what comes on one channel, and publishes an answer to each datagram into another one: its
 * number and its length. While that one is full, it reads no further, and misses nothing.
 *
 *   react FROM TO
 *
 * Build: cc react.c $(pkg-config --cflags --libs holdfast) */
#include <errno.h>
#include <holdfast.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

/* 0, -EAGAIN: no room for it, or what is wrong. */
static int answer(hf_writer *writer, const struct hf_datagram *datagram)
{
    char text[64];
    void *room;
    const int length = snprintf(text, sizeof text, "%llu: %u bytes",
                                (unsigned long long)datagram->seq, datagram->length);
    int result = hf_reserve(writer, (uint32_t)length, &room);
    if (result < 0)
        return result;
    memcpy(room, text, (size_t)length);
    return hf_commit(writer, (uint32_t)length);
}

/* What was read and is not answered yet. */
static struct hf_datagram unanswered;
static int is_unanswered;

/* As far as it goes now: HF_NONE, -EAGAIN as above, or what is wrong. */
static int go_on(hf_reader *reader, hf_writer *writer)
{
    for (;;) {
        if (is_unanswered) {
            int result = answer(writer, &unanswered);
            if (result < 0)
                return result;
            is_unanswered = 0;
        }
        int event = hf_next(reader, &unanswered);
        if (event == HF_DATAGRAM)
            is_unanswered = 1;
        else if (event == HF_LOST)
            fprintf(stderr, "%llu missing: %s\n", (unsigned long long)unanswered.lost,
                    hf_why_text(unanswered.why));
        else if (event <= 0)
            return event;
    }
}

static int run(hf_reader *reader, hf_writer *writer)
{
    int told = 0;
    for (;;) {
        int result = go_on(reader, writer);
        const int waits_for_room = result == -EAGAIN;
        if (result == -ECONNABORTED || result == -EPROTO || result == -EMSGSIZE)
            return result; /* for ever */
        if (result < 0 && !waits_for_room && result != told)
            fprintf(stderr, "answering: %s; trying again\n", strerror(-result));
        told = result;
        if (!is_unanswered)
            hf_wait_durable(writer, 0, 0); /* whatever its descriptor was readable for */
        struct pollfd waits[] = {
            {.fd = hf_writer_fd(writer), .events = POLLIN},
            {.fd = is_unanswered ? -1 : hf_reader_fd(reader), .events = POLLIN}};
        poll(waits, 2, -1);
    }
}

int main(int argc, char **argv)
{
    hf *daemon;
    hf_reader *reader;
    hf_writer *writer;
    if (argc != 3) {
        fprintf(stderr, "usage: react FROM TO\n");
        return 2;
    }
    int result = hf_open(&daemon, NULL);
    if (result < 0) {
        fprintf(stderr, "no daemon to read from: %s\n", strerror(-result));
        return 1;
    }
    result = hf_publish(daemon, argv[2], &writer);
    if (result < 0)
        fprintf(stderr, "%s can't be published to: %s\n", argv[2], strerror(-result));
    if (result == 0) {
        result = hf_read(daemon, argv[1], NULL, HF_NEW, &reader);
        if (result < 0)
            fprintf(stderr, "%s can't be read: %s\n", argv[1], strerror(-result));
        else
            result = run(reader, writer);
    }
    hf_close(daemon);
    return result != 0;
}
