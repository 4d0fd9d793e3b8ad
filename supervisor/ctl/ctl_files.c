/* SPDX-License-Identifier: MIT */
/* What verify and recover do alike: their arguments, and one report over several files. Called by
 * these two. A file that can't be read must not keep the next one from being looked at. */
#include "supervisor/ctl/ctl_files.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/avro_log_name.h"
#include "supervisor/ctl/ctl.h"

int ctl_files_take(int argc, char **argv, bool has_output, struct ctl_files *ret)
{
    *ret = (struct ctl_files){0};
    while (argc > 0 && has_output && argv[0][0] == '-' && argv[0][1] &&
           strcmp(argv[0], "--") != 0) {
        if (strcmp(argv[0], "-o") != 0 || argc < 2)
            return -EINVAL;
        ret->output = argv[1];
        argv += 2;
        argc -= 2;
    }
    bool marked = argc > 0 && strcmp(argv[0], "--") == 0;
    ret->paths = argv + marked;
    ret->count = argc - marked;
    return 0;
}

struct avro_log_scan_options ctl_files_scan_options(const char *path)
{
    return (struct avro_log_scan_options){.open = avro_log_name_ends_in(path, AVRO_LOG_OPEN_SUFFIX),
                                          .seq_end = UINT64_MAX};
}

int ctl_files_each(const struct ctl_files *files, bool json,
                   bool (*one)(void *context, const char *path, json_t **ret_report), void *context)
{
    json_t *reports = json_array();
    bool all_ok = true;
    for (int i = 0; i < files->count; i++) {
        json_t *report = NULL;
        all_ok &= one(context, files->paths[i], json ? &report : NULL);
        if (report)
            json_array_append_new(reports, report);
    }
    if (json) {
        json_t *whole = json_pack("{s:b,s:O}", "ok", all_ok, "files", reports);
        json_dumpf(whole, stdout, JSON_INDENT(2));
        printf("\n");
        json_decref(whole);
    }
    json_decref(reports);
    return all_ok ? CTL_OK : CTL_NO;
}
