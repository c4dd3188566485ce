/* SPDX-License-Identifier: MIT */
#pragma once

/* Who may connect, and which session it gets: see admit.c. */

#include "proto/frame.h"

struct client;
struct daemon;
struct member;

/* A connection was accepted: may it stay? */
void admit_connection(struct client *client);

/* Hello: a new session, the one it had, or an error. */
void admit_hello(struct client *client, const Pyheap__Hello *hello);

/* A session became free: somebody may wait for it. */
void admit_waiting(struct daemon *daemon);

/* The connection of a session gets its Welcome. */
void admit_welcome(struct client *client);
