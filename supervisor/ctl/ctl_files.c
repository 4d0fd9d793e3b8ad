/* SPDX-License-Identifier: MIT */
/* What verify and recover do alike: one report over several files. Called by these two. A file that
 * can't be read must not keep the next one from being looked at. */
#include "supervisor/ctl/ctl_files.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/avro_log_name.h"
#include "supervisor/ctl/ctl.h"
#include "supervisor/ctl/ctl_text.h"

struct avro_log_scan_options ctl_files_scan_options(const char *path)
{
    return (struct avro_log_scan_options){.open = avro_log_name_ends_in(path, AVRO_LOG_OPEN_SUFFIX),
                                          .seq_end = UINT64_MAX,
                                          .skip_unreadable = true};
}

struct round {
    ctl_files_report one;
    void *context;
    json_t *reports; /* NULL: for people */
    bool all_ok;
    bool any; /* one was looked at, or named and not there */
};

/* False: it is not there any more. */
static bool do_one(struct round *round, const char *path, bool listed)
{
    const struct ctl_file file = {path, listed};
    json_t *report = NULL;
    enum ctl_files_verdict verdict =
        round->one(round->context, &file, round->reports ? &report : NULL);
    round->all_ok &= verdict != CTL_FILES_FAULTY;
    round->any |= verdict != CTL_FILES_GONE;
    if (report)
        json_array_append_new(round->reports, report);
    return verdict != CTL_FILES_GONE;
}

/* Of a folder. One that was sealed since it was listed has another name; one that was begun since,
 * or removed, was not yet part of it, or is none any more. */
static void do_listed(struct round *round, char *path)
{
    if (do_one(round, path, true) || !avro_log_name_ends_in(path, AVRO_LOG_OPEN_SUFFIX))
        return;
    path[strlen(path) - strlen(AVRO_LOG_OPEN_SUFFIX) + strlen(AVRO_LOG_SUFFIX)] = '\0';
    do_one(round, path, true);
}

static int is_log_file(const struct dirent *entry)
{
    return avro_log_name_ends_in(entry->d_name, AVRO_LOG_SUFFIX) ||
           avro_log_name_ends_in(entry->d_name, AVRO_LOG_OPEN_SUFFIX);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Without ".open": what a segment is called before and after it is sealed. */
static bool is_same_segment(const char *one, const char *other)
{
    const size_t suffix = strlen(AVRO_LOG_OPEN_SUFFIX) - strlen(AVRO_LOG_SUFFIX);
    size_t length = strlen(one), of_other = strlen(other);
    if (avro_log_name_ends_in(one, AVRO_LOG_OPEN_SUFFIX))
        length -= suffix;
    if (avro_log_name_ends_in(other, AVRO_LOG_OPEN_SUFFIX))
        of_other -= suffix;
    return length == of_other && strncmp(one, other, length) == 0;
}

struct names {
    char **list; /* in order, each segment once: sealed rather than open */
    size_t count;
};

static void add_names(struct names *names, struct dirent **entries, int count)
{
    char **list = realloc(names->list, (names->count + (size_t)count + 1) * sizeof *list);
    names->list = list ? list : names->list;
    for (int i = 0; i < count; i++) {
        char *name = list ? strdup(entries[i]->d_name) : NULL;
        if (name)
            names->list[names->count++] = name;
        free(entries[i]);
    }
    free(entries);
    if (names->count > 0)
        qsort(names->list, names->count, sizeof *names->list, by_name);
    size_t kept = 0;
    for (size_t i = 0; i < names->count; i++) { /* "x.avro" sorts before "x.avro.open" */
        if (kept > 0 && is_same_segment(names->list[kept - 1], names->list[i]))
            free(names->list[i]);
        else
            names->list[kept++] = names->list[i];
    }
    names->count = kept;
}

static const char nothing_in_it[] = "a folder without log files in it";

/* A channel's folder: the segments in it, in order. It is listed twice: a file that is renamed
 * meanwhile may be in neither place of one listing, or in both. False when it is none, or can't be
 * read. */
static bool do_folder(struct round *round, const char *path)
{
    struct names names = {0};
    struct dirent **entries;
    char file[PATH_MAX];
    struct stat status;
    if (stat(path, &status) < 0 || !S_ISDIR(status.st_mode))
        return false;
    for (int i = 0; i < 2; i++) {
        int count = scandir(path, &entries, is_log_file, alphasort);
        if (count < 0 && i == 0)
            return false;
        if (count >= 0)
            add_names(&names, entries, count);
    }
    const bool before = round->any;
    round->any = false;
    for (size_t i = 0; i < names.count; i++) {
        if (snprintf(file, sizeof file, "%s/%s", path, names.list[i]) < (int)sizeof file)
            do_listed(round, file);
        free(names.list[i]);
    }
    free(names.list);
    if (!round->any && !round->reports)
        printf("%s: %s\n", path, nothing_in_it);
    round->any |= before;
    return true;
}

/* Only folders were named. Beside files, as in "verify *", one of those is no fault. */
static void report_nothing(struct round *round, const struct ctl_files *files)
{
    round->all_ok = false;
    for (int i = 0; i < files->count && round->reports; i++)
        json_array_append_new(round->reports, json_pack("{s:o,s:b,s:s}", "file",
                                                        ctl_files_json_text(files->paths[i]), "ok",
                                                        false, "error", nothing_in_it));
}

int ctl_files_each(const struct ctl_files *files, bool json, ctl_files_report one, void *context)
{
    struct round round = {one, context, json ? json_array() : NULL, true, false};
    for (int i = 0; i < files->count; i++)
        if (!files->takes_folders || !do_folder(&round, files->paths[i]))
            do_one(&round, files->paths[i], false);
    if (!round.any)
        report_nothing(&round, files);
    if (json) {
        json_t *whole = json_pack("{s:b,s:o}", "ok", round.all_ok, "files", round.reports);
        ctl_print_json(whole);
        json_decref(whole);
    }
    return round.all_ok ? CTL_OK : CTL_NO;
}

json_t *ctl_files_json_text(const char *from)
{
    char *text;
    json_t *string = json_string(from);
    if (string)
        return string;
    size_t size = 4 * strlen(from) + 1, at = 0;
    text = malloc(size);
    for (; text && *from; from++) {
        bool plain = *from >= ' ' && *from < 0x7f && *from != '\\';
        at += (size_t)snprintf(text + at, size - at, plain ? "%c" : "\\x%02x",
                               plain ? *from : (unsigned char)*from);
    }
    string = json_stringn(text ? text : "", at);
    free(text);
    return string;
}
