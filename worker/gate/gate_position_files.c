/* SPDX-License-Identifier: MIT */
/* Reads positions below log_dir, in threads of the pool. There may be any number of files: a list
 * keeps no more names in mind than fit into an answer. */
#include "worker/gate/gate_position_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/channel_spec.h"
#include "common/fd.h"
#include "worker/gate/gate_folder.h"

int gate_position_files_read(const char *log_dir, const char *channel, const char *name,
                             struct position_file *ret)
{
    if (!channel_name_is_valid(channel) || !position_name_is_valid(name))
        return -EINVAL;
    int dir = gate_folder_open_below(log_dir, POSITION_FOLDER, channel);
    if (dir < 0)
        return dir;
    int result = position_file_read(dir, name, ret);
    fd_close(&dir);
    return result;
}

/* ---- lists ---- */

_Static_assert(READ_POSITION_SIZE >= CHANNEL_NAME_SIZE, "a name of either kind fits");

/* The first few of any number of names, in order. */
struct first_names {
    unsigned count;
    char names[READ_LIST_MAX][READ_POSITION_SIZE];
};

static void sort_in(struct first_names *first, const char *name)
{
    unsigned at = first->count;
    while (at > 0 && strcmp(first->names[at - 1], name) > 0)
        at--;
    if (at == READ_LIST_MAX)
        return;
    unsigned kept = first->count < READ_LIST_MAX ? first->count : READ_LIST_MAX - 1;
    memmove(first->names[at + 1], first->names[at], (kept - at) * sizeof first->names[0]);
    snprintf(first->names[at], sizeof first->names[at], "%s", name);
    first->count = kept + 1;
}

/* Names for which is_name() holds, behind `after` or, with `itself`, from it on. Takes dir over. */
static int read_names(int dir, bool is_name(const char *), const char *after, bool itself,
                      struct first_names *ret)
{
    ret->count = 0;
    DIR *folder = fdopendir(dir);
    if (!folder) {
        int result = -errno;
        fd_close(&dir);
        return result;
    }
    for (const struct dirent *entry; (entry = readdir(folder));) {
        const char *name = entry->d_name;
        int order = strcmp(name, after);
        if (strlen(name) < sizeof ret->names[0] && is_name(name) &&
            (order > 0 || (order == 0 && itself)))
            sort_in(ret, name);
    }
    closedir(folder);
    return 0;
}

static bool is_channel_name(const char *name)
{
    return channel_name_is_valid(name) && strlen(name) < CHANNEL_NAME_SIZE;
}

static void describe(const char *channel, const char *name, const struct position_file *position,
                     struct read_position_entry *ret)
{
    *ret = (struct read_position_entry){
        .seq = position->seq, .saved_ns = position->saved_ns, .uid = position->uid};
    snprintf(ret->channel, sizeof ret->channel, "%s", channel);
    snprintf(ret->name, sizeof ret->name, "%s", name);
}

/* Of one channel; adds to *count. */
static int list_channel(const char *log_dir, const char *channel, const char *after,
                        struct read_position_entry ret[READ_LIST_MAX], int *count)
{
    struct first_names first;
    char last[READ_POSITION_SIZE];
    snprintf(last, sizeof last, "%s", after);
    do {
        int dir = gate_folder_open_below(log_dir, POSITION_FOLDER, channel);
        if (dir < 0)
            return dir == -ENOENT ? 0 : dir;
        int result = read_names(dir, position_name_is_valid, last, false, &first);
        if (result < 0)
            return result;
        for (unsigned i = 0; i < first.count && *count < READ_LIST_MAX; i++) {
            struct position_file position;
            if (gate_position_files_read(log_dir, channel, first.names[i], &position) == 0)
                describe(channel, first.names[i], &position, &ret[(*count)++]);
            memcpy(last, first.names[i], sizeof last);
        }
    } while (first.count == READ_LIST_MAX && *count < READ_LIST_MAX);
    return 0;
}

/* Of all channels. */
static int list_all(const char *log_dir, const struct read_list_positions *wanted,
                    struct read_position_entry ret[READ_LIST_MAX], int *count)
{
    struct first_names channels;
    char from[READ_POSITION_SIZE];
    bool itself = true;
    snprintf(from, sizeof from, "%s", wanted->after_channel);
    do {
        int dir = gate_folder_open_below(log_dir, POSITION_FOLDER, NULL);
        if (dir < 0)
            return dir == -ENOENT ? 0 : dir;
        int result = read_names(dir, is_channel_name, from, itself, &channels);
        for (unsigned i = 0; i < channels.count && *count < READ_LIST_MAX && result == 0; i++) {
            bool begun = strcmp(channels.names[i], wanted->after_channel) == 0;
            result =
                list_channel(log_dir, channels.names[i], begun ? wanted->after : "", ret, count);
            memcpy(from, channels.names[i], sizeof from);
            itself = false;
        }
        if (result < 0)
            return result;
    } while (channels.count == READ_LIST_MAX && *count < READ_LIST_MAX);
    return 0;
}

int gate_position_files_list(const char *log_dir, const struct read_list_positions *wanted,
                             struct read_position_entry ret[READ_LIST_MAX])
{
    int count = 0, result;
    if (!wanted->channel[0])
        result = list_all(log_dir, wanted, ret, &count);
    else if (channel_name_is_valid(wanted->channel))
        result = list_channel(log_dir, wanted->channel, wanted->after, ret, &count);
    else
        return -EINVAL;
    return result < 0 ? result : count;
}
