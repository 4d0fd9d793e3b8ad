/* SPDX-License-Identifier: MIT */
/* Looks after what earlier configurations have left in log_dir. Called by archive.c for SWEEP. Must
 * never remove a record, nor touch a folder whose name can't be a channel's or that holds nothing
 * unfinished. */
#include "worker/archive/strays.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/avro_log_name.h"
#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/message.h"
#include "worker/archive/folder.h"
#include "worker/archive/recovery.h"

static struct {
    char (*names)[CHANNEL_NAME_SIZE];
    size_t count;
    bool incomplete; /* no memory for a name: nothing may be taken for a stray */
} channels;

void strays_note_channel(const char *channel)
{
    char(*names)[CHANNEL_NAME_SIZE] = realloc(channels.names, (channels.count + 1) * sizeof *names);
    if (!names) {
        channels.incomplete = true;
        return;
    }
    channels.names = names;
    snprintf(names[channels.count++], CHANNEL_NAME_SIZE, "%s", channel);
}

static bool is_channel(const char *name)
{
    for (size_t i = 0; i < channels.count; i++)
        if (strcmp(channels.names[i], name) == 0)
            return true;
    return false;
}

static bool has_unfinished(const char *log_dir, const char *name)
{
    struct folder_list list;
    bool found = false;
    int folder = folder_open(log_dir, name, false);
    if (folder < 0)
        return false;
    if (folder_list(folder, name, &list) < 0)
        list.count = 0;
    for (size_t i = 0; i < list.count; i++)
        found |= avro_log_name_ends_in(list.files[i].name, AVRO_LOG_OPEN_SUFFIX) ||
                 avro_log_name_ends_in(list.files[i].name, AVRO_LOG_MENDING_SUFFIX);
    folder_list_free(&list);
    fd_close(&folder);
    return found;
}

static bool is_stray(const char *log_dir, const char *name)
{
    return channel_name_is_valid(name) && !is_channel(name) && has_unfinished(log_dir, name);
}

static void finish(const char *log_dir, const char *name)
{
    struct message_recover request = {0};
    struct message_recovered recovered;
    snprintf(request.channel, sizeof request.channel, "%s", name);
    recovery_run(log_dir, &request, &recovered);
    if (recovered.error == EBUSY)
        log_debug("channel %s: %s", name, recovered.reason);
    else if (recovered.error)
        log_warning(
            "channel %s: no channel of this name records, and what it left can't be finished: %s",
            name, recovered.reason);
    else
        log_notice("channel %s: no channel of this name records any more: what was unfinished is "
                   "sealed (%u "
                   "files); its folder is kept, and nothing in it expires",
                   name, recovered.files);
}

void strays_sweep(const char *log_dir)
{
    const struct dirent *entry;
    DIR *stream = channels.incomplete ? NULL : opendir(log_dir);
    while (stream && (entry = readdir(stream)))
        if (is_stray(log_dir, entry->d_name))
            finish(log_dir, entry->d_name);
    if (stream)
        closedir(stream);
}

bool strays_any(const char *log_dir)
{
    const struct dirent *entry;
    bool found = false;
    DIR *stream = opendir(log_dir);
    while (stream && !found && (entry = readdir(stream)))
        found = is_stray(log_dir, entry->d_name);
    if (stream)
        closedir(stream);
    return found;
}

bool strays_knows_channels(void)
{
    return channels.count > 0 || channels.incomplete;
}

void strays_forget_channels(void)
{
    channels.count = 0;
    channels.incomplete = false;
}
