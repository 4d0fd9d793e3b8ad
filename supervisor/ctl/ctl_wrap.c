/* SPDX-License-Identifier: MIT */
/* Breaks lines between words. Called by whoever prints on a terminal. A colour's code takes no room
 * there. */
#include "supervisor/ctl/ctl_wrap.h"

#include <string.h>

#define ESCAPE '\033'

size_t ctl_wrap_code(const char *at)
{
    if (*at != ESCAPE)
        return 0;
    size_t length = strcspn(at, "m\n");
    return length + (at[length] == 'm');
}

bool ctl_wrap_takes_room(char byte)
{
    return ((unsigned char)byte & 0xc0) != 0x80;
}

size_t ctl_wrap_bytes(const char *text, const char *end, size_t width)
{
    const char *at = text;
    while (at < end) {
        size_t code = ctl_wrap_code(at);
        bool begins = code == 0 && ctl_wrap_takes_room(*at);
        if (begins && width == 0)
            break;
        width -= begins;
        at += code > 0 ? code : 1;
    }
    return (size_t)(at - text);
}

/* Under what the rest of a line goes: its last column, if that is not too far to the right. */
static size_t hang_of(const char *line, const char *end, size_t columns)
{
    const char *last = line + ctl_wrap_bytes(line, end, columns * 2 / 3);
    size_t hang = 2, place = 0;
    for (const char *at = line; at < last; at++) {
        size_t code = ctl_wrap_code(at);
        if (code > 0) {
            at += code - 1;
            continue;
        }
        place += ctl_wrap_takes_room(*at);
        if (*at == ' ' && at > line && at[-1] == ' ' && at[1] != ' ')
            hang = place;
    }
    return hang;
}

void ctl_wrap_put(FILE *to, const char *line, const char *end, size_t columns)
{
    size_t hang = hang_of(line, end, columns), room = columns;
    for (;;) {
        size_t fits = ctl_wrap_bytes(line, end, room), cut = fits;
        if (line + fits == end)
            break;
        while (cut > 0 && line[cut] != ' ')
            cut--;
        if (cut == 0 || strspn(line, " ") >= cut) /* a word that is longer: where it ends */
            cut = fits + strcspn(line + fits, " \n");
        if (line + cut >= end)
            break;
        fwrite(line, 1, cut, to);
        line += cut + strspn(line + cut, " ");
        fprintf(to, "\n%*s", (int)hang, "");
        room = columns - hang;
    }
    fwrite(line, 1, (size_t)(end - line), to);
    fputc('\n', to);
}
