/* SPDX-License-Identifier: MIT */
/* Collects log files by path. Called by hf_open_files() and by readers of files. In a folder files
 * are taken by their names, so that ten thousand of them are no more than a list; one that is named
 * by itself is looked at, whatever it is called. Files may go away and be renamed at any time. */
#include "common/client/offline_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/avro_log_end.h"
#include "common/avro_log_header.h"
#include "common/client/segment_walk.h"
#include "common/fd.h"
#include "common/log_folder.h"
#include "common/monotonic.h"

/* ---- the set ---- */

/* Room for so many. */
static int reserve(void **array, size_t *room, size_t count, size_t size)
{
    if (count <= *room)
        return 0;
    size_t more = *room ? *room * 2 : 16;
    if (more < count)
        more = count;
    void *larger = reallocarray(*array, more, size);
    if (!larger)
        return -ENOMEM;
    *array = larger;
    *room = more;
    return 0;
}

static struct offline_channel *get_channel(struct offline_set *set, const char *name)
{
    for (size_t i = set->count; i > 0; i--)
        if (strcmp(set->channels[i - 1].name, name) == 0)
            return &set->channels[i - 1];
    void *channels = set->channels;
    if (reserve(&channels, &set->room, set->count + 1, sizeof *set->channels) < 0)
        return NULL;
    set->channels = channels;
    struct offline_channel *channel = &set->channels[set->count++];
    *channel = (struct offline_channel){0};
    snprintf(channel->name, sizeof channel->name, "%s", name);
    return channel;
}

static int add_files(struct offline_set *set, const char *channel_name,
                     const struct offline_file *new, size_t count)
{
    struct offline_channel *channel = count > 0 ? get_channel(set, channel_name) : NULL;
    if (!channel)
        return count > 0 ? -ENOMEM : 0;
    void *files = channel->files;
    int result = reserve(&files, &channel->room, channel->count + count, sizeof *new);
    channel->files = files;
    if (result < 0)
        return result;
    memcpy(&channel->files[channel->count], new, count * sizeof *new);
    channel->count += count;
    return 0;
}

/* The set owns the descriptor from here on, in any case. */
static int add_folder_fd(struct offline_set *set, int fd)
{
    void *folders = set->folders;
    int result = reserve(&folders, &set->folder_room, set->folder_count + 1, sizeof *set->folders);
    set->folders = folders;
    if (result < 0)
        fd_close(&fd);
    else
        set->folders[set->folder_count++] = fd;
    return result;
}

static void read_name(struct offline_file *file, const char *name, const char *channel)
{
    struct avro_log_name parts;
    file->by_name =
        avro_log_name_is_of(name, channel) && avro_log_name_parse(name, channel, &parts);
    if (!file->by_name)
        return;
    memcpy(file->utc, parts.utc, AVRO_LOG_UTC_LENGTH);
    file->number = parts.number;
    file->first_seq = parts.first_seq;
}

/* ---- a file that was named by itself ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Its header is damaged: what does its first record say? */
static int look_at_records(int fd, struct offline_file *file, const char **ret_what)
{
    struct segment_walk *walk;
    struct avro_log_record record;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return -errno;
    int result = segment_walk_open(own, file->open, &walk, ret_what);
    if (result < 0)
        return result;
    if (!file->by_name && segment_walk_next(walk, 0, &record) == WALK_RECORD)
        file->first_seq = (uint64_t)record.seq;
    segment_walk_close(walk);
    return 0;
}

static void read_identity(struct offline_file *file, const struct avro_log_identity *identity)
{
    if (!file->by_name) {
        time_t seconds = (time_t)(identity->created_ns / NS_PER_S);
        struct tm utc;
        gmtime_r(&seconds, &utc);
        strftime(file->utc, sizeof file->utc, "%Y%m%dT%H%M%SZ", &utc);
    }
    file->first_seq = identity->first_seq;
    memcpy(file->log_id, identity->log_id, sizeof file->log_id);
    if (!identity->has_totals)
        return;
    file->end_seq = identity->totals.last_seq + 1;
    file->latest_ns = identity->totals.latest_ns;
}

