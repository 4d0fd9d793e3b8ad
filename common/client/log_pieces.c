/* SPDX-License-Identifier: MIT */
/* Lists of pieces, and a range as one file. Called by both kinds of handles. No descriptor is left
 * behind where something fails. */
#include "common/client/log_pieces.h"

#include <errno.h>
#include <stdlib.h>

#include "common/client/log_bytes.h"
#include "common/fd.h"

int log_pieces_add(struct hf_log_piece **list, size_t *count, const struct hf_log_piece *piece)
{
    struct hf_log_piece *grown = reallocarray(*list, *count + 1, sizeof *grown);
    if (!grown) {
        int fd = piece->log.fd;
        fd_close(&fd);
        return -ENOMEM;
    }
    *list = grown;
    grown[(*count)++] = *piece;
    return 0;
}

void log_pieces_free(struct hf_log_piece **list, size_t count)
{
    for (size_t i = 0; i < count && *list; i++)
        fd_close(&(*list)[i].log.fd);
    free(*list);
    *list = NULL;
}

int64_t log_pieces_copy(const struct log_range_source *source, const struct log_name *name, int to,
                        struct hf_log_range *ret)
{
    struct log_range *range;
    const uint8_t *bytes;
    int64_t copied = 0;
    long length = log_range_open(source, name->seq, name->last_seq, &range);
    if (length < 0)
        return length;
    while ((length = log_range_read(range, &bytes)) > 0) {
        int result = log_bytes_write(to, bytes, (size_t)length);
        if (result < 0) {
            length = result;
            break;
        }
        copied += length;
    }
    const struct log_range_told *told = log_range_so_far(range);
    if (length == 0)
        *ret = (struct hf_log_range){told->first_seq, told->last_seq, told->records};
    log_range_close(range);
    return length < 0 ? length : copied;
}
