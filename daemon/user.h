/* SPDX-License-Identifier: MIT */
#pragma once

/* What each user has of the daemon, and what it may have: see user.c. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

struct users;

/* The account of one user. */
struct user {
	struct users *all;
	TAILQ_ENTRY(user) entry;
	uid_t uid;
	uint32_t n_refs;
	uint32_t n_connections; /* that are not closing */
	uint32_t n_sessions;    /* that are not being reclaimed */
	uint64_t n_in_advance;  /* arenas granted to its sessions and not in use: advance.c */
	int64_t said_ms;        /* when the log said last that it met a limit; 0: never */
};

TAILQ_HEAD(user_list, user);

/* Of one user other than root and the daemon's own. */
struct user_limits {
	uint32_t n_connections;
	uint32_t n_sessions;
	uint32_t n_arenas; /* in advance */
	uint32_t n_types;
};

struct users {
	struct user_list list;
	struct user_limits limits;
};

/* Without limits. */
void users_init(struct users *all);
/* Nobody refers to an account any more: forget them all. */
void users_deinit(struct users *all);

/* What was asked for; where that is 0, what is right for a heap of that size. */
void users_set_limits(struct users *all, const struct user_limits *asked, uint32_t n_sessions, uint32_t n_arenas);

/* Root and the daemon's own user: no limit is theirs. */
bool user_is_trusted(uid_t uid);

/* The account of a user, which the caller gives back by user_unref(). NULL: out of memory. */
struct user *user_ref(struct users *all, uid_t uid);

/* May be NULL; returns NULL. */
struct user *user_unref(struct user *user);

/* The user met a limit. True: that is to be logged. False: it was just now. */
bool user_note_limit(struct user *user);
