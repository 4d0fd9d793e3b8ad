/* SPDX-License-Identifier: MIT */
/* Who published a datagram on a channel that programs of this machine write into: the uid and the
 * pid that the kernel said at the door, and the name that the program gave itself. It takes the
 * place of a sender's IP address, as text `local:UID/PID/NAME`. */
#ifndef HOLDFAST_COMMON_LOCAL_ADDRESS_H
#define HOLDFAST_COMMON_LOCAL_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define LOCAL_ADDRESS_NAME_SIZE 16 /* with the closing zero */
#define LOCAL_ADDRESS_PREFIX    "local:"
/* "local:4294967295/4294967295/fifteen-letters" with its closing zero */
#define LOCAL_ADDRESS_TEXT_SIZE (sizeof LOCAL_ADDRESS_PREFIX + 10 + 1 + 10 + 1 + 15)

/* Begins as a struct sockaddr does, but no system call takes it. */
struct local_address {
    sa_family_t family; /* AF_UNIX */
    uint16_t reserved;  /* 0 */
    uint32_t uid;
    uint32_t pid;
    char name[LOCAL_ADDRESS_NAME_SIZE]; /* printable ASCII without '/' and space; never empty */
};

/* From a name that a program gave: what a name may not hold becomes '_', what is too long is cut
 * off, and an empty one becomes "_". */
void local_address_make(uint32_t uid, uint32_t pid, const char *name, struct local_address *ret);
/* Returns the text's length, at most size - 1. Whatever bytes the name holds, what is printed reads
 * back. */
size_t local_address_print(const struct local_address *address, char *buffer, size_t size);
/* Exactly what local_address_print() writes, nothing more: 0 or -EINVAL. A refusal leaves *ret
 * alone. */
int local_address_parse(const char *text, struct local_address *ret);
bool local_address_equal(const struct local_address *a, const struct local_address *b);

/* As the ring's descriptors and the log's blocks can hold it: two words and 48 bits. uid and pid
 * are whole; a name keeps its first LOCAL_ADDRESS_PACKED_NAME bytes. */
#define LOCAL_ADDRESS_PACKED_NAME 14
void local_address_pack(const struct local_address *address, uint64_t ret_words[2],
                        uint64_t *ret_rest);
/* From whatever lies there: the result is a sound address in any case. */
void local_address_unpack(const uint64_t words[2], uint64_t rest, struct local_address *ret);

#endif
