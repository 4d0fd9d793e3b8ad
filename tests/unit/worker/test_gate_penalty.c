/* SPDX-License-Identifier: MIT */
/* Users whose connections were ended because of what they sent, and those of them that come then.
 */
#include "common/monotonic.h"
#include "tests/lib/unit.h"
#include "worker/gate/gate_penalty.h"

#define PENALTY (100 * NS_PER_MS)

static struct gate gate;
static struct gate_connection connections[3];
static const monotonic begin = {NS_PER_S};

static monotonic later(uint64_t ns)
{
    return monotonic_add(begin, ns);
}

/* The first is user 1001's, the second 1002's, and so on. */
static void setup(void)
{
    gate = (struct gate){.epoll = -1};
    for (int i = 0; i < 3; i++)
        connections[i] = (struct gate_connection){.peer = (uint64_t)(1001 + i),
                                                  .next = i < 2 ? &connections[i + 1] : NULL};
    gate.first = connections;
}

START_TEST(whoever_did_nothing_is_heard_at_once)
{
    gate_penalty_give(&gate, 1002, begin);
    for (int i = 0; i < 3; i++)
        gate_penalty_hold(&gate, &connections[i], begin);
    ck_assert(!connections[0].held && connections[1].held && !connections[2].held);
    ck_assert_uint_eq(gate.held_count, 1);
}
END_TEST

START_TEST(the_others_are_heard_when_their_moment_is_over)
{
    ck_assert_int_eq(gate_penalty_look(&gate, begin), -1);
    gate_penalty_give(&gate, 1001, begin);
    gate_penalty_give(&gate, 1002, later(PENALTY / 2));
    gate_penalty_hold(&gate, &connections[0], later(PENALTY / 2));
    gate_penalty_hold(&gate, &connections[1], later(PENALTY / 2));
    ck_assert_int_eq(gate_penalty_look(&gate, later(PENALTY / 2)), 51);
    gate_penalty_look(&gate, later(PENALTY));
    ck_assert(!connections[0].held && connections[1].held);
    ck_assert_int_eq(gate_penalty_look(&gate, later(PENALTY + PENALTY / 2)), -1);
    ck_assert(!connections[1].held);
    ck_assert_uint_eq(gate.held_count, 0);
}
END_TEST

START_TEST(it_is_not_made_longer)
{
    gate_penalty_give(&gate, 1001, begin);
    gate_penalty_hold(&gate, &connections[0], begin);
    gate_penalty_give(&gate, 1001, later(PENALTY - 1));
    gate_penalty_look(&gate, later(PENALTY));
    ck_assert(!connections[0].held);
    gate_penalty_give(&gate, 1001, later(PENALTY));
    gate_penalty_hold(&gate, &connections[0], later(PENALTY));
    ck_assert_int_eq(gate_penalty_look(&gate, later(PENALTY)), 101);
    ck_assert(connections[0].held);
}
END_TEST

START_TEST(who_ends_while_it_is_held_is_forgotten)
{
    gate_penalty_give(&gate, 1001, begin);
    gate_penalty_hold(&gate, &connections[0], begin);
    gate_penalty_forget(&gate, &connections[0]);
    gate_penalty_forget(&gate, &connections[0]);
    ck_assert_uint_eq(gate.held_count, 0);
    ck_assert_int_eq(gate_penalty_look(&gate, begin), -1);
}
END_TEST

START_TEST(of_many_users_those_are_known_that_came_last)
{
    for (uid_t uid = 1; uid <= GATE_PENALTIES + 1; uid++)
        gate_penalty_give(&gate, 1000 + uid, later(uid));
    gate_penalty_hold(&gate, &connections[0], later(GATE_PENALTIES + 1));
    gate_penalty_hold(&gate, &connections[1], later(GATE_PENALTIES + 1));
    ck_assert(!connections[0].held && connections[1].held);
}
END_TEST

START_TEST(root_and_the_daemons_own_user_are_trusted)
{
    gate_penalty_give(&gate, 0, begin);
    gate_penalty_give(&gate, geteuid(), begin);
    for (uint32_t i = 0; i < GATE_PENALTIES; i++)
        ck_assert_uint_eq(gate.penalties[i].until.ns, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("whoever sends the gate nonsense");
    TCase *tests = tcase_create("penalty");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, whoever_did_nothing_is_heard_at_once);
    tcase_add_test(tests, the_others_are_heard_when_their_moment_is_over);
    tcase_add_test(tests, it_is_not_made_longer);
    tcase_add_test(tests, who_ends_while_it_is_held_is_forgotten);
    tcase_add_test(tests, of_many_users_those_are_known_that_came_last);
    tcase_add_test(tests, root_and_the_daemons_own_user_are_trusted);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
