// SPDX-License-Identifier: MIT
/*
 * Admission
 *
 * Root, the daemon's own user and the members of --group may connect; the kernel says whose process it is. Everybody
 * else is refused at once. A connection that may stay has ten seconds to say Hello, in which it names the protocol and
 * the layout of shared memory that its program was built for: both must be the daemon's, since the program is about to
 * be given the memory itself.
 *
 * A process whose end the kernel cannot tell is not admitted: what it held would never be dropped.
 *
 * No client keeps all others out. The last sessions are kept for processes of root and of the daemon's user that have
 * none, so that pyheapctl gets in; all other users have limits of their own (user.c). When there are too many
 * connections, or too many of one user, one that has not said Hello makes room: the oldest of the user who has most of
 * them.
 *
 * When every session is taken, and some are only being reclaimed, Hello is answered when the first of them is free.
 *
 * A process that calls execve() keeps its sessions, but not the memory that it had them in: nobody can use them any
 * more. They are ended when the process asks for a session again, which shows by `image` that it has called execve().
 *
 * A session is resumed by the process that it belongs to, which shows the session's token. What had been granted to it
 * and not taken into use is taken back before its Welcome: neither side knows what the other one knew of it.
 */
#include "daemon/admit.h"

#include "daemon/answer.h"
#include "daemon/log.h"
#include "daemon/sigbus.h"
#include "heap/repair/recover.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define N_STRANGERS_MAX 64 /* connections beyond one per session */

static struct heap *heap_of(const struct admission *admission)
{
	return admission->sessions->self->heap;
}

static bool is_trusted(const struct connection *connection)
{
	return user_is_trusted(connection->process.uid);
}

static bool may_connect(const struct admission *admission, const struct connection *connection)
{
	const struct process *process = &connection->process;

	return is_trusted(connection) ||
	       (admission->has_group && process_in_group(process, connection->stream.fd, admission->group));
}

/* It waits for its session, or has not asked for one. */
static bool has_no_session(const struct connection *connection)
{
	return connection->state != CONNECTION_CLOSING && !connection->session1;
}

/* Of the user's connections. */
static uint32_t n_without_session(const struct connections *all, const struct user *user)
{
	const struct connection *connection;
	uint32_t n = 0;

	TAILQ_FOREACH(connection, &all->list, entry)
	n += has_no_session(connection) && connection->user == user;
	return n;
}

/* How willingly is it ended to make room? 0: not at all. Those of root and the daemon's user are, where all are. */
static uint32_t priority(const struct connections *all, const struct connection *connection)
{
	if (!has_no_session(connection))
		return 0;
	return is_trusted(connection) ? 1 : 1 + n_without_session(all, connection->user);
}

/*
 * The connection, which came just now, is one too many. One without a session makes room for it: the oldest of the user
 * who has most of them, or the oldest of `user`, where it is that user who has too many. There is none: it goes itself.
 */
static struct connection *find_room(const struct connections *all, struct connection *newest, const struct user *user)
{
	struct connection *connection, *found = newest;
	uint32_t n_max = 0;

	TAILQ_FOREACH(connection, &all->list, entry)
	{
		uint32_t n = connection == newest || (user && connection->user != user) ? 0 : priority(all, connection);

		if (n > n_max) {
			n_max = n;
			found = connection;
		}
	}
	return found;
}

static void limit_connections(struct admission *admission, struct connection *connection)
{
	struct connections *all = admission->connections;
	uint32_t n_max = all->users->limits.n_connections, n_all = heap_of(admission)->n_sessions + N_STRANGERS_MAX;

	if (!is_trusted(connection) && connection->user->n_connections > n_max)
		connection_fail_by_limit(find_room(all, connection, connection->user), EUSERS,
			"has no session, and makes room: user %u may have %u connections (--user-connections)",
			connection->process.uid, n_max);
	else if (all->n_open > n_all)
		connection_fail_by_limit(find_room(all, connection, NULL), EUSERS,
			"has no session, and makes room: there are more than %u connections (--max-sessions and %u)",
			n_all, N_STRANGERS_MAX);
}

