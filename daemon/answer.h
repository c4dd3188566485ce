/* SPDX-License-Identifier: MIT */
#pragma once

/* What the daemon says over a connection, but for errors: see answer.c. */

#include "daemon/connection.h"
#include "heap/repair/stats.h"
#include "heap/repair/usage.h"

/* Session `index` is the connection's: its Welcome, with the heap's descriptors. */
void answer_welcome(struct connection *connection, const struct heap *heap, uint32_t index);

/* The first arenas of the n runs that are granted. */
void answer_grant(struct connection *connection, uint32_t *heads, uint32_t n);

void answer_stats(struct connection *connection, const struct heap_stats *stats);

/* What sessions from `first` on have, as many as a message has room for; `usage` has an entry for each session. */
void answer_usage(
	struct connection *connection, const struct heap *heap, const struct session_usage *usage, uint32_t first);

/* The session that was to be ended is. */
void answer_evicted(struct connection *connection);

/* The heap is empty; so many sessions were ended. */
void answer_reset(struct connection *connection, uint32_t n_sessions);

/* The daemon ends. */
void answer_goodbye(struct connection *connection);
