/* SPDX-License-Identifier: MIT */
/* Hooks for tests that kill a worker between any two steps (steps.def) or by what a datagram
 * contains. They exist in builds with HOLDFAST_TEST_HOOKS only; elsewhere they are nothing. */
#ifndef HOLDFAST_WORKER_STEP_H
#define HOLDFAST_WORKER_STEP_H

#include "common/channel_page.h"
#include "common/steps.h"

#ifdef HOLDFAST_TEST_HOOKS

/* If the page asks for this step: note it in test_stopped, and wait for the kill or (STEP_EXIT)
 * exit with status 0. */
void step_reached(struct channel_page *page, enum step step);

/* $HOLDFAST_TEST_CRASH = "relay:TEXT", "record:TEXT" or "decimate:TEXT": crash that consumer on
 * payloads that begin with TEXT. With a prefix "hang-", "stop-", "abort-", "exit-", "assert-": do
 * that instead of a segmentation fault. */
void step_payload(enum consumer consumer, const uint8_t *payload, size_t length);

#define REACHED(page, name)                     step_reached((page), STEP_##name)
#define TEST_PAYLOAD(consumer, payload, length) step_payload((consumer), (payload), (length))

#else

#define REACHED(page, name)                     ((void)(page))
#define TEST_PAYLOAD(consumer, payload, length) ((void)0)

#endif
#endif
