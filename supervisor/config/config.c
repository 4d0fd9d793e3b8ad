/* SPDX-License-Identifier: MIT */
/* Loads the configuration. Called by the supervisor's main at start, for --check and for
 * --print-config. Must never hand out settings that are not right in every respect: nothing behind
 * it checks them again but workers, who then refuse to run.
 *
 * Each step adds to one list of errors and goes on, so that a user sees everything at once: */
/* clang-format off */
/*   config_text     the file    -> text without comments, unknown keys and duplicates,
 *                                  and the line of every section and key
 *   config_read     that text   -> libconfuse -> a draft of settings, value by value
 *   config_check    that draft  -> the rules that need more than one value of a channel
 *   config_routes   that draft  -> the rules that need more than one channel
 */
/* clang-format on */
#include "supervisor/config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "supervisor/config/config_check.h"
#include "supervisor/config/config_draft.h"
#include "supervisor/config/config_errors.h"
#include "supervisor/config/config_read.h"
#include "supervisor/config/config_text.h"
#include "supervisor/config/settings.h"

#define FILE_SIZE_MAX (64u << 20)

static int read_open_file(int fd, char **ret_text, size_t *ret_size)
{
    char *text = NULL;
    size_t size = 0, room = 0;
    for (;;) {
        if (size == room) {
            room = room ? 2 * room : 16384;
            char *grown = room <= FILE_SIZE_MAX ? realloc(text, room) : NULL;
            if (!grown) {
                free(text);
                return room > FILE_SIZE_MAX ? -EFBIG : -ENOMEM;
            }
            text = grown;
        }
        ssize_t count = read(fd, text + size, room - size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            int error = errno;
            free(text);
            return -error;
        }
        if (count == 0)
            break;
        size += (size_t)count;
    }
    *ret_text = text;
    *ret_size = size;
    return 0;
}

static int read_source(const struct config_source *source, char **ret_text, size_t *ret_size)
{
    int fd = source->from >= 0 ? dup(source->from) : open(source->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (source->from >= 0)
        lseek(fd, 0, SEEK_SET);
    int result = read_open_file(fd, ret_text, ret_size);
    fd_close(&fd);
    if (result == 0 && source->copy_to >= 0)
        result = fd_write_all(source->copy_to, *ret_text, *ret_size, 0);
    return result;
}

static int load_text(const char *file, size_t size, struct settings **ret,
                     struct config_error_list *errors)
{
    struct config_text text;
    struct config_draft draft = {0};
    int result = config_text_scan(file, size, &text, errors);
    if (result == 0)
        result = config_read(&text, &draft, errors);
    if (result == 0)
        config_check(&draft, errors);
    if (result == 0 && (errors->count > 0 || errors->out_of_memory))
        result = errors->out_of_memory ? -ENOMEM : -EINVAL;
    free(draft.channels);
    config_text_free(&text);
    if (result < 0) {
        settings_free(draft.settings);
        return result;
    }
    *ret = draft.settings;
    return 0;
}

int config_load(const char *path, struct settings **ret_settings, struct config_errors *ret_errors)
{
    const struct config_source source = {.path = path, .from = -1, .copy_to = -1};
    return config_load_from(&source, ret_settings, ret_errors);
}

int config_load_from(const struct config_source *source, struct settings **ret_settings,
                     struct config_errors *ret_errors)
{
    struct config_error_list list = {0};
    char *file = NULL;
    size_t size = 0;
    *ret_settings = NULL;
    *ret_errors = (struct config_errors){0};

    int result = read_source(source, &file, &size);
    if (result < 0)
        config_error(
            &list, 0,
            "cannot read the configuration: %s: check the path, or name another file with --config",
            strerror(-result));
    else
        result = load_text(file, size, ret_settings, &list);
    free(file);
    if (result < 0 && list.count == 0)
        config_error(&list, 0, "cannot read the configuration: %s", strerror(-result));
    if (result < 0 && config_error_list_join(&list, source->path, ret_errors) < 0)
        result = -ENOMEM;
    config_error_list_free(&list);
    return result;
}
