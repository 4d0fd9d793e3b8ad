/* SPDX-License-Identifier: MIT */
/* Notices that files of one channel are parts of two recordings, of two machines for instance: a
 * number then names two datagrams. Called by hf_open_files(). All files of a folder are of the
 * recording that its newest one is of, as the archive has it, so one of each folder is looked at,
 * however many there are. What doesn't say where it belongs is believed to belong here. */
#include "common/client/offline_mixed.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/avro_log_header.h"

/* Of its folder, or of itself if it was named by itself. */
static void find_place(const struct offline_file *file, char ret_path[PATH_MAX])
{
    char link[64];
    if (file->path) {
        snprintf(ret_path, PATH_MAX, "%s", file->path);
        return;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", file->folder);
    ssize_t length = readlink(link, ret_path, PATH_MAX - 1);
    ret_path[length > 0 ? length : 0] = '\0';
}

static int say_mixed(struct offline_channel *channel, const struct offline_file *a,
                     const struct offline_file *b)
{
    char one[PATH_MAX], other[PATH_MAX];
    find_place(a, one);
    find_place(b, other);
    int length = asprintf(&channel->mixed,
                          "%s and %s are two recordings of channel %s: read one after the other",
                          one, other, channel->name);
    if (length < 0)
        channel->mixed = NULL;
    return length < 0 ? -ENOMEM : 0;
}

struct look {
    const int *folders;
    bool *is_known; /* of these */
    size_t folder_count;
    const struct offline_file *first; /* that says where it belongs */
    uint8_t log_id[AVRO_LOG_ID_SIZE]; /* its recording */
};

/* Which recording is it of, as far as that is to be found out with this file? */
static bool look_at(struct look *look, const struct offline_file *file,
                    uint8_t ret[AVRO_LOG_ID_SIZE])
{
    struct avro_log_identity identity;
    size_t i = 0;
    if (file->path) {
        memcpy(ret, file->log_id, AVRO_LOG_ID_SIZE);
        return avro_log_id_is_known(ret);
    }
    while (i < look->folder_count && look->folders[i] != file->folder)
        i++;
    if (i == look->folder_count || look->is_known[i])
        return false;
    /* An older version's header says nothing; no other one is asked then. */
    look->is_known[i] = offline_file_identify(file, &identity, NULL);
    if (look->is_known[i])
        memcpy(ret, identity.log_id, AVRO_LOG_ID_SIZE);
    return look->is_known[i] && avro_log_id_is_known(ret);
}

static int look_at_channel(struct look *look, struct offline_channel *channel)
{
    uint8_t log_id[AVRO_LOG_ID_SIZE];
    look->first = NULL;
    memset(look->is_known, 0, look->folder_count * sizeof *look->is_known);
    for (size_t i = channel->count; i-- > 0;) {
        const struct offline_file *file = &channel->files[i];
        if (!look_at(look, file, log_id))
            continue;
        if (look->first && memcmp(log_id, look->log_id, sizeof log_id) != 0)
            return say_mixed(channel, file, look->first);
        look->first = file;
        memcpy(look->log_id, log_id, sizeof log_id);
    }
    return 0;
}

int offline_mixed_look(struct offline_set *set)
{
    struct look look = {.folders = set->folders, .folder_count = set->folder_count};
    int result = 0;
    look.is_known = calloc(set->folder_count + 1, sizeof *look.is_known);
    if (!look.is_known)
        return -ENOMEM;
    for (size_t i = 0; i < set->count && result == 0; i++)
        if (offline_channel_folder(&set->channels[i]) < 0)
            result = look_at_channel(&look, &set->channels[i]);
    free(look.is_known);
    return result;
}
