/* SPDX-License-Identifier: MIT */
/* What the supervisor asks of the archive until it is answered. The story: the archive is asked
 * twice for one thing, refuses it, or dies over it; nothing is forgotten before the last answer,
 * and what is asked once more is asked in the order in which it came. A real event loop and a real
 * process as archive, whose end of the socket the test has. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "supervisor/archive/archive_client.h"
#include "tests/lib/played_child.h"
#include "tests/lib/unit.h"

#define CHANNEL "engine"

static struct settings settings = {.log_dir = "/nowhere",
                                   .restart = {.healthy_after_ns = NS_PER_S,
                                               .first_delay_ns = 3600 * NS_PER_S,
                                               .max_delay_ns = 3600 * NS_PER_S}};
static sd_event *event;
static struct spares spares;
static struct archive_client client;
static struct {
    uint64_t asker;
    struct message_position_saved saved;
    int count;
} answered; /* positions */

static const struct segment_grant first = {.name = CHANNEL "-1.avro.open", .id = 11, .size = 4096},
                                  second = {.name = CHANNEL "-2.avro.open", .id = 12, .size = 4096};

static void on_answer(void *data, const char *channel, struct message *message)
{
    (void)data;
    (void)channel;
    (void)message;
}

static void on_sealed(void *data, const char *channel, bool finished)
{
    (void)data;
    (void)channel;
    (void)finished;
}

static void on_position(void *data, uint64_t asker, const struct message_position_saved *saved)
{
    (void)data;
    answered.asker = asker;
    answered.saved = *saved;
    answered.count++;
}

static enum position_verdict verdict;

static enum position_verdict on_position_judge(void *data, struct message_position_save *to_save)
{
    (void)data;
    if (to_save->seq > 4711)
        to_save->seq = 4711;
    return verdict;
}

static void on_event(void *data)
{
    (void)data;
}

static void start(void)
{
    archive_client_start(&client);
    played_child_take(client.child);
}

static void end(void)
{
    struct child *child = client.child;
    const siginfo_t killed = {.si_code = CLD_KILLED, .si_status = SIGKILL};
    child->owner.ended(child, &killed);
    child_free(child);
}

static void answer_numbers(uint64_t next_seq, int error)
{
    const struct message_numbered numbered = {
        .channel = CHANNEL, .next_seq = next_seq, .error = error};
    played_child_says(client.child, MESSAGE_NUMBERED, &numbered, sizeof numbered);
}

static void answer_seal(const struct segment_grant *grant, int error)
{
    struct message_sealed sealed = {.channel = CHANNEL, .id = grant->id, .error = error};
    snprintf(sealed.name, sizeof sealed.name, "%.100s", grant->name);
    sealed.length = error ? 0 : 100;
    played_child_says(client.child, MESSAGE_SEALED, &sealed, sizeof sealed);
}

static void seal(const struct segment_grant *grant, uint64_t length)
{
    const struct seal_order order = {.began_as = "", .length = length};
    archive_client_seal(&client, CHANNEL, grant, &order);
}

static void set_up(void)
{
    static const struct program program = {.worker_path = PLAYED_CHILD_PROGRAM};
    const struct archive_owner owner = {.answer = on_answer,
                                        .sealed = on_sealed,
                                        .position = on_position,
                                        .position_judge = on_position_judge,
                                        .back = on_event,
                                        .ended = on_event};
    played_child_prepare();
    ck_assert_int_ge(sd_event_new(&event), 0);
    ck_assert_int_eq(spares_init(&spares, event, &program, &settings), 0);
    archive_client_init(&client, event, &spares, &settings, &owner);
    start();
}

static void tear_down(void)
{
    archive_client_free(&client);
    spares_free(&spares);
    played_child_leave();
    sd_event_unref(event);
}

/* The current segment is left, its seal is under way, and then the disk refuses its last bytes. */
START_TEST(of_two_answers_the_last_one_counts)
{
    seal(&first, 4000);
    ck_assert(archive_client_copy(&client, CHANNEL, &first));
    ck_assert_uint_eq(played_child_hears(MESSAGE_SEAL)->seal->copy, 0);
    ck_assert_uint_eq(played_child_hears(MESSAGE_SEAL)->seal->copy, 1);
    answer_seal(&first, 0);
    ck_assert(archive_client_is_to_seal(&client, CHANNEL));
    answer_seal(&first, ENOSPC);
    ck_assert(archive_client_left_unsealed(&client));
    archive_client_seal_failed_again(&client);
    ck_assert_uint_eq(played_child_hears(MESSAGE_SEAL)->seal->copy, 1);
    answer_seal(&first, 0);
    ck_assert(!archive_client_left_unsealed(&client));
}
END_TEST

