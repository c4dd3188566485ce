// SPDX-License-Identifier: MIT
/*
 * Sessions and the processes behind them
 *
 * A session lives as long as its process. Only three things end a session that was taken: the kernel says that the
 * process has ended (its pidfd is readable), the session says that it is closed (Goodbye, or its entry in the session
 * table), or the process asks for another one and has called execve() since (admit.c). The end of the connection does
 * not: a process can close it by mistake, hand it on over exec(), or have lost it, and still use what it holds. Such a
 * session stays, without a connection, until its process ends or resumes it. A session that was offered and never taken
 * ends with its connection.
 *
 *            admitted                         process ended, closed            nothing left
 *   NONE ------------------> LIVE ---------------------------------> DEAD ------------------> NONE
 *            adopted         |  ^                                   ^ |  ^
 *                 Hello with |  | what was granted is taken back    | |  | the heap was repaired
 *                      token v  |                                   | v  |
 *                          RESUMING --------------------------------+ LOST
 *
 * There are no other ways. DEAD in particular is final: dsession_end() is the only function that leads there from LIVE
 * and RESUMING, it does nothing in any other state, and a session that is not LIVE or RESUMING cannot be resumed.
 *
 * A session and its connection know each other: session->connection and connection->session1 are set and cleared
 * together. A process that closes a session's connection separates the two first (detach()), so that the end of the
 * connection decides about the session only when the connection ended by itself.
 *
 * A dead session is reclaimed in steps: the grant under way is given up, what was granted and never taken into use is
 * unmapped, then its holds are dropped (heap/repair/recover.c). If this daemon dies in between, the next one finds the
 * session marked DEAD and does the rest. Where reclaiming is impossible, since what the session left is damaged, it is
 * LOST, and its slot with it, until the heap has been repaired.
 */
#include "daemon/dsession.h"

#include "daemon/answer.h"
#include "daemon/clock.h"
#include "daemon/damage.h"
#include "daemon/log.h"
#include "heap/change/foreign_lock.h"
#include "heap/repair/recover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct heap *heap_of(const struct dsession *session)
{
	return session->all->self->heap;
}

bool dsession_is_alive(const struct dsession *session)
{
	return session->state == DSESSION_LIVE || session->state == DSESSION_RESUMING;
}

/* ---- all of them ----------------------------------------------------------------------------------------------- */

int dsessions_init(struct dsessions *all)
{
	full_init(&all->full, all->self->heap, all->work);
	all->entries = calloc(all->self->heap->n_sessions, sizeof(*all->entries));
	return all->entries ? 0 : -ENOMEM;
}

/* A session that is being reclaimed does not count: its user may have another one. */
static void count_for_user(struct dsession *session, bool counts)
{
	if (session->user && counts && !session->is_counted)
		session->user->n_sessions++;
	else if (session->user && !counts && session->is_counted)
		session->user->n_sessions--;
	session->is_counted = counts;
}

static void forget(struct dsession *session)
{
	if (session->state == DSESSION_NONE)
		return;
	work_remove(session->all->work, &session->work_item);
	stats_cancel(&session->stats);
	usage_cancel(&session->usage);
	grant_deinit(&session->grant);
	count_for_user(session, false);
	session->user = user_unref(session->user);
	if (session->process_ended)
		event_free(session->process_ended);
	process_deinit(&session->process);
	session->state = DSESSION_NONE;
	session->all->n_used--;
}

void dsessions_deinit(struct dsessions *all)
{
	full_deinit(&all->full);
	for (uint32_t i = 0; all->entries && i < all->self->heap->n_sessions; i++)
		forget(&all->entries[i]);
	free(all->entries);
	all->entries = NULL;
}

struct dsession *dsessions_at(const struct dsessions *all, uint32_t index)
{
	if (index >= all->self->heap->n_sessions || all->entries[index].state == DSESSION_NONE)
		return NULL;
	return &all->entries[index];
}

struct dsession *dsessions_of(const struct dsessions *all, const struct connection *connection)
{
	return connection->session1 ? dsessions_at(all, connection->session1 - 1) : NULL;
}

