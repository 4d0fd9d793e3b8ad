/* SPDX-License-Identifier: MIT */
/* The terminal's window as a place for one picture that is drawn again and again, or for text that
 * is printed once. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_WINDOW_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_WINDOW_H

#include <stdbool.h>
#include <stdio.h>

#include "supervisor/ctl/ctl_text.h"

/* Call it once, before the first picture. */
void ctl_window_begin(void);

/* A stream that takes the next picture; sets look->rows and look->columns to what the window has
 * now. One picture at a time. */
FILE *ctl_window_draw(struct ctl_look *look);

/* Put it in the place of the one before, with one write and without clearing anything that it
 * covers. What is too wide is wrapped where there are rows for it, and else cut; what is too long
 * is left out, and how much is said. false: the terminal has gone. */
bool ctl_window_show(void);

/* In the row below the picture, until the next one or a complaint is written there. */
void ctl_window_note(const char *text);

/* Wait for a second, or less when the window's size changes. */
void ctl_window_wait(void);

/* A stream for what is printed once; sets look->columns. One at a time. */
FILE *ctl_window_text(struct ctl_look *look);

/* Print it. On a terminal, a line that is too wide is wrapped between words, and goes on under its
 * last column; elsewhere it stays as it is. */
void ctl_window_print(void);

#endif
