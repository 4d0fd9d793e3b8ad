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
    bool (*one)(void *context, const char *path, json_t **ret_report);
    void *context;
    json_t *reports; /* NULL: for people */
    bool all_ok;
};

static void do_one(struct round *round, const char *path)
{
    json_t *report = NULL;
    round->all_ok &= round->one(round->context, path, round->reports ? &report : NULL);
    if (report)
        json_array_append_new(round->reports, report);
}

static int is_log_file(const struct dirent *entry)
{
    return avro_log_name_ends_in(entry->d_name, AVRO_LOG_SUFFIX) ||
           avro_log_name_ends_in(entry->d_name, AVRO_LOG_OPEN_SUFFIX);
}

/* A channel's folder: the segments in it, in order. False when it is none, or can't be read. */
static bool do_folder(struct round *round, const char *path)
{
    struct dirent **entries;
    char file[PATH_MAX];
    struct stat status;
    if (stat(path, &status) < 0 || !S_ISDIR(status.st_mode))
        return false;
    int count = scandir(path, &entries, is_log_file, alphasort);
    if (count < 0)
        return false;
    if (count == 0 && !round->reports)
        printf("%s: a folder without log files in it\n", path);
    for (int i = 0; i < count; i++) {
        if (snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name) < (int)sizeof file)
            do_one(round, file);
        free(entries[i]);
    }
    free(entries);
    return true;
}

int ctl_files_each(const struct ctl_files *files, bool json,
                   bool (*one)(void *context, const char *path, json_t **ret_report), void *context)
{
    struct round round = {one, context, json ? json_array() : NULL, true};
    for (int i = 0; i < files->count; i++)
        if (!files->takes_folders || !do_folder(&round, files->paths[i]))
            do_one(&round, files->paths[i]);
    if (json) {
        json_t *whole = json_pack("{s:b,s:o}", "ok", round.all_ok, "files", round.reports);
        json_dumpf(whole, stdout, JSON_INDENT(2));
        printf("\n");
        json_decref(whole);
    }
    return round.all_ok ? CTL_OK : CTL_NO;
}

json_t *ctl_files_json_path(const char *path)
{
    char *text;
    json_t *string = json_string(path);
    if (string)
        return string;
    /* no UTF-8: as text that says which bytes there are */
    size_t size = 4 * strlen(path) + 1, at = 0;
    text = malloc(size);
    for (; text && *path; path++) {
        bool plain = *path >= ' ' && *path < 0x7f && *path != '\\';
        at += (size_t)snprintf(text + at, size - at, plain ? "%c" : "\\x%02x",
                               plain ? *path : (unsigned char)*path);
    }
    string = json_stringn(text ? text : "", at);
    free(text);
    return string;
}
