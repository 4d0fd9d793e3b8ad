/* SPDX-License-Identifier: MIT */
/* Payloads for eyes and for text files. Called by cat and export. Anybody on the network may have
 * sent them: nothing of them reaches a terminal as a control character. */
#include "supervisor/ctl/ctl_payload.h"

#include <stdint.h>
#include <string.h>

/* One character of UTF-8 (RFC 3629). Its length, or 0 when it is none. */
static size_t take_character(const uint8_t *at, size_t room, uint32_t *ret)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const size_t length = at[0] < 0x80   ? 1
                          : at[0] < 0xc2 ? 0
                          : at[0] < 0xe0 ? 2
                          : at[0] < 0xf0 ? 3
                          : at[0] < 0xf5 ? 4
                                         : 0;
    if (length == 0 || length > room)
        return 0;
    uint32_t value = length == 1 ? at[0] : at[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (at[i] & 0x3f);
    }
    if (value < least[length] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
        return 0;
    *ret = value;
    return length;
}

/* Would it do something else to a terminal than show itself? Control characters, line separators,
 * and what turns the direction of writing. */
static bool is_harmful(uint32_t character)
{
    return character < 0x20 || (character >= 0x7f && character < 0xa0) ||
           (character >= 0x200e && character <= 0x200f) ||
           (character >= 0x2028 && character <= 0x202e) ||
           (character >= 0x2066 && character <= 0x2069) || character == 0xfeff ||
           (character >= 0xfff0 && character <= 0xfffb) || character >= 0xe0000;
}

static bool is_white(uint32_t character)
{
    return character == '\t' || character == '\n' || character == '\r';
}

bool ctl_payload_is_text(const void *payload, size_t length)
{
    const uint8_t *bytes = payload;
    uint32_t character;
    for (size_t at = 0; at < length;) {
        size_t size = take_character(bytes + at, length - at, &character);
        if (size == 0 || (is_harmful(character) && !is_white(character)))
            return false;
        at += size;
    }
    return true;
}

/* How it is shown, and how many places it takes at most. */
static size_t show_character(const uint8_t *bytes, size_t size, uint32_t character,
                             char ret_text[8])
{
    const char *escaped = character == '\n'   ? "\\n"
                          : character == '\r' ? "\\r"
                          : character == '\t' ? "\\t"
                          : character == '\\' ? "\\\\"
                                              : NULL;
    if (escaped) {
        strcpy(ret_text, escaped);
        return 2;
    }
    memcpy(ret_text, bytes, size);
    ret_text[size] = '\0';
    return character < 0x1100 ? 1 : 2; /* East Asian ones and pictures may be wide */
}

void ctl_payload_print_text(FILE *to, const void *payload, size_t length, size_t columns)
{
    const uint8_t *bytes = payload;
    size_t places = 0;
    for (size_t at = 0; at < length;) {
        char text[8];
        uint32_t character;
        size_t size = take_character(bytes + at, length - at, &character);
        if (size == 0)
            return;
        places += show_character(bytes + at, size, character, text);
        /* The last place is for the mark that there is more. */
        if (columns && (places > columns || (places == columns && at + size < length))) {
            fputs("…", to);
            return;
        }
        fputs(text, to);
        at += size;
    }
}

/* Two digits for each byte. */
static void put_digits(FILE *to, const uint8_t *bytes, size_t length)
{
    static const char digits[] = "0123456789abcdef";
    char text[512] = "";
    for (size_t at = 0; at < length;) {
        size_t used = 0;
        for (; at < length && used < sizeof text; at++) {
            text[used++] = digits[bytes[at] >> 4];
            text[used++] = digits[bytes[at] & 15];
        }
        fwrite(text, 1, used, to);
    }
}

void ctl_payload_print_digits(FILE *to, const void *payload, size_t length)
{
    put_digits(to, payload, length);
}

void ctl_payload_print_hex(FILE *to, const void *payload, size_t length, size_t columns)
{
    const bool is_cut = columns && 2 + 2 * length > columns;
    fputs("0x", to);
    if (is_cut)
        length = columns > 3 ? (columns - 3) / 2 : 0;
    put_digits(to, payload, length);
    if (is_cut)
        fputs("…", to);
}

void ctl_payload_print_dump(FILE *to, const void *payload, size_t length)
{
    const uint8_t *bytes = payload;
    for (size_t at = 0; at < length; at += 16) {
        const size_t count = length - at < 16 ? length - at : 16;
        fprintf(to, "%08zx ", at);
        for (size_t i = 0; i < 16; i++) {
            fputs(i == 8 ? "  " : " ", to);
            if (i < count)
                put_digits(to, bytes + at + i, 1);
            else
                fputs("  ", to);
        }
        fputs("  |", to);
        for (size_t i = 0; i < count; i++)
            fputc(bytes[at + i] >= 0x20 && bytes[at + i] < 0x7f ? bytes[at + i] : '.', to);
        fputs("|\n", to);
    }
}

size_t ctl_payload_base64(const void *payload, size_t length, char *ret_text)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *bytes = payload;
    char *to = ret_text;
    for (size_t at = 0; at < length; at += 3) {
        const size_t count = length - at < 3 ? length - at : 3;
        uint32_t bits = (uint32_t)bytes[at] << 16;
        bits |= count > 1 ? (uint32_t)bytes[at + 1] << 8 : 0;
        bits |= count > 2 ? bytes[at + 2] : 0;
        *to++ = letters[bits >> 18];
        *to++ = letters[bits >> 12 & 63];
        *to++ = count > 1 ? letters[bits >> 6 & 63] : '=';
        *to++ = count > 2 ? letters[bits & 63] : '=';
    }
    *to = '\0';
    return (size_t)(to - ret_text);
}