START_TEST(the_second_one_is_asked_of_the_next_archive)
{
    seal(&first, 4000);
    ck_assert(archive_client_copy(&client, CHANNEL, &first));
    answer_seal(&first, 0);
    end();
    start();
    ck_assert(archive_client_is_to_seal(&client, CHANNEL));
    answer_seal(&first, 0); /* asked once */
    ck_assert(!archive_client_is_to_seal(&client, CHANNEL));
}
END_TEST

START_TEST(what_was_refused_is_copied_when_it_is_asked_again)
{
    seal(&first, 4000);
    answer_seal(&first, EMFILE);
    ck_assert_uint_eq(played_child_hears(MESSAGE_SEAL)->seal->again, 0);
    ck_assert(archive_client_copy(&client, CHANNEL, &first));
    ck_assert(!archive_client_copy(&client, CHANNEL, &first));
    played_child_hears_nothing();
    archive_client_seal_failed_again(&client);
    const struct message *message = played_child_hears(MESSAGE_SEAL);
    ck_assert_uint_eq(message->seal->copy, 1);
    ck_assert_uint_eq(message->seal->again, 1);
    answer_seal(&first, 0);
    ck_assert(!archive_client_left_unsealed(&client));
}
END_TEST

/* What becomes of an empty one hangs on what the one before says. */
START_TEST(what_was_refused_goes_before_one_that_may_be_empty)
{
    seal(&first, 4000);
    answer_seal(&first, EMFILE);
    played_child_hears(MESSAGE_SEAL);
    seal(&second, 0);
    ck_assert_uint_eq(played_child_hears(MESSAGE_SEAL)->seal->id, first.id);
    ck_assert_uint_eq(played_child_hears(MESSAGE_SEAL)->seal->id, second.id);
    played_child_hears_nothing();
    answer_seal(&first, 0);
    answer_seal(&second, 0);
    ck_assert(!archive_client_left_unsealed(&client));
}
END_TEST

/* Numbers were given, and their records are lost: only the log can tell the next start. */
START_TEST(numbers_are_asked_of_the_next_archive)
{
    archive_client_note_numbers(&client, CHANNEL, 4010, "");
    ck_assert_uint_eq(played_child_hears(MESSAGE_NUMBERS)->numbers->next_seq, 4010);
    end();
    ck_assert(archive_client_is_awaited(&client) && archive_client_left_unsealed(&client));
    start();
    ck_assert_uint_eq(client.unanswered, 1);
    answer_numbers(4010, 0);
    ck_assert(!archive_client_is_awaited(&client) && !archive_client_left_unsealed(&client));
}
END_TEST

START_TEST(refused_numbers_are_asked_again)
{
    archive_client_note_numbers(&client, CHANNEL, 4010, "");
    played_child_hears(MESSAGE_NUMBERS);
    answer_numbers(4010, ENOTDIR);
    ck_assert(!archive_client_is_awaited(&client) && archive_client_left_unsealed(&client));
    archive_client_seal_failed_again(&client);
    ck_assert_uint_eq(played_child_hears(MESSAGE_NUMBERS)->numbers->next_seq, 4010);
    answer_numbers(4010, ENOTDIR);
    archive_client_stop(&client); /* the last occasion */
    ck_assert_uint_eq(played_child_hears(MESSAGE_NUMBERS)->numbers->next_seq, 4010);
    played_child_hears(MESSAGE_STOP);
    answer_numbers(4010, 0);
    ck_assert(!archive_client_left_unsealed(&client));
}
END_TEST

