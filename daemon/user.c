// SPDX-License-Identifier: MIT
/*
 * Accounts: what each user has of the daemon
 *
 * Limits are per user and not per connection, since a user may have as many connections and processes as it likes. Root
 * and the daemon's own user have accounts, too, but no limits: they operate the daemon.
 *
 * A user that meets a limit is named in the log once a minute. It may meet it as often as it can connect, and its lines
 * must not take the room of others.
 */
#include "daemon/user.h"

#include "daemon/clock.h"
#include "heap/shared/layout.h"

#include <stdlib.h>
#include <unistd.h>

#define SAY_AGAIN_MS       60000
#define N_MORE_CONNECTIONS 16 /* beyond those of its sessions: that come, or go */

void users_init(struct users *all)
{
	*all = (struct users){.limits = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX}};
	TAILQ_INIT(&all->list);
}

static uint32_t or_half(uint32_t asked, uint32_t n)
{
	return asked ? asked : n / 2 + n % 2;
}

void users_set_limits(struct users *all, const struct user_limits *asked, uint32_t n_sessions, uint32_t n_arenas)
{
	struct user_limits *limits = &all->limits;

	limits->n_sessions = or_half(asked->n_sessions, n_sessions);
	limits->n_connections = asked->n_connections ? asked->n_connections : limits->n_sessions + N_MORE_CONNECTIONS;
	limits->n_arenas = or_half(asked->n_arenas, n_arenas);
	limits->n_types = or_half(asked->n_types, TYPES_MAX);
}

bool user_is_trusted(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

static bool was_said(const struct user *user)
{
	return user->said_ms && now_ms() - user->said_ms < SAY_AGAIN_MS;
}

/* An account that nobody refers to stays for as long as it knows that its user was named. */
static void forget_unused(struct users *all)
{
	struct user *user, *next;

	for (user = TAILQ_FIRST(&all->list); user; user = next) {
		next = TAILQ_NEXT(user, entry);
		if (user->n_refs || was_said(user))
			continue;
		TAILQ_REMOVE(&all->list, user, entry);
		free(user);
	}
}

void users_deinit(struct users *all)
{
	struct user *user, *next;

	for (user = TAILQ_FIRST(&all->list); user; user = next) {
		next = TAILQ_NEXT(user, entry);
		free(user);
	}
	TAILQ_INIT(&all->list);
}

static struct user *find(const struct users *all, uid_t uid)
{
	struct user *user;

	TAILQ_FOREACH(user, &all->list, entry)
	if (user->uid == uid)
		break;
	return user;
}

struct user *user_ref(struct users *all, uid_t uid)
{
	struct user *user = find(all, uid);

	if (user) {
		user->n_refs++;
		return user;
	}
	forget_unused(all);
	user = calloc(1, sizeof(*user));
	if (!user)
		return NULL;
	*user = (struct user){.all = all, .uid = uid, .n_refs = 1};
	TAILQ_INSERT_TAIL(&all->list, user, entry);
	return user;
}

struct user *user_unref(struct user *user)
{
	if (user)
		user->n_refs--;
	return NULL;
}

bool user_note_limit(struct user *user)
{
	if (was_said(user))
		return false;
	user->said_ms = now_ms();
	return true;
}