uint32_t dsessions_n_alive(const struct dsessions *all)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < all->self->heap->n_sessions; i++)
		n += dsession_is_alive(&all->entries[i]);
	return n;
}

bool dsessions_any_dead(const struct dsessions *all)
{
	for (uint32_t i = 0; i < all->self->heap->n_sessions; i++)
		if (all->entries[i].state == DSESSION_DEAD)
			return true;
	return false;
}

/* ---- coming ---------------------------------------------------------------------------------------------------- */

static void on_process_ended(evutil_socket_t fd, short events, void *userdata)
{
	(void)fd;
	(void)events;
	dsession_end(userdata, "its process ended");
}

static int step_of_item(void *owner)
{
	return dsession_step(owner);
}

static struct dsession *begin(struct dsessions *all, uint32_t index, enum dsession_state state, uid_t uid)
{
	struct dsession *session = &all->entries[index];

	*session = (struct dsession){
		.all = all,
		.index = index,
		.state = state,
		.process = {.pidfd = -1},
		.user = user_ref(all->users, uid),
		.work_item = {.step = step_of_item, .owner = session},
	};
	grant_init(&session->grant, all->trim, index, session->user);
	stats_init(&session->stats, all->self);
	usage_init(&session->usage, all->self->heap);
	idle_init(&session->idle, all->trim, index);
	all->n_used++;
	all->started(all->owner);
	return session;
}

/* Take the process's pidfd over; its end will call on_process_ended(). */
static int watch_process(struct dsession *session, struct process *process)
{
	if (process->pidfd >= 0) {
		session->process_ended =
			event_new(session->all->base, process->pidfd, EV_READ, on_process_ended, session);
		if (!session->process_ended)
			return -ENOMEM;
		event_add(session->process_ended, NULL);
	}
	session->process = *process;
	process->pidfd = -1;
	return 0;
}

int dsession_start(struct dsessions *all, uint32_t index, struct process *process)
{
	struct dsession *session = begin(all, index, DSESSION_LIVE, process->uid);
	int r = session->user ? watch_process(session, process) : -ENOMEM;

	if (r < 0)
		forget(session);
	else
		count_for_user(session, true);
	return r;
}

/* What its process has asked for is forgotten, and what was granted and not used is taken back, in steps. */
static void take_back_begin(struct dsession *session)
{
	grant_cancel(&session->grant);
	stats_cancel(&session->stats);
	usage_cancel(&session->usage);
	work_add(session->all->work, &session->work_item);
}

static void reclaim_begin(struct dsession *session)
{
	session->state = DSESSION_DEAD;
	session->has_lock = false;
	count_for_user(session, false);
	session_init(&session->view, heap_of(session), session->index);
	take_back_begin(session);
}

void dsession_start_dead(struct dsessions *all, uint32_t index)
{
	struct dsession *session = begin(all, index, DSESSION_DEAD, all->self->heap->truth->sessions[index].uid);

	foreign_lock_owner_died(heap_of(session), index); /* the daemon before may have died before it came to that */
	reclaim_begin(session);
}

/* ---- the connection -------------------------------------------------------------------------------------------- */

/* The session and its connection have nothing to do with each other any more. The connection, or NULL. */
static struct connection *detach(struct dsession *session)
{
	struct connection *connection = session->connection;

	session->connection = NULL;
	if (connection)
		connection->session1 = 0;
	return connection;
}

static void close_connection(struct dsession *session)
{
	struct connection *connection = detach(session);

	if (connection)
		connection_close(connection);
}

/* From now on the session's process is the one that has connected, by the pidfd that came with the connection. */
static void watch_peer(struct dsession *session, struct connection *connection)
{
	struct event *before = session->process_ended;
	struct process found = session->process;

	session->process_ended = NULL;
	if (watch_process(session, &connection->process) < 0) {
		session->process_ended = before;
		log_error("session %u: cannot watch its process: out of memory", session->index);
		return;
	}
	if (before)
		event_free(before);
	process_deinit(&found);
}

