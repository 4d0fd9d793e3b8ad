/* SPDX-License-Identifier: MIT */
/* Prints what comes on a channel from now on, one line for each datagram.
 *
 *   follow [CHANNEL]
 *
 * Build: cc follow.c $(pkg-config --cflags --libs holdfast) */
#include <holdfast.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

static void print(const struct hf_datagram *datagram)
{
    char source[HF_ADDRESS_SIZE];
    hf_format_source(&datagram->source, source);
    printf("%llu from %s: %u bytes\n", (unsigned long long)datagram->seq, source, datagram->length);
}

/* All that is there now. 0, or -errno. */
static int drain(hf_reader *reader)
{
    struct hf_datagram datagram;
    for (;;) {
        int event = hf_next(reader, &datagram);
        if (event == HF_DATAGRAM)
            print(&datagram);
        else if (event == HF_LOST)
            printf("%llu missing: %s\n", (unsigned long long)datagram.lost,
                   hf_why_text(datagram.why));
        else
            return event; /* HF_NONE, or what is wrong with a file */
    }
}

int main(int argc, char **argv)
{
    hf *daemon;
    hf_reader *reader;
    int result = hf_open(&daemon, NULL);
    if (result < 0) {
        fprintf(stderr, "no daemon to read from: %s\n", strerror(-result));
        return 1;
    }
    result = hf_read(daemon, argc > 1 ? argv[1] : NULL, NULL, HF_NEW, &reader);
    if (result < 0) {
        fprintf(stderr, "the channel can't be read: %s\n", strerror(-result));
        hf_close(daemon);
        return 1;
    }
    struct pollfd wait = {.fd = hf_reader_fd(reader), .events = POLLIN};
    for (;;) {
        result = drain(reader);
        if (result < 0)
            fprintf(stderr, "reading: %s; trying again\n", strerror(-result));
        fflush(stdout);
        poll(&wait, 1, -1);
    }
}
