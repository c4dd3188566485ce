// SPDX-License-Identifier: MIT
/*
 * What the log says of damage
 *
 * What is damaged, which session wrote there last, and what can be done about it. Each session has records and pools of
 * its own, which it writes alone; so of those it is known. What all sessions write to says nothing of who did it.
 *
 * The daemon meets the same damage again and again. It is said once a minute.
 */
#include "daemon/damage.h"

#include "daemon/clock.h"
#include "daemon/log.h"

#include <stdio.h>
#include <string.h>

#define SAY_AGAIN_MS 60000

/* `who`: the session's number of admission; 0: none. */
static bool was_said(uint32_t who, const char *what)
{
	static const char *last_what;
	static uint32_t last_who;
	static int64_t last_ms;
	int64_t now = now_ms();

	if (last_what == what && last_who == who && now - last_ms < SAY_AGAIN_MS)
		return true;
	last_what = what;
	last_who = who;
	last_ms = now;
	return false;
}

void damage_log(const struct heap *heap, uint32_t session1, int error, const char *what)
{
	const struct truth_session *session = session1 ? &heap->truth->sessions[session1 - 1] : NULL;
	char writer[128] = "all sessions write there, so it is not known who did it";

	if (was_said(session ? session->admission : 0, what))
		return;
	if (session)
		snprintf(writer, sizeof(writer),
			"session %u (pid %d, user %u, %s) wrote there last, unless another one wrote where it must not",
			session1 - 1, session->pid, session->uid, session->program);
	log_error("the heap is damaged: %s: %s; %s; pyheapctl check --repair mends it, or pyheapctl reset empties the "
		  "heap",
		what, strerror(-error), writer);
}
