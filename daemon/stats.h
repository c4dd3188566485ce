/* SPDX-License-Identifier: MIT */
#pragma once

/* The heap's figures for a session that asks for them: see stats.c. */

struct client;
struct daemon;
struct member;

/* A StatsRequest: answered as soon as the lock is free. */
void stats_request(struct client *client);

/* Answer one of those that the member is owed. 1 it is owed more, 0 none, -EBUSY it waits for the lock. */
int stats_step(struct daemon *daemon, struct member *member);