void admit_connection(struct admission *admission, struct connection *connection)
{
	if (!may_connect(admission, connection))
		connection_fail_by_limit(connection, EACCES, "user %u may not use this heap", connection->process.uid);
	else if (connection->process.pidfd < 0)
		connection_fail(connection, EOPNOTSUPP,
			"is of another pid namespace, and this kernel (before Linux 6.5) cannot tell when it ends");
	else
		limit_connections(admission, connection);
}

/* ---- a new session --------------------------------------------------------------------------------------------- */

static bool has_session(const struct dsessions *sessions, const struct process *process)
{
	for (uint32_t i = 0; i < sessions->self->heap->n_sessions; i++) {
		const struct dsession *session = dsessions_at(sessions, i);

		if (session && session->process.pid == process->pid &&
			session->process.start_time == process->start_time)
			return true;
	}
	return false;
}

/* Was the session opened before the process called execve()? Whatever is not known: no. */
static bool is_of_former_image(const struct dsession *session, const struct process *process)
{
	const struct process *former = &session->process;

	return dsession_is_alive(session) && process->is_peer && process->pid > 0 && former->pid == process->pid &&
	       former->start_time && former->start_time == process->start_time && former->image && process->image &&
	       former->image != process->image;
}

static void end_former(const struct dsessions *sessions, const struct process *process)
{
	for (uint32_t i = 0; i < sessions->self->heap->n_sessions; i++) {
		struct dsession *session = dsessions_at(sessions, i);

		if (session && is_of_former_image(session, process))
			dsession_end(session, "its process has called execve()");
	}
}

/* Are only those sessions left that are kept for others? */
static bool is_kept_out(const struct admission *admission, const struct connection *connection)
{
	uint32_t n_free = heap_of(admission)->n_sessions - admission->sessions->n_used;

	return n_free <= admission->n_kept_sessions && !(is_trusted(connection) && connection->process.pid &&
							       !has_session(admission->sessions, &connection->process));
}

/* -EUSERS: no session is free, or none that this process may have. */
static int take_session(struct admission *admission, struct connection *connection)
{
	struct heap *heap = heap_of(admission);
	struct session_identity identity = {
		.pid = connection->process.pid,
		.start_time = connection->process.start_time,
		.image = connection->process.image,
		.uid = connection->process.uid,
		.gid = connection->process.gid,
		.program = connection->program,
		.max_types = is_trusted(connection) ? 0 : admission->sessions->users->limits.n_types,
	};
	uint32_t index;
	int r;

	if (is_kept_out(admission, connection))
		return -EUSERS;
	if (getrandom(identity.token, sizeof(identity.token), 0) != sizeof(identity.token))
		return -EIO;
	r = session_admit(heap, &identity, &index);
	if (r < 0)
		return r;
	if (dsessions_at(admission->sessions, index))
		return -EUCLEAN; /* the table says that a session is free which is not */
	r = dsession_start(admission->sessions, index, &connection->process);
	if (r < 0) {
		session_mark_dead(heap, index);
		dsession_start_dead(admission->sessions, index);
		return r;
	}
	dsession_attach(dsessions_at(admission->sessions, index), connection);
	return 0;
}

static void admit_new(struct admission *admission, struct connection *connection)
{
	struct heap *heap = heap_of(admission);
	uint32_t n_max = admission->sessions->users->limits.n_sessions;
	int r;

	if (!is_trusted(connection) && connection->user->n_sessions >= n_max) {
		connection_fail_by_limit(connection, EUSERS,
			"user %u has %u sessions, and may have no more (--user-sessions)", connection->process.uid,
			n_max);
		return;
	}
	r = take_session(admission, connection);
	if (r == 0) {
		log_debug("%s is admitted, user %u", connection_name(connection), connection->process.uid);
		answer_welcome(connection, heap, connection->session1 - 1);
		connection_serve(connection);
	} else if (r != -EUSERS) {
		connection_fail(connection, -r, "cannot be admitted: %s", strerror(-r));
	} else if (dsessions_any_dead(admission->sessions)) {
		connection_wait(connection);
	} else {
		connection_fail_by_limit(connection, EUSERS,
			"all %u sessions are taken (--max-sessions), or kept for root and the daemon's user "
			"(--kept-sessions)",
			heap->n_sessions);
	}
}

