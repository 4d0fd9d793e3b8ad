/* SPDX-License-Identifier: MIT */
/* Texts for programs to show. */
#include "common/client/holdfast.h"

#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "common/channel_spec.h"
#include "common/local_address.h"

_Static_assert(HF_ADDRESS_SIZE >= SOCKET_ADDRESS_TEXT_SIZE, "every address fits");

/* The program may have got it elsewhere: it need not be one of ours, nor end. */
static void parse_publisher(const struct sockaddr_un *source, union socket_address *ret)
{
    char text[LOCAL_ADDRESS_TEXT_SIZE];
    if (strnlen(source->sun_path, sizeof text) == sizeof text)
        return;
    memcpy(text, source->sun_path, sizeof text);
    socket_address_parse_local(text, ret);
}

void hf_format_source(const struct sockaddr_storage *source, char ret_text[HF_ADDRESS_SIZE])
{
    union socket_address address = {.family = AF_UNSPEC};
    if (source->ss_family == AF_INET || source->ss_family == AF_INET6)
        memcpy(&address, source, sizeof address);
    else if (source->ss_family == AF_UNIX)
        parse_publisher((const struct sockaddr_un *)source, &address);
    if (socket_address_print(&address, ret_text, HF_ADDRESS_SIZE) == 0)
        snprintf(ret_text, HF_ADDRESS_SIZE, "?");
}

const char *hf_why_text(uint32_t why)
{
    switch (why) {
    case HF_EXPIRED:
        return "expired";
    case HF_LAPPED:
        return "lapped";
    case HF_UNRECORDED:
        return "unrecorded";
    case HF_DAMAGED:
        return "damaged";
    case HF_UNCOVERED:
        return "uncovered";
    default:
        return "unknown";
    }
}

const char *hf_version(void)
{
    return HOLDFAST_VERSION;
}