void dsession_attach(struct dsession *session, struct connection *connection)
{
	close_connection(session);
	session->connection = connection;
	connection->session1 = session->index + 1;
	if (connection->process.pidfd >= 0)
		watch_peer(session, connection);
}

int dsession_resume(struct dsession *session, struct connection *connection, bool has_lock)
{
	if (dsession_is_alive(session) && session_is_closed(heap_of(session), session->index))
		dsession_end(session, "it was closed");
	if (!dsession_is_alive(session))
		return -ESTALE;
	dsession_attach(session, connection);
	session_set_process(heap_of(session), session->index, connection->process.pid, connection->process.start_time);
	session->state = DSESSION_RESUMING;
	session->has_lock = has_lock;
	take_back_begin(session);
	return 0;
}

/* Without a connection: a session that was closed, or never taken, is over. RESUMING: decided at its end. */
static void end_if_over(struct dsession *session)
{
	if (session->state == DSESSION_LIVE && session_withdraw(heap_of(session), session->index))
		dsession_end(session, "it was closed");
}

void dsession_connection_ended(struct dsession *session)
{
	detach(session);
	end_if_over(session);
}

/* ---- going ----------------------------------------------------------------------------------------------------- */

void dsession_end(struct dsession *session, const char *why)
{
	struct session_record record;

	if (!dsession_is_alive(session))
		return;
	session_read(heap_of(session), session->index, &record);
	log_debug("session %u (pid %d, %s) ends: %s", session->index, (int)session->process.pid, record.program, why);
	session_mark_dead(heap_of(session), session->index);
	if (session->process_ended)
		event_del(session->process_ended);
	reclaim_begin(session);
	close_connection(session);
}

static void retry_lost(struct dsession *session)
{
	if (heap_n_repairs(heap_of(session)) == session->n_repairs)
		return;
	log_info("session %u: the heap was repaired, the session is reclaimed after all", session->index);
	reclaim_begin(session);
}

/* ---- its work -------------------------------------------------------------------------------------------------- */

void dsession_ask_grant(struct dsession *session, uint32_t run_length, uint32_t n_runs)
{
	switch (grant_begin(&session->grant, run_length, n_runs)) {
	case 0:
		connection_begin_request(session->connection);
		work_add(session->all->work, &session->work_item);
		break;
	case -EINVAL:
		connection_fail(session->connection, EBADMSG, "asked for no memory");
		break;
	default:
		connection_refuse(session->connection, ENOMEM, "that is more than the whole heap");
	}
}

void dsession_ask_stats(struct dsession *session)
{
	stats_ask(&session->stats);
	connection_begin_request(session->connection);
	work_add(session->all->work, &session->work_item);
}

void dsession_ask_usage(struct dsession *session, uint32_t first)
{
	usage_ask(&session->usage, first);
	connection_begin_request(session->connection);
	work_add(session->all->work, &session->work_item);
}

/* The answer was sent, by which the connection may have ended. */
static void end_request(struct dsession *session)
{
	if (session->connection)
		connection_end_request(session->connection);
}

static void say_full(struct dsession *session)
{
	const struct grant_request *request = &session->grant.request;

	full_refused(&session->all->full, session->index, (uint64_t)request->run_length * heap_of(session)->arena_size,
		request->has_no_room);
}

static void say_over_limit(struct dsession *session)
{
	struct user *user = session->user;

	if (user_note_limit(user))
		log_warning("session %u (pid %d) is refused more arenas: user %u has %llu in advance, which its "
			    "sessions do not use (--user-arenas %u)",
			session->index, (int)session->process.pid, user->uid, (unsigned long long)user->n_in_advance,
			user->all->limits.n_arenas);
}

