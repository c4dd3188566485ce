// SPDX-License-Identifier: MIT
/*
 * Admission
 *
 * Root, the daemon's own user and the members of --group may connect; the kernel says who it is. Everybody else is told
 * so at once. Who may connect has ten seconds to say Hello, in which it names the protocol and the layout of shared
 * memory that it was built for: both have to be ours, since it is about to be given the memory itself.
 *
 * A process of which the kernel cannot tell the end is not admitted: nobody would ever drop what it held.
 *
 * When every session is taken, and some are only being cleared up, Hello is answered when the first of them is done.
 *
 * A session is resumed by the process that it belongs to, which shows the session's token. What had been granted to it
 * and not taken into use is taken back before its Welcome: neither side knows what the other one knew of it.
 */
#include "daemon/admit.h"

#include "daemon/daemon.h"
#include "daemon/log.h"
#include "heap/repair/recover.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define N_STRANGERS_MAX 64 /* connections beyond one per session */

void admit_connection(struct client *client)
{
	struct daemon *daemon = client->daemon;
	const struct process *process = &client->process;

	if (process->uid != 0 && process->uid != geteuid() &&
		!(daemon->options->has_group && process_in_group(process, client->fd, daemon->options->group)))
		client_fail(client, EACCES, "user %u may not use this heap", process->uid);
	else if (process->pidfd < 0)
		client_fail(client, EOPNOTSUPP,
			"is of another pid namespace, and this kernel (before Linux 6.5) cannot tell when it ends");
	else if (daemon->n_clients > daemon->heap->n_sessions + N_STRANGERS_MAX)
		client_fail(client, EUSERS, "there are too many connections");
}

void admit_welcome(struct client *client)
{
	const struct heap *heap = client->daemon->heap;
	const struct session_entry *entry = &heap->sessions[client->member->index];
	const int fds[] = {heap->control_fd, heap->heap_fd};
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Welcome body = PYHEAP__WELCOME__INIT;

	body.protocol = PROTO_VERSION;
	body.layout_hash = layout_hash();
	body.session = client->member->index;
	body.control_size = heap->control_size;
	body.heap_size = heap->heap_size;
	body.arena_size = heap->arena_size;
	body.heap_id = (ProtobufCBinaryData){sizeof(heap->control->heap_id), heap->control->heap_id};
	body.token = (ProtobufCBinaryData){sizeof(entry->token), (uint8_t *)entry->token};
	body.version = (char *)PYHEAP_VERSION;
	message.body_case = PYHEAP__FROM_DAEMON__BODY_WELCOME;
	message.welcome = &body;
	client_send(client, &message, fds, sizeof(fds) / sizeof(fds[0]));
	client_serve(client);
}

/* ---- a new session --------------------------------------------------------------------------------------------- */

/* -EUSERS: no session is free. */
static int take_session(struct client *client)
{
	struct daemon *daemon = client->daemon;
	struct session_identity claim = {
		.pid = client->process.pid,
		.start_time = client->process.start_time,
		.uid = client->process.uid,
		.gid = client->process.gid,
		.program = client->program,
	};
	uint32_t index;
	int r;

	if (getrandom(claim.token, sizeof(claim.token), 0) != sizeof(claim.token))
		return -EIO;
	r = session_admit(daemon->heap, &claim, &index);
	if (r < 0)
		return r;
	r = member_start(daemon, index, &client->process);
	if (r < 0) {
		session_mark_dead(daemon->heap, index);
		member_start_dead(daemon, index);
		return r;
	}
	member_attach(&daemon->members[index], client);
	return 0;
}

/* Is any session being cleared up? */
static bool session_to_come(const struct daemon *daemon)
{
	for (uint32_t i = 0; i < daemon->heap->n_sessions; i++)
		if (daemon->members[i].state == MEMBER_DEAD)
			return true;
	return false;
}

static void admit_new(struct client *client)
{
	int r = take_session(client);

	if (r == 0) {
		log_info("%s is admitted, user %u", client_name(client), client->process.uid);
		admit_welcome(client);
	} else if (r != -EUSERS) {
		client_fail(client, -r, "cannot be admitted: %s", strerror(-r));
	} else if (session_to_come(client->daemon)) {
		client_wait(client);
	} else {
		client_fail(
			client, EUSERS, "all %u sessions are taken (--max-sessions)", client->daemon->heap->n_sessions);
	}
}

void admit_waiting(struct daemon *daemon)
{
	struct client *client, *next;

	/* All of them: once nothing is being cleared up any more, who still waits is refused. */
	for (client = TAILQ_FIRST(&daemon->clients); client; client = next) {
		next = TAILQ_NEXT(client, entry);
		if (client->state == CLIENT_WAITING && !client->member)
			admit_new(client);
	}
}

/* ---- the session that it had ----------------------------------------------------------------------------------- */

static struct member *find_resumable(const struct client *client, const Pyheap__Hello *hello)
{
	struct daemon *daemon = client->daemon;
	const struct session_entry *entry;
	struct member *member;

	if (hello->resume_session >= daemon->heap->n_sessions)
		return NULL;
	entry = &daemon->heap->sessions[hello->resume_session];
	member = &daemon->members[hello->resume_session];
	if (member->state != MEMBER_LIVE && member->state != MEMBER_RESUMING)
		return NULL;
	if (hello->resume_token.len != sizeof(entry->token) ||
		memcmp(hello->resume_token.data, entry->token, sizeof(entry->token)) != 0)
		return NULL;
	/* Pids of two namespaces cannot be compared: the token must do. */
	if (entry->pid_namespace == pid_namespace() &&
		(entry->pid != client->process.pid || entry->start_time != client->process.start_time))
		return NULL;
	return member;
}

static void admit_again(struct client *client, const Pyheap__Hello *hello)
{
	struct member *member = find_resumable(client, hello);

	if (!member) {
		client_fail(client, ESTALE, "cannot resume session %u: it is gone, or not this process's",
			hello->resume_session);
		return;
	}
	client_wait(client);
	member_attach(member, client);
	session_set_process(client->daemon->heap, member->index, client->process.pid, client->process.start_time);
	log_info("%s is resumed", client_name(client));
	member_resume(member, hello->has_lock);
}

void admit_hello(struct client *client, const Pyheap__Hello *hello)
{
	snprintf(client->program, sizeof(client->program), "%s", hello->program);
	for (char *p = client->program; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	if (hello->protocol != PROTO_VERSION)
		client_fail(client, EPROTO, "speaks protocol %u, this is pyheapd " PYHEAP_VERSION " with protocol %u",
			hello->protocol, PROTO_VERSION);
	else if (hello->layout_hash != layout_hash())
		client_fail(
			client, EPROTO, "was built for another layout of the heap than pyheapd " PYHEAP_VERSION "'s");
	else if (hello->resume_token.len)
		admit_again(client, hello);
	else
		admit_new(client);
}
