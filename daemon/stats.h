/* SPDX-License-Identifier: MIT */
#pragma once

/* The heap's figures for a session that asks for them: see stats.c. */

struct client;
struct daemon;
struct member;

/* A StatsRequest: answered in its turn. */
void stats_request(struct client *client);

/* Count a bounded part, and answer when that was the last. 1 there is more to do, 0 the member is owed none. */
int stats_step(struct daemon *daemon, struct member *member);

/* It is owed none any more. */
void stats_forget(struct member *member);
