/* SPDX-License-Identifier: MIT */
/* Shows the newest datagram of a channel, ten times a second at most: for a display, where what is
 * old is of no use. It is read where it lies in the channel's memory, so it counts only if
 * hf_check() says behind its use that it was there all the time.
 *
 *   newest [CHANNEL]
 *
 * Build: cc newest.c $(pkg-config --cflags --libs holdfast) */
#include <holdfast.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define SHOWN 16 /* bytes */

static void show(hf_reader *reader, const struct hf_datagram *datagram)
{
    char text[2 * SHOWN + 1] = "";
    const unsigned char *bytes = datagram->data;
    for (unsigned i = 0; i < SHOWN && i < datagram->length; i++)
        snprintf(text + 2 * (size_t)i, 3, "%02x", bytes[i]);
    if (hf_check(reader, datagram))
        printf("%llu: %s (%u bytes, %llu passed over)\n", (unsigned long long)datagram->seq, text,
               datagram->length, (unsigned long long)datagram->lost);
}

int main(int argc, char **argv)
{
    hf *daemon;
    hf_reader *reader;
    const struct hf_start start = {.at = HF_LAST};
    int result = hf_open(&daemon, NULL);
    if (result == 0)
        result = hf_read(daemon, argc > 1 ? argv[1] : NULL, &start, HF_NEWEST, &reader);
    if (result < 0) {
        fprintf(stderr, "nothing to read: %s\n", strerror(-result));
        return 1;
    }
    struct pollfd wait = {.fd = hf_reader_fd(reader), .events = POLLIN};
    for (;;) {
        struct hf_datagram datagram;
        while (hf_next(reader, &datagram) == HF_DATAGRAM) {
            show(reader, &datagram);
            fflush(stdout);
            poll(NULL, 0, 100);
        }
        poll(&wait, 1, -1);
    }
}