/* Without a connection what was granted stays so, until the session is resumed or dies. */
static int grant_turn(struct dsession *session)
{
	int r = grant_step(&session->grant);

	if (r > 0 || r == -EBUSY)
		return r;
	if (r == -EDQUOT)
		say_over_limit(session);
	else if (r < 0)
		say_full(session);
	if (session->connection && r == 0)
		answer_grant(session->connection, session->grant.request.heads, session->grant.request.n_heads);
	else if (session->connection && r == -EDQUOT)
		connection_refuse(session->connection, EDQUOT,
			"the user has as many arenas in advance as it may (--user-arenas)");
	else if (session->connection)
		connection_refuse(session->connection, ENOMEM, "the heap, or the machine's shared memory, is full");
	end_request(session);
	return 0;
}

static int stats_turn(struct dsession *session)
{
	struct heap_stats figures;
	int r;

	if (!session->connection) {
		stats_cancel(&session->stats);
		return 0;
	}
	r = stats_step(&session->stats, &figures);
	if (r > 0)
		return 1;
	if (r < 0)
		connection_fail(session->connection, ENOMEM, "asked for figures: out of memory");
	else
		answer_stats(session->connection, &figures);
	end_request(session);
	return 0;
}

static int usage_turn(struct dsession *session)
{
	int r = session->connection ? usage_step(&session->usage) : 0;

	if (r > 0)
		return 1;
	if (session->connection && r < 0)
		connection_fail(session->connection, ENOMEM, "asked for what sessions have: out of memory");
	else if (session->connection)
		answer_usage(session->connection, heap_of(session), session->usage.sessions, session->usage.first);
	usage_cancel(&session->usage);
	end_request(session);
	return 0;
}

static int live_step(struct dsession *session)
{
	int r = 0;

	if (grant_is_active(&session->grant))
		r = grant_turn(session);
	if (r >= 0 && session->stats.is_owed)
		r |= stats_turn(session);
	if (r >= 0 && session->usage.is_owed)
		r |= usage_turn(session);
	if (r == 0 && session->state == DSESSION_LIVE)
		r = idle_step(&session->idle);
	return r;
}

static int resume_step(struct dsession *session)
{
	int r = grant_take_back(&session->grant, session->has_lock);

	if (r > 0 || r == -EBUSY)
		return r;
	session->state = DSESSION_LIVE;
	session->has_lock = false;
	if (!session->connection) {
		end_if_over(session);
	} else if (r < 0) {
		connection_fail(session->connection, -r, "cannot be resumed: %s", strerror(-r));
	} else {
		struct connection *connection = session->connection;

		answer_welcome(connection, heap_of(session), session->index);
		connection_serve(connection);
	}
	return 0;
}

static int dead_step(struct dsession *session)
{
	struct dsessions *all = session->all;
	uint32_t n_repairs =
		heap_n_repairs(heap_of(session)); /* before the step: a later repair is a reason to retry */
	int r = grant_take_back(&session->grant, false);

	if (r == 0)
		r = session_reclaim_step(&session->view);
	if (r > 0 || r == -EBUSY)
		return r;
	if (r < 0) {
		damage_log(heap_of(session), session->index + 1, r,
			"a session that has ended cannot be reclaimed, and what it held is lost until then");
		session->n_repairs = n_repairs;
		session->state = DSESSION_LOST;
		count_for_user(session, true);
		return 0;
	}
	log_debug("session %u is reclaimed", session->index);
	forget(session);
	all->freed(all->owner);
	return 0;
}

int dsession_step(struct dsession *session)
{
	switch (session->state) {
	case DSESSION_LIVE:
		return live_step(session);
	case DSESSION_RESUMING:
		return resume_step(session);
	case DSESSION_DEAD:
		return dead_step(session);
	default:
		return 0;
	}
}

void dsessions_tick(struct dsessions *all)
{
	for (uint32_t i = 0; i < all->self->heap->n_sessions; i++) {
		struct dsession *session = &all->entries[i];

		if (session->state == DSESSION_LOST)
			retry_lost(session);
		else if (session->state == DSESSION_LIVE && idle_tick(&session->idle))
			work_add(all->work, &session->work_item);
		if (session->state == DSESSION_LIVE)
			grant_tick(&session->grant);
	}
}