void admit_waiting(struct admission *admission)
{
	struct connection *connection, *next;

	/* All of them: once nothing is being reclaimed any more, a connection that still waits is refused. */
	for (connection = TAILQ_FIRST(&admission->connections->list); connection; connection = next) {
		next = TAILQ_NEXT(connection, entry);
		if (connection->state == CONNECTION_WAITING && !connection->session1)
			admit_new(admission, connection);
	}
}

/* ---- the session that it had ----------------------------------------------------------------------------------- */

/* A start time that was not to be read, then or now, says nothing. */
static bool is_process_of(const struct session_record *record, const struct process *process)
{
	return record->pid == process->pid &&
	       (!record->start_time || !process->start_time || record->start_time == process->start_time);
}

static struct dsession *find_resumable(
	const struct admission *admission, const struct connection *connection, const Pyheap__Hello *hello)
{
	struct dsession *session = dsessions_at(admission->sessions, hello->resume_session);
	const struct process *process = &connection->process;
	struct session_record record;

	if (!session)
		return NULL;
	session_read(heap_of(admission), session->index, &record);
	if (hello->resume_token.len != sizeof(record.token) ||
		memcmp(hello->resume_token.data, record.token, sizeof(record.token)) != 0)
		return NULL;
	/* Pids of two namespaces cannot be compared: the token must do. */
	if (record.is_here && !is_process_of(&record, process))
		return NULL;
	return session;
}

static void admit_again(struct admission *admission, struct connection *connection, const Pyheap__Hello *hello)
{
	struct dsession *session = find_resumable(admission, connection, hello);

	connection_wait(connection);
	if (session && dsession_resume(session, connection, hello->has_lock) == 0)
		log_debug("%s is resumed", connection_name(connection));
	else
		connection_fail(connection, ESTALE, "cannot resume session %u: it is gone, or not this process's",
			hello->resume_session);
}

void admit_hello(struct admission *admission, struct connection *connection, const Pyheap__Hello *hello)
{
	connection_set_program(connection, hello->program);
	connection->process.image = hello->image;
	sigbus_mend(); /* a client refuses files that do not have their sizes */
	if (hello->protocol != PROTO_VERSION)
		connection_fail(connection, EPROTO,
			"speaks protocol %u, this is pyheapd " PYHEAP_VERSION " with protocol %u", hello->protocol,
			PROTO_VERSION);
	else if (hello->layout_hash != layout_hash())
		connection_fail(connection, EPROTO,
			"was built for another layout of the heap than pyheapd " PYHEAP_VERSION "'s");
	else if (sigbus_is_lost())
		connection_fail(connection, EUCLEAN,
			"a client has cut off the heap's records: pyheapctl reset empties the heap");
	else if (hello->resume_token.len)
		admit_again(admission, connection, hello);
	else {
		end_former(admission->sessions, &connection->process);
		admit_new(admission, connection);
	}
}

/* ---- an empty heap --------------------------------------------------------------------------------------------- */

/* Asked for instead of a session, so that it is there when no session can be had. */
void admit_reset(struct admission *admission, struct connection *connection, bool with_sessions)
{
	uint32_t n = dsessions_n_alive(admission->sessions);

	if (!is_trusted(connection)) {
		connection_fail(connection, EACCES,
			"user %u may not empty the heap: only root and the daemon's user may", connection->process.uid);
	} else if (n && !with_sessions) {
		connection_fail(connection, EBUSY, "%u sessions use the heap", n);
	} else {
		log_notice("the heap is to be emptied: process %d of user %u asks for it", (int)connection->process.pid,
			connection->process.uid);
		connection->wants_reset = true;
		connection_begin_request(connection);
		admission->reset(admission->owner);
	}
}
