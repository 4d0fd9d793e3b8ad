/* SPDX-License-Identifier: MIT */
/* A file's name is changed, and no other file loses its own by that. */
#ifndef HOLDFAST_COMMON_FILE_NAME_H
#define HOLDFAST_COMMON_FILE_NAME_H

/* Rename a file to a name that nobody has, both below this folder (AT_FDCWD for paths). 0, also
 * when `to` is another name of the same file, which then has that one alone; -EEXIST when another
 * file has it; else -errno. A crash may leave the file with both names: asked again, it is
 * finished. */
int file_name_change(int folder, const char *from, const char *to);

#endif
