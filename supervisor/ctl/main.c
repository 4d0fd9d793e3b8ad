/* SPDX-License-Identifier: MIT */
/* holdfastctl: the operator's command. Takes the line apart and calls one verb; exit statuses are
 * in ctl.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/ctl/ctl.h"
#include "supervisor/ctl/ctl_capabilities.h"
#include "supervisor/ctl/ctl_cat.h"
#include "supervisor/ctl/ctl_channel.h"
#include "supervisor/ctl/ctl_crashes.h"
#include "supervisor/ctl/ctl_daemon.h"
#include "supervisor/ctl/ctl_export.h"
#include "supervisor/ctl/ctl_files.h"
#include "supervisor/ctl/ctl_info.h"
#include "supervisor/ctl/ctl_fetch.h"
#include "supervisor/ctl/ctl_logs.h"
#include "supervisor/ctl/ctl_options.h"
#include "supervisor/ctl/ctl_publish.h"
#include "supervisor/ctl/ctl_readers.h"
#include "supervisor/ctl/ctl_recover.h"
#include "supervisor/ctl/ctl_replay.h"
#include "supervisor/ctl/ctl_status.h"
#include "supervisor/ctl/ctl_text.h"
#include "supervisor/ctl/ctl_verify.h"

static int run_on_files(const struct ctl_command *command)
{
    struct ctl_files files = {.paths = command->files, .count = command->file_count};
    return command->verb == VERB_verify
               ? ctl_verify(&files, command->options.json)
               : ctl_recover(&files, command->output, command->options.json);
}

static int run(const struct ctl_command *command)
{
    const struct ctl_options *options = &command->options;
    switch (command->verb) {
    case VERB_ping:
        return ctl_ping(options, command->channel);
    case VERB_status:
        return ctl_status(options, command->channel);
    case VERB_check:
        return ctl_check(options, command->channel);
    case VERB_crashes:
        return ctl_crashes(options, command->channel);
    case VERB_shutdown:
        return ctl_shutdown(options, command->channel);
    case VERB_upgrade:
        return ctl_upgrade(options, command->channel);
    case VERB_start:
    case VERB_stop:
    case VERB_restart:
    case VERB_reset_failed:
    case VERB_rotate:
        return ctl_change(options, command->verb, command->channel);
    case VERB_capabilities:
        return ctl_capabilities(options);
    case VERB_verify:
    case VERB_recover:
        return run_on_files(command);
    case VERB_info:
        return ctl_info(command);
    case VERB_cat:
        return ctl_cat(command);
    case VERB_export:
        return ctl_export(command);
    case VERB_replay:
        return ctl_replay(command);
    case VERB_logs:
        return ctl_logs(command);
    case VERB_fetch:
        return ctl_fetch(command);
    case VERB_publish:
        return ctl_publish(command);
    case VERB_positions:
        return ctl_positions(command);
    case VERB_forget:
        return ctl_forget(command);
    case VERB_readers:
        return ctl_readers(command);
    case VERB_COUNT:
        break;
    }
    return CTL_USAGE;
}

/* One that is closed would be a socket's or a file's number next, and be read or printed into. They
 * stay errors: the standard input can't be read, nor the others written. */
static void keep_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_PATH);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
}

int main(int argc, char **argv)
{
    struct ctl_command command;
    keep_standard_descriptors();
    int status = ctl_options_parse(argc, argv, &command);
    if (status == CTL_OK)
        status = run(&command);
    else if (status < 0)
        status = CTL_OK;
    const int flushed = fflush(stdout) == 0 ? 0 : errno; /* an earlier error has left no number */
    if (flushed != 0 || ferror(stdout)) {
        ctl_complain("the output could not be written%s%s", flushed ? ": " : "",
                     flushed ? strerror(flushed) : "");
        return status == CTL_OK ? CTL_NO : status;
    }
    return status;
}
