/* SPDX-License-Identifier: MIT */
/* The channel's state x event table as data: every pair has an action; the pairs that can't happen
 * are exactly the ones named here, with the reason; an operator's wish has an answer in every
 * state. (What the actions do is shown with real workers by the system tests.) */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/channel/channel_machine.h"
#include "tests/lib/unit.h"

static bool can_happen(enum channel_state state, enum channel_event event)
{
    bool has_worker =
        state == CHANNEL_STARTING || state == CHANNEL_RUNNING || state == CHANNEL_STOPPING;
    switch (event) {
    case CHANNEL_EVENT_OPENED:
    case CHANNEL_EVENT_OPEN_FAILED:
        return state == CHANNEL_OPENING; /* only OPENING opens anything */
    case CHANNEL_EVENT_DIED:
        return has_worker; /* elsewhere there is none */
    case CHANNEL_EVENT_READY:
        return state == CHANNEL_STARTING ||
               state == CHANNEL_STOPPING; /* the latter when it crossed a STOP */
    case CHANNEL_EVENT_TIMER:
        return state == CHANNEL_OPENING || state == CHANNEL_STARTING || state == CHANNEL_STOPPING ||
               state == CHANNEL_BACKOFF; /* the states with a deadline */
    default:
        return true; /* operators may ask for anything at any time */
    }
}

START_TEST(every_pair_has_an_action_and_only_the_impossible_are_called_so)
{
    for (int state = 0; state < CHANNEL_STATE_COUNT; state++) {
        for (int event = 0; event < CHANNEL_EVENT_COUNT; event++) {
            const char *action =
                channel_machine_action((enum channel_state)state, (enum channel_event)event);
            ck_assert_msg(action != NULL, "%s has no answer to event %d",
                          channel_state_names[state], event);
            bool impossible = strcmp(action, "impossible") == 0;
            ck_assert_msg(impossible ==
                              !can_happen((enum channel_state)state, (enum channel_event)event),
                          "%s, event %d: %s", channel_state_names[state], event, action);
        }
    }
}
END_TEST

struct expectation {
    enum channel_state state;
    enum channel_event event;
    const char *action;
};

/* The promises that users know by heart. */
static const struct expectation expectations[] = {
    {CHANNEL_RUNNING, CHANNEL_EVENT_DIED, "start_again"},
    {CHANNEL_STARTING, CHANNEL_EVENT_DIED, "start_again"},
    {CHANNEL_STARTING, CHANNEL_EVENT_TIMER, "kill_late_starter"},
    {CHANNEL_STOPPING, CHANNEL_EVENT_DIED, "end_stop"},
    {CHANNEL_STOPPING, CHANNEL_EVENT_TIMER, "press_for_end"},
    {CHANNEL_STOPPING, CHANNEL_EVENT_START, "start_after_stop"},
    {CHANNEL_OPENING, CHANNEL_EVENT_TIMER, "launch_without_log"},
    {CHANNEL_OPENING, CHANNEL_EVENT_OPEN_FAILED, "retry_opening"},
    {CHANNEL_BACKOFF, CHANNEL_EVENT_TIMER, "open_again"},
    {CHANNEL_BACKOFF, CHANNEL_EVENT_RESET, "open_afresh"},
    {CHANNEL_FAILED, CHANNEL_EVENT_RESET, "begin"},
    {CHANNEL_FAILED, CHANNEL_EVENT_STOP, "stop_without_worker"},
    {CHANNEL_STOPPED, CHANNEL_EVENT_START, "begin"},
    {CHANNEL_STOPPED, CHANNEL_EVENT_RESET, "ignore"},
    {CHANNEL_STOPPED, CHANNEL_EVENT_STOP, "ignore"},
};

START_TEST(the_answers_that_users_rely_on)
{
    const struct expectation *expected = &expectations[_i];
    ck_assert_str_eq(channel_machine_action(expected->state, expected->event), expected->action);
}
END_TEST

START_TEST(a_stop_is_answered_in_every_state)
{
    for (int state = 0; state < CHANNEL_STATE_COUNT; state++) {
        const char *action = channel_machine_action((enum channel_state)state, CHANNEL_EVENT_STOP);
        bool stays = strcmp(action, "ignore") == 0;
        ck_assert_msg(stays == (state == CHANNEL_STOPPED), "%s: %s", channel_state_names[state],
                      action);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("channel_states");
    TCase *cases = tcase_create("table");
    tcase_add_test(cases, every_pair_has_an_action_and_only_the_impossible_are_called_so);
    tcase_add_loop_test(cases, the_answers_that_users_rely_on, 0,
                        (int)(sizeof expectations / sizeof expectations[0]));
    tcase_add_test(cases, a_stop_is_answered_in_every_state);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
