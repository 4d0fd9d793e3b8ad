/* SPDX-License-Identifier: MIT */
/* Called by all that takes requests and answers them, in the main loop. Costs a look at the clock
 * for each of both; must never need a timer of its own. */
#include "worker/gate/gate_activity.h"

#include "common/gate_histogram.h"

#define WINDOW_NS (4 * NS_PER_S)

/* ---- rates ---- */

static void turn_window(struct gate_rate *rate, monotonic now)
{
    const uint64_t age = monotonic_since(now, rate->begun);
    if (age < WINDOW_NS)
        return;
    const bool follows = age < 2 * WINDOW_NS;
    rate->requests[1] = follows ? rate->requests[0] : 0;
    rate->bytes[1] = follows ? rate->bytes[0] : 0;
    rate->requests[0] = rate->bytes[0] = 0;
    rate->begun = follows ? monotonic_add(rate->begun, WINDOW_NS) : now;
}

/* As much of the window before as makes a whole one of both. Who has just begun is younger. */
struct gate_activity_rates gate_activity_rates(const struct gate_connection *connection,
                                               monotonic now)
{
    struct gate_rate rate = connection->rate;
    turn_window(&rate, now);
    const double part = 1 - (double)monotonic_since(now, rate.begun) / (double)WINDOW_NS;
    const double seconds = (double)WINDOW_NS / (double)NS_PER_S;
    return (struct gate_activity_rates){
        ((double)rate.requests[0] + part * (double)rate.requests[1]) / seconds,
        ((double)rate.bytes[0] + part * (double)rate.bytes[1]) / seconds};
}

/* ---- requests ---- */

/* A range that is sent is always copied, whatever was asked for. */
static enum gate_mode mode_of_range(uint32_t how)
{
    return how == READ_FDPASS                       ? GATE_MODE_FD
           : how == READ_COPY || how == READ_SPLICE ? GATE_MODE_COPY
                                                    : GATE_MODE_OTHER;
}

static enum gate_mode mode_of(unsigned type, const void *payload)
{
    if (type == READ_RANGE)
        return mode_of_range(((const struct read_range *)payload)->how);
    if (type != READ_OBJECT)
        return GATE_MODE_OTHER;
    switch (((const struct read_object *)payload)->how) {
    case READ_FDPASS:
        return GATE_MODE_FD;
    case READ_COPY:
        return GATE_MODE_COPY;
    case READ_SPLICE:
        return GATE_MODE_SPLICE;
    default:
        return GATE_MODE_OTHER;
    }
}

void gate_activity_begins(struct gate *gate, struct gate_connection *connection, unsigned type,
                          const void *payload)
{
    gate_activity_stirs(gate, connection);
    connection->is_measured = type != READ_ARM && type != READ_PROGRESS;
    if (!connection->is_measured)
        return; /* they have no answer, and are as many as there is news */
    connection->made++;
    connection->mode_of = mode_of(type, payload);
    turn_window(&connection->rate, connection->since);
    connection->rate.requests[0]++;
}

void gate_activity_answered(struct gate *gate, struct gate_connection *connection,
                            enum read_type type)
{
    const enum gate_mode mode = connection->mode_of;
    gate_activity_stirs(gate, connection);
    const bool is_begun = (type == READ_OBJECT_LENT || type == READ_RANGE_LENT) &&
                          (mode == GATE_MODE_COPY || mode == GATE_MODE_SPLICE);
    if (!connection->is_measured || is_begun) /* its bytes are still to come */
        return;
    connection->is_measured = false;
    gate_count(gate, GATE_COUNTER_requests); /* once each: as many as are refused or measured */
    if (type == READ_REFUSED)
        gate_count(gate, GATE_COUNTER_requests_refused);
    else
        gate_histogram_add(&gate->latency[mode],
                           monotonic_since(monotonic_now(), connection->since));
}

void gate_activity_gets(struct gate_connection *connection, uint64_t bytes)
{
    connection->bytes += bytes;
    turn_window(&connection->rate, monotonic_now());
    connection->rate.bytes[0] += bytes;
}

void gate_activity_hands_out(struct gate *gate, struct gate_connection *connection,
                             enum gate_mode mode, uint64_t bytes)
{
    gate->bytes[mode] += bytes;
    gate->reporting.due = true;
    gate_activity_gets(connection, bytes);
}

/* Who has asked for nothing for a second may ask for as much at once. */
bool gate_activity_is_paced(const struct gate *gate, struct gate_connection *connection)
{
    const uint32_t rate = gate->limits.requests_per_second;
    const uint64_t now = connection->since.ns;
    if (rate == 0)
        return true;
    const uint64_t oldest = now > NS_PER_S ? now - NS_PER_S : 0;
    const uint64_t from = connection->paced_ns > oldest ? connection->paced_ns : oldest;
    if (from + NS_PER_S / rate > now)
        return false;
    connection->paced_ns = from + NS_PER_S / rate;
    return true;
}

/* ---- what may last too long ---- */

void gate_activity_stirs(struct gate *gate, struct gate_connection *connection)
{
    if (gate->limits.idle_timeout_ns == 0)
        return;
    connection->active = monotonic_now();
    if (gate->idle_look.ns == 0)
        gate->idle_look = monotonic_add(connection->active, gate->limits.idle_timeout_ns);
}

void gate_activity_waits(struct gate *gate)
{
    if (gate->limits.request_timeout_ns && gate->request_look.ns == 0)
        gate->request_look = monotonic_add(monotonic_now(), gate->limits.request_timeout_ns);
}