START_TEST(of_two_numbers_the_higher_one_counts)
{
    archive_client_note_numbers(&client, CHANNEL, 4010, "");
    archive_client_note_numbers(&client, CHANNEL, 5000, "");
    played_child_hears(MESSAGE_NUMBERS);
    ck_assert_uint_eq(played_child_hears(MESSAGE_NUMBERS)->numbers->next_seq, 5000);
    answer_numbers(4010, 0);
    ck_assert(archive_client_is_awaited(&client));
    answer_numbers(5000, 0);
    ck_assert(!archive_client_left_unsealed(&client));
}
END_TEST

static const struct message_position_save save = {
    .channel = CHANNEL, .name = "store", .turn = 7, .seq = 4711, .uid = 1000};

static uint64_t asked_for_position(void)
{
    const struct message *message = played_child_hears(MESSAGE_POSITION_SAVE);
    ck_assert_str_eq(message->position_save->name, "store");
    ck_assert_uint_eq(message->position_save->seq, 4711);
    return message->position_save->turn;
}

static void answer_position(uint64_t turn, int error)
{
    const struct message_position_saved saved = {
        .channel = CHANNEL, .name = "store", .turn = turn, .error = error};
    played_child_says(client.child, MESSAGE_POSITION_SAVED, &saved, sizeof saved);
}

/* Turns of two gates may be the same number: each answer goes to the one that asked. */
START_TEST(a_position_is_answered_to_who_asked)
{
    answered.count = 0;
    ck_assert_int_eq(archive_client_position(&client, 31, &save), 0);
    ck_assert_int_eq(archive_client_position(&client, 32, &save), 0);
    uint64_t first_turn = asked_for_position(), second_turn = asked_for_position();
    ck_assert_uint_ne(first_turn, second_turn);
    answer_position(second_turn, EIO);
    ck_assert_uint_eq(answered.asker, 32);
    ck_assert_uint_eq(answered.saved.turn, 7);
    ck_assert_int_eq(answered.saved.error, EIO);
    answer_position(second_turn, 0); /* once more: nobody's */
    ck_assert_int_eq(answered.count, 1);
    answer_position(first_turn, 0);
    ck_assert_uint_eq(answered.asker, 31);
    ck_assert_int_eq(answered.count, 2);
    ck_assert_uint_eq(client.unanswered, 0);
}
END_TEST

START_TEST(positions_are_asked_of_the_next_archive)
{
    answered.count = 0;
    ck_assert_int_eq(archive_client_position(&client, 31, &save), 0);
    uint64_t turn = asked_for_position();
    end();
    ck_assert_int_eq(archive_client_position(&client, 31, &save), 0); /* while there is none */
    start();
    ck_assert_int_eq(answered.count, 0);
    answer_position(turn, 0);
    answer_position(turn + 1, 0);
    ck_assert_int_eq(answered.count, 2);
    ck_assert(!archive_client_is_awaited(&client)); /* an end waits for none of them */
}
END_TEST

/* A reader that saves as fast as it can holds up neither segments nor this process. */
START_TEST(a_flood_of_positions_waits)
{
    int count = 0;
    answered.count = 0;
    while (archive_client_position(&client, 31, &save) == 0)
        count++;
    ck_assert_int_eq(count, POSITIONS_MAX_OF_USER);
    ck_assert_int_eq(archive_client_position(&client, 31, &save), -EBUSY);
    ck_assert_uint_eq(client.unanswered, POSITIONS_AT_ONCE);
    for (int i = 0; i < POSITIONS_AT_ONCE; i++)
        asked_for_position();
    played_child_hears_nothing();
    for (int i = 1; i <= count; i++)
        answer_position((uint64_t)i, 0);
    ck_assert_int_eq(answered.count, count);
    ck_assert_uint_eq(client.unanswered, 0);
    ck_assert_int_eq(archive_client_position(&client, 31, &save), 0);
}
END_TEST

/* Another user waits for what is under way, not for all that the first one wants; and an end for
 * nothing more than that. */