static int look_at_file(struct offline_set *set, int fd, struct offline_file *file,
                        const char **ret_what)
{
    struct avro_log_identity identity;
    char channel[CHANNEL_NAME_SIZE];
    avro_log_name_channel(file->name, channel);
    read_name(file, file->name, channel);
    long length = avro_log_load_header(fd, &identity, ret_what);
    if (length > 0) {
        read_name(file, file->name, identity.channel);
        read_identity(file, &identity);
        return add_files(set, identity.channel, file, 1);
    }
    if (length != -EBADMSG && length != -EIO)
        return (int)length;
    /* A segment that was not begun has nothing in it yet. */
    int result = file->open && avro_log_is_blank(fd) > 0 ? 0 : look_at_records(fd, file, ret_what);
    return result < 0 ? result : add_files(set, channel, file, 1);
}

static int add_path_of_file(struct offline_set *set, const char *path, int fd,
                            const char **ret_what)
{
    struct offline_file file = {.folder = -1,
                                .number = 1,
                                .open = avro_log_name_ends_in(path, AVRO_LOG_OPEN_SUFFIX),
                                .path = realpath(path, NULL)};
    if (!file.path)
        return -errno;
    snprintf(file.name, sizeof file.name, "%s", base_name(path));
    int result = look_at_file(set, fd, &file, ret_what);
    if (result < 0)
        free(file.path);
    return result;
}

/* ---- a folder ---- */

static void read_entry(int folder, const char *channel, const struct log_folder_file *entry,
                       struct offline_file *ret)
{
    *ret = (struct offline_file){.folder = folder, .open = entry->open};
    memcpy(ret->name, entry->name, sizeof ret->name);
    read_name(ret, ret->name, channel);
}

static int add_segments(struct offline_set *set, int folder, const char *channel)
{
    struct log_folder list;
    int result = log_folder_read(folder, channel, &list);
    struct offline_file *files = result < 0 ? NULL : calloc(list.count + 1, sizeof *files);
    if (files) {
        for (size_t i = 0; i < list.count; i++)
            read_entry(folder, channel, &list.files[i], &files[i]);
        result = add_files(set, channel, files, list.count);
        free(files);
    } else if (result == 0) {
        result = -ENOMEM;
    }
    log_folder_free(&list);
    return result;
}

/* The channels that files here are of, as a rule one: in a set of their own, without files. */
static int find_channels(DIR *stream, struct offline_set *ret)
{
    for (;;) {
        struct offline_file file = {0};
        char channel[CHANNEL_NAME_SIZE];
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (!entry)
            return -errno;
        if (!avro_log_name_ends_in(entry->d_name, AVRO_LOG_SUFFIX) &&
            !avro_log_name_ends_in(entry->d_name, AVRO_LOG_OPEN_SUFFIX))
            continue;
        avro_log_name_channel(entry->d_name, channel);
        read_name(&file, entry->d_name, channel);
        if (file.by_name && channel_name_is_valid(channel) && !get_channel(ret, channel))
            return -ENOMEM;
    }
}

static DIR *open_stream(int folder)
{
    int own = fcntl(folder, F_DUPFD_CLOEXEC, 0);
    DIR *stream = own < 0 ? NULL : fdopendir(own);
    if (!stream)
        fd_close(&own);
    else
        rewinddir(stream);
    return stream;
}

/* The folder is the set's from here on. Returns how many channels have files in it, or -errno. */
static int add_channels(struct offline_set *set, int folder)
{
    struct offline_set found = {0};
    int result = add_folder_fd(set, folder);
    DIR *stream = result < 0 ? NULL : open_stream(folder);
    if (!stream)
        return result < 0 ? result : -errno;
    result = find_channels(stream, &found);
    closedir(stream);
    for (size_t i = 0; i < found.count && result == 0; i++)
        result = add_segments(set, folder, found.channels[i].name);
    const int count = (int)found.count;
    offline_set_free(&found);
    return result < 0 ? result : count;
}

