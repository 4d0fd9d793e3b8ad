/* SPDX-License-Identifier: MIT */
/* What every unit test's main() ends with, and what several of them ask of their own process. */
#ifndef HOLDFAST_TESTS_LIB_UNIT_H
#define HOLDFAST_TESTS_LIB_UNIT_H

#include <check.h>
#include <sys/types.h>

/* Run the suite, as loudly as $CK_VERBOSITY wants, and free it. Returns the exit status. */
int unit_run(Suite *suite);

/* End this test here, in its own process and before anything is started: this machine can't run it.
 * tests/run.py counts the line that this prints, and shows why. */
_Noreturn void unit_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* fork() that can't fail. The child must assert nothing: a passed assertion is a message to Check,
 * and one that a SIGKILL cuts short makes the whole program's messages unreadable. */
pid_t unit_fork(void);

/* From here on this test's process mounts for itself alone and may mount: in a mount namespace, and
 * where the user may not have one, in a user namespace around it in which the user keeps its
 * number. Skips the test when the machine refuses both. */
void unit_private_mounts(void);

/* How many descriptors this process has; each count costs the same ones, so two of them compare. */
int unit_count_fds(void);

/* Read at most size - 1 bytes of a small file below dir_fd (AT_FDCWD for the working folder) and
 * end them with a zero byte. Returns the length or -errno. */
long unit_read_small_file(int dir_fd, const char *path, char *buffer, size_t size);

#endif