START_TEST(users_take_turns_with_their_positions)
{
    struct message_position_save other = save;
    other.uid = save.uid + 1;
    answered.count = 0;
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(archive_client_position(&client, 31, &save), 0);
    ck_assert_int_eq(archive_client_position(&client, 31, &other), 0);
    ck_assert_int_eq(archive_client_position(&client, 31, &other), 0);
    for (uint64_t i = 1; i <= POSITIONS_AT_ONCE; i++)
        ck_assert_uint_eq(asked_for_position(), i);
    answer_position(1, 0);
    ck_assert_uint_eq(asked_for_position(), 101);
    answer_position(101, 0);
    ck_assert_uint_eq(asked_for_position(), 102);
    answer_position(2, 0);
    ck_assert_uint_eq(asked_for_position(), POSITIONS_AT_ONCE + 1);
    archive_client_stop(&client);
    played_child_hears(MESSAGE_STOP);
    answer_position(3, 0);
    played_child_hears_nothing();
    archive_client_go_on(&client);
    ck_assert_uint_eq(asked_for_position(), POSITIONS_AT_ONCE + 2);
}
END_TEST

START_TEST(nobody_waits_for_all_of_four_others)
{
    struct message_position_save other = save;
    uint64_t under_way[POSITIONS_AT_ONCE];
    answered.count = 0;
    for (uint32_t user = 0; user < POSITIONS_AT_ONCE; user++) {
        other.uid = save.uid + user;
        for (int i = 0; i < 100; i++)
            ck_assert_int_eq(archive_client_position(&client, 31, &other), 0);
    }
    other.uid = save.uid + POSITIONS_AT_ONCE;
    ck_assert_int_eq(archive_client_position(&client, 31, &other), 0);
    for (int i = 0; i < POSITIONS_AT_ONCE; i++)
        under_way[i] = asked_for_position();
    int served = 0;
    for (uint64_t turn = 0; turn != 100 * POSITIONS_AT_ONCE + 1; served++) {
        answer_position(under_way[served % POSITIONS_AT_ONCE], 0);
        turn = under_way[served % POSITIONS_AT_ONCE] = asked_for_position();
    }
    ck_assert_int_le(served, POSITIONS_AT_ONCE + 1);
}
END_TEST

/* Until the log is known; what is asked of the archive is what may be by then. */
START_TEST(positions_wait_for_recovery)
{
    struct message_position_save beyond = save;
    const struct message_recovered recovered = {.channel = CHANNEL};
    beyond.seq = 5000;
    answered.count = 0;
    verdict = POSITION_IS_TO_WAIT;
    ck_assert_int_eq(archive_client_position(&client, 31, &beyond), 0);
    played_child_hears_nothing();
    ck_assert_int_eq(
        archive_client_recover(&client, CHANNEL, (const struct segment_grant *[2]){0}, 0), 0);
    played_child_hears(MESSAGE_RECOVER);
    verdict = POSITION_MAY_GO;
    played_child_says(client.child, MESSAGE_RECOVERED, &recovered, sizeof recovered);
    answer_position(asked_for_position(), 0);
    ck_assert_int_eq(answered.count, 1);
    verdict = POSITION_IS_TO_WAIT; /* that lasts */
    ck_assert_int_eq(archive_client_position(&client, 31, &beyond), 0);
    ck_assert_int_eq(answered.count, 1);
    verdict = POSITION_IS_REFUSED;
    archive_client_look(&client, monotonic_now());
    ck_assert_int_eq(answered.count, 2);
    ck_assert_int_eq(answered.saved.error, EAGAIN);
    ck_assert_uint_eq(answered.saved.turn, 7);
    played_child_hears_nothing();
    verdict = POSITION_MAY_GO;
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("archive_client");
    TCase *tcase = tcase_create("requests");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, of_two_answers_the_last_one_counts);
    tcase_add_test(tcase, the_second_one_is_asked_of_the_next_archive);
    tcase_add_test(tcase, what_was_refused_is_copied_when_it_is_asked_again);
    tcase_add_test(tcase, what_was_refused_goes_before_one_that_may_be_empty);
    tcase_add_test(tcase, numbers_are_asked_of_the_next_archive);
    tcase_add_test(tcase, refused_numbers_are_asked_again);
    tcase_add_test(tcase, of_two_numbers_the_higher_one_counts);
    tcase_add_test(tcase, a_position_is_answered_to_who_asked);
    tcase_add_test(tcase, positions_are_asked_of_the_next_archive);
    tcase_add_test(tcase, a_flood_of_positions_waits);
    tcase_add_test(tcase, users_take_turns_with_their_positions);
    tcase_add_test(tcase, nobody_waits_for_all_of_four_others);
    tcase_add_test(tcase, positions_wait_for_recovery);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
