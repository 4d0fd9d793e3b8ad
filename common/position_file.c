/* SPDX-License-Identifier: MIT */
/* Prints and reads the file of a reader's position. Called by the archive and the gate. Must never
 * take for a position what was not printed here: a reader that goes on at a wrong number has lost
 * datagrams and doesn't know it. */
#include "common/position_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/fd.h"
#include "common/log_folder.h"
#include "common/read_protocol.h"

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool position_name_is_valid(const char *name)
{
    size_t length = strnlen(name, READ_POSITION_SIZE);
    if (length == 0 || length >= READ_POSITION_SIZE || !is_letter_or_digit(name[0]))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!is_letter_or_digit(name[i]) && name[i] != '_' && name[i] != '-')
            return false;
    return true;
}

size_t position_file_print(const struct position_file *position, char text[POSITION_FILE_SIZE_MAX])
{
    int length = snprintf(text, POSITION_FILE_SIZE_MAX,
                          "seq %" PRIu64 "\nuid %" PRIu32 "\nsaved %" PRId64 "\n", position->seq,
                          position->uid, position->saved_ns);
    length +=
        snprintf(text + length, POSITION_FILE_SIZE_MAX - (size_t)length, "check %08" PRIx32 "\n",
                 avro_log_crc32c((const uint8_t *)text, (size_t)length));
    return (size_t)length;
}

/* Whatever is taken out of it, what counts is that printing that gives the same text: the check
 * word, the order and every sign. */
int position_file_parse(const char *text, size_t length, struct position_file *ret)
{
    char copy[POSITION_FILE_SIZE_MAX], again[POSITION_FILE_SIZE_MAX];
    struct position_file position;
    if (length >= sizeof copy || memchr(text, '\0', length))
        return -EBADMSG;
    memcpy(copy, text, length);
    copy[length] = '\0';
    if (sscanf(copy, "seq %" SCNu64 "\nuid %" SCNu32 "\nsaved %" SCNd64 "\n", &position.seq,
               &position.uid, &position.saved_ns) != 3)
        return -EBADMSG;
    if (position_file_print(&position, again) != length || memcmp(again, copy, length) != 0)
        return -EBADMSG;
    *ret = position;
    return 0;
}

int position_file_read(int folder, const char *name, struct position_file *ret)
{
    char text[POSITION_FILE_SIZE_MAX];
    int fd = log_folder_open(folder, name);
    if (fd < 0)
        return fd;
    ssize_t length = pread(fd, text, sizeof text, 0);
    int result = length < 0 ? -errno : position_file_parse(text, (size_t)length, ret);
    fd_close(&fd);
    return result;
}
