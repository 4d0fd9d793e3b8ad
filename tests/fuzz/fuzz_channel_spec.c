/* SPDX-License-Identifier: MIT */
/* Whatever bytes arrive as a spec or as the text of an address: they are refused, or they are
 * within all limits and an address prints to a text that reads back as the same address. */
#include <stdlib.h>
#include <string.h>

#include "common/channel_page.h"
#include "common/channel_spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_spec(const struct channel_spec *spec, size_t size)
{
    const char *what = NULL;
    if (channel_spec_check(spec, size, &what) == 0) {
        struct channel_geometry geometry;
        channel_geometry_compute(spec, &geometry);
        if (geometry.slot_count == 0 || geometry.total_size < geometry.data_capacity)
            abort();
    } else if (!what || !*what)
        abort();
}

static void fuzz_spec(const uint8_t *data, size_t size)
{
    /* A copy of exactly this size, so that one byte too far is found. */
    struct channel_spec *spec = malloc(size ? size : 1);
    if (!spec)
        abort();
    memcpy(spec, data, size);
    check_spec(spec, size);
    /* Chance never finds the right size: once more with counts that agree with it. */
    if (size >= sizeof *spec) {
        uint32_t count = (uint32_t)((size - sizeof *spec) / sizeof spec->destinations[0]);
        spec->relay_count %= count + 1;
        spec->decimate_count = count - spec->relay_count;
        check_spec(spec, channel_spec_size(count));
    }
    free(spec);
}

static void fuzz_address(const uint8_t *data, size_t size)
{
    union socket_address address, again;
    char printed[SOCKET_ADDRESS_TEXT_SIZE];
    char *text = strndup((const char *)data, size);
    if (!text)
        abort();
    if (socket_address_parse(text, &address) == 0) {
        socket_address_print(&address, printed, sizeof printed);
        if (socket_address_parse(printed, &again) < 0 || !socket_address_equal(&address, &again))
            abort();
    }
    if (socket_address_parse_local(text, &address) == 0) {
        socket_address_print(&address, printed, sizeof printed);
        if (strcmp(text, printed) != 0)
            abort();
    }
    char scope[IF_NAMESIZE];
    socket_address_parse_host(text, &address, scope);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_spec(data, size);
    fuzz_address(data, size);
    return 0;
}