/* Folders of channels in a log_dir. One that isn't ours to read, like lost+found, is passed over
 * unless there is no other. */
static int add_folders_in(struct offline_set *set, DIR *stream)
{
    int count = 0, error = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (!entry)
            break;
        if (entry->d_name[0] == '.' || (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN))
            continue;
        int fd =
            openat(dirfd(stream), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
            continue;
        int result = fd < 0 ? -errno : add_channels(set, fd);
        if (result < 0 && result != -EACCES)
            return result;
        count += result > 0;
        error = result < 0 ? result : error;
    }
    return count > 0 ? 0 : errno != 0 ? -errno : error;
}

static int add_path_of_folder(struct offline_set *set, int fd)
{
    int result = add_channels(set, fd);
    if (result != 0)
        return result < 0 ? result : 0;
    DIR *stream = open_stream(fd);
    if (!stream)
        return -errno;
    result = add_folders_in(set, stream);
    closedir(stream);
    return result;
}

int offline_set_add(struct offline_set *set, const char *path, const char **ret_what)
{
    struct stat status;
    *ret_what = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    int result = fstat(fd, &status) < 0 ? -errno : 0;
    if (result == 0 && S_ISDIR(status.st_mode))
        return add_path_of_folder(set, fd_take(&fd));
    if (result == 0 && !S_ISREG(status.st_mode)) {
        *ret_what = "it is neither a file nor a folder";
        result = -EBADMSG;
    }
    if (result == 0)
        result = add_path_of_file(set, path, fd, ret_what);
    fd_close(&fd);
    if (result != -EBADMSG)
        *ret_what = "";
    return result;
}

/* ---- order ---- */

static int compare_channels(const void *left, const void *right)
{
    const struct offline_channel *a = left, *b = right;
    return strcmp(a->name, b->name);
}

static int compare_files(const void *left, const void *right)
{
    const struct offline_file *a = left, *b = right;
    if (a->first_seq != b->first_seq)
        return a->first_seq < b->first_seq ? -1 : 1;
    int order = strcmp(a->utc, b->utc);
    if (order != 0)
        return order;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return (int)a->open - (int)b->open;
}

static bool is_in_order(const struct offline_channel *channel)
{
    for (size_t i = 1; i < channel->count; i++)
        if (compare_files(&channel->files[i - 1], &channel->files[i]) > 0)
            return false;
    return true;
}

/* The same segment: given twice, or in both states. */
static bool are_twins(const struct offline_file *a, const struct offline_file *b)
{
    if (a->path && b->path && strcmp(a->path, b->path) == 0)
        return true;
    return a->by_name && b->by_name && a->first_seq == b->first_seq && a->number == b->number &&
           strcmp(a->utc, b->utc) == 0;
}

static void drop_twins(struct offline_channel *channel)
{
    size_t kept = 0;
    for (size_t i = 0; i < channel->count; i++) {
        if (kept > 0 && are_twins(&channel->files[kept - 1], &channel->files[i]))
            free(channel->files[i].path);
        else
            channel->files[kept++] = channel->files[i];
    }
    channel->count = kept;
}

void offline_set_order(struct offline_set *set)
{
    if (set->count > 0)
        qsort(set->channels, set->count, sizeof *set->channels, compare_channels);
    for (size_t i = 0; i < set->count; i++) {
        struct offline_channel *channel = &set->channels[i];
        if (!is_in_order(channel)) /* as one folder's files are */
            qsort(channel->files, channel->count, sizeof *channel->files, compare_files);
    }
}

void offline_set_drop_twins(struct offline_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        drop_twins(&set->channels[i]);
}

void offline_set_free(struct offline_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        for (size_t j = 0; j < set->channels[i].count; j++)
            free(set->channels[i].files[j].path);
        free(set->channels[i].files);
        free(set->channels[i].mixed);
    }
    free(set->channels);
    fd_close_all(set->folders, set->folder_count);
    free(set->folders);
    *set = (struct offline_set){0};
}

