/* SPDX-License-Identifier: MIT */
/* Where a result lies. Called by recover, export and fetch before and after they write one. */
#include "supervisor/ctl/ctl_result.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/avro_log_name.h"
#include "common/fd.h"
#include "common/file_name.h"

const char *ctl_result_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void folder_of(const char *path, char ret_folder[PATH_MAX])
{
    const char *base = ctl_result_base_name(path);
    snprintf(ret_folder, PATH_MAX, "%.*s", base == path ? 1 : (int)(base - path),
             base == path ? "." : path);
}

bool ctl_result_is_in_recording(const char *path)
{
    char folder[PATH_MAX], real[PATH_MAX];
    folder_of(path, folder);
    return realpath(folder, real) &&
           avro_log_name_is_of(ctl_result_base_name(path), ctl_result_base_name(real));
}

int ctl_result_sync_folder(const char *path)
{
    char folder[PATH_MAX];
    folder_of(path, folder);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd < 0 || fsync(fd) < 0 ? -errno : 0;
    fd_close(&fd);
    return error;
}

int ctl_result_name(const char *partial, const char *path, bool force)
{
    if (!force)
        return file_name_change(AT_FDCWD, partial, path);
    return rename(partial, path) < 0 ? -errno : 0;
}
