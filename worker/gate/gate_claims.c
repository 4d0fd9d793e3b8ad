/* SPDX-License-Identifier: MIT */
/* A list of claims, each inside the connection that has it. Called by the main loop. Must never
 * hold a claim whose connection is gone: one that has ended keeps its own while the archive is at
 * work for it. */
#include "worker/gate/gate_claims.h"

#include <stdio.h>
#include <string.h>

static bool is_of(const struct gate_claim *claim, const char *channel, const char *name)
{
    return strcmp(claim->name, name) == 0 && strcmp(claim->channel, channel) == 0;
}

bool gate_claims_are_held(const struct gate *gate, const char *channel, const char *name,
                          const struct gate_connection *except)
{
    for (const struct gate_claim *it = gate->claims; it; it = it->next)
        if (it->firm && it->owner != except && is_of(it, channel, name))
            return true;
    return false;
}

void gate_claims_change(const struct gate *gate, const struct gate_claim *changed)
{
    for (struct gate_claim *it = gate->claims; it; it = it->next)
        if (!it->firm && is_of(it, changed->channel, changed->name))
            it->stale = true;
}

static void link_in(struct gate *gate, struct gate_connection *owner, struct gate_claim *claim)
{
    claim->owner = owner;
    claim->next = gate->claims;
    if (claim->next)
        claim->next->link = &claim->next;
    claim->link = &gate->claims;
    gate->claims = claim;
}

void gate_claims_take(struct gate *gate, struct gate_connection *owner, struct gate_claim *claim,
                      const struct read_position *position)
{
    snprintf(claim->channel, sizeof claim->channel, "%s", position->channel);
    snprintf(claim->name, sizeof claim->name, "%s", position->name);
    claim->uid = owner->uid;
    claim->firm = claim->stale = false;
    link_in(gate, owner, claim);
}

void gate_claims_release(struct gate_claim *claim)
{
    if (!claim->owner)
        return;
    claim->owner = NULL;
    *claim->link = claim->next;
    if (claim->next)
        claim->next->link = claim->link;
}

void gate_claims_settle(struct gate *gate, struct gate_connection *owner)
{
    struct gate_claim *claim = &owner->claim;
    gate_claims_release(claim);
    gate_claims_release(&owner->taking);
    *claim = owner->taking;
    claim->firm = true;
    link_in(gate, owner, claim);
}
