// SPDX-License-Identifier: MIT
/*
 * Eviction: one session asks that another one's process be killed
 */
#include "daemon/evict.h"

#include "daemon/answer.h"
#include "daemon/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool may_evict(const struct process *process, const struct process *other)
{
	return process->uid == 0 || process->uid == geteuid() || process->uid == other->uid;
}

/* Kill the other session's process. Where that cannot be done its connection is closed, and the answer says so. */
static void evict(struct dsession *session, struct dsession *other)
{
	pid_t pid = other->process.pid;
	char text[256];
	int r;

	r = process_kill(&other->process);
	if (r == 0) {
		log_notice("session %u (pid %d) is evicted: session %u (pid %d, user %u) asked for it", other->index,
			(int)pid, session->index, (int)session->process.pid, session->process.uid);
		answer_evicted(session->connection);
		return;
	}
	snprintf(text, sizeof(text),
		"session %u cannot be ended: %s; its connection was closed: end process %d of user %u", other->index,
		strerror(-r), (int)pid, other->process.uid);
	log_warning("%s", text);
	if (other->connection)
		connection_close(other->connection);
	connection_refuse(session->connection, EPERM, text);
}

void evict_ask(struct dsession *session, uint32_t index)
{
	struct dsession *other = dsessions_at(session->all, index);

	if (!other || !dsession_is_alive(other) || other == session)
		connection_refuse(session->connection, ESRCH, "there is no such session, or it is the one that asks");
	else if (!may_evict(&session->process, &other->process))
		connection_refuse(session->connection, EACCES, "the session is another user's");
	else
		evict(session, other);
}
