/* SPDX-License-Identifier: MIT */
/* Copies what a channel received in a range of time to another program, as one line per datagram:
 *
 *     copy_range /var/lib/holdfast/engine 1790000000 1790000060 | other-program
 *
 * Times are seconds since 1970-01-01 UTC, with a fraction if wanted. What is missing in between
 * goes to the standard error. No daemon is needed, and none is disturbed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <holdfast.h>

static int fail(const char *what, int error)
{
    fprintf(stderr, "copy_range: %s: %s\n", what, strerror(-error));
    return 1;
}

static void print_hex(const uint8_t *data, uint32_t length)
{
    static const char digits[] = "0123456789abcdef";
    for (uint32_t i = 0; i < length; i++) {
        putchar(digits[data[i] >> 4]);
        putchar(digits[data[i] & 15]);
    }
}

static void print_datagram(const struct hf_datagram *datagram)
{
    char source[HF_ADDRESS_SIZE];
    hf_format_source(&datagram->source, source);
    printf("%" PRIu64 " %" PRId64 " %s %" PRIu32 " ", datagram->seq, datagram->time_ns, source,
           datagram->length);
    print_hex(datagram->data, datagram->length);
    putchar('\n');
}

/* Up to the first datagram that was received at `until` or later. */
static int copy(hf_reader *reader, int64_t until)
{
    struct hf_datagram datagram;
    int what;
    while ((what = hf_next(reader, &datagram)) >= 0 && what != HF_FINISHED) {
        if (what == HF_LOST)
            fprintf(stderr, "copy_range: %" PRIu64 " from %" PRIu64 " on are missing: %s\n",
                    datagram.lost, datagram.seq, hf_why_text(datagram.why));
        else if (what == HF_DATAGRAM && datagram.time_ns >= until)
            return 0;
        else if (what == HF_DATAGRAM)
            print_datagram(&datagram);
    }
    return what;
}

static int64_t nanoseconds(const char *text)
{
    char *end;
    long long seconds = strtoll(text, &end, 10);
    double fraction = *end == '.' ? strtod(end, NULL) : 0;
    return (int64_t)seconds * 1000000000 + (int64_t)(fraction * 1e9);
}

int main(int argc, char **argv)
{
    hf *handle;
    hf_reader *reader;
    if (argc != 4) {
        fprintf(stderr, "usage: copy_range FOLDER|FILE FROM UNTIL\n");
        return 2;
    }
    const char *const paths[] = {argv[1]};
    int result = hf_open_files(&handle, paths, 1);
    if (result < 0) {
        fprintf(stderr, "copy_range: %s\n", hf_file_problem());
        return 1;
    }
    const struct hf_start start = {.at = HF_TIME, .time_ns = nanoseconds(argv[2])};
    result = hf_read(handle, NULL, &start, HF_OLD, &reader);
    if (result >= 0)
        result = copy(reader, nanoseconds(argv[3]));
    hf_close(handle); /* and its reader */
    if (fflush(stdout) != 0 || ferror(stdout))
        return fail("standard output", -1);
    return result < 0 ? fail(argv[1], result) : 0;
}