/* ---- files ---- */

static int open_as(const struct offline_file *file, const char *name_or_path)
{
    struct stat status;
    if (!file->path)
        return log_folder_open(file->folder, name_or_path);
    int fd = open(name_or_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd >= 0 && (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))) {
        fd_close(&fd);
        return -ENOENT; /* somebody has put something else there */
    }
    return fd < 0 ? -errno : fd;
}

int offline_file_open(const struct offline_file *file)
{
    const char *from = file->path ? file->path : file->name;
    int fd = open_as(file, from);
    if (fd != -ENOENT || !avro_log_name_ends_in(from, AVRO_LOG_OPEN_SUFFIX))
        return fd;
    char *sealed = strndup(from, strlen(from) - strlen(".open"));
    if (!sealed)
        return -ENOMEM;
    fd = open_as(file, sealed);
    free(sealed);
    return fd;
}

bool offline_file_identify(const struct offline_file *file, struct avro_log_identity *ret,
                           uint64_t *ret_size)
{
    struct stat status;
    const char *what;
    int fd = offline_file_open(file);
    if (fd < 0)
        return false;
    if (ret_size)
        *ret_size = fstat(fd, &status) == 0 ? (uint64_t)status.st_size : 0;
    long length = avro_log_load_header(fd, ret, &what);
    fd_close(&fd);
    return length > 0;
}

static const struct offline_channel *find_by_name(const struct offline_set *set,
                                                  const char *channel)
{
    for (size_t i = 0; i < set->count; i++)
        if (strcmp(set->channels[i].name, channel) == 0)
            return &set->channels[i];
    return NULL;
}

const struct offline_channel *offline_set_find(const struct offline_set *set, const char *channel,
                                               int *ret_error, const char **ret_problem)
{
    const struct offline_channel *found = channel           ? find_by_name(set, channel)
                                          : set->count == 1 ? &set->channels[0]
                                                            : NULL;
    *ret_error = channel ? -ENOENT : -EINVAL;
    *ret_problem = found ? found->mixed : NULL;
    if (!*ret_problem)
        return found;
    *ret_error = -ENOTUNIQ;
    return NULL;
}

size_t offline_channel_find_seq(const struct offline_channel *channel, uint64_t seq)
{
    const struct offline_file *files = channel->files;
    size_t low = 0, high = channel->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (files[middle].first_seq <= seq)
            low = middle + 1;
        else
            high = middle;
    }
    if (low > 0)
        low--;
    while (low > 0 &&
           (files[low - 1].first_seq == files[low].first_seq || files[low - 1].end_seq > seq))
        low--;
    return low;
}

int offline_channel_folder(const struct offline_channel *channel)
{
    int folder = channel->files[0].folder;
    for (size_t i = 0; i < channel->count; i++)
        if (channel->files[i].path || channel->files[i].folder != folder)
            return -1;
    return folder;
}

/* By what was learnt when they were named: the first one behind the last that ends before. */
static size_t find_among_known(const struct offline_channel *channel, uint64_t time_ns)
{
    size_t i = channel->count;
    while (i > 0 &&
           (channel->files[i - 1].latest_ns == 0 || channel->files[i - 1].latest_ns >= time_ns))
        i--;
    return i;
}

size_t offline_channel_find_time(const struct offline_channel *channel, uint64_t time_ns)
{
    int folder = offline_channel_folder(channel); /* then that can be searched */
    if (folder < 0)
        return find_among_known(channel, time_ns);
    struct log_folder list = {.files = calloc(channel->count, sizeof *list.files),
                              .count = channel->count};
    if (!list.files)
        return 0;
    for (size_t i = 0; i < list.count; i++) {
        list.files[i].open = channel->files[i].open;
        memcpy(list.files[i].name, channel->files[i].name, sizeof list.files[i].name);
    }
    size_t found = log_folder_find_time(folder, &list, time_ns);
    log_folder_free(&list);
    return found;
}
