// SPDX-License-Identifier: MIT
/*
 * Members: sessions and the processes behind them
 *
 * A session lives as long as its process. Only two things end it: the kernel says that the process has ended (its pidfd
 * is readable), or the session says Goodbye. The end of the connection does not: a process can close it by mistake,
 * hand it on over exec(), or have lost it, and still use what it holds. Such a session stays, without a connection,
 * until its process ends or resumes it.
 *
 *            admitted                         process ended, Goodbye            nothing left
 *   NONE ------------------> LIVE ---------------------------------> DEAD -------------------> NONE
 *            adopted         |  ^                                      ^
 *                 Hello with |  | what was granted is taken back       | process ended
 *                      token v  |                                      |
 *                          RESUMING ------------------------------------
 *
 * A dead session is cleared up in steps: the grant under way is given up, what was granted and never taken into use is
 * unmapped, then its holds are dropped (heap/repair/recover.c). Should this daemon die in between, the next one finds
 * the session marked DEAD and does the rest.
 *
 * Where that cannot be done, as what the session left is damaged, it is LOST, and its slot with it; until the heap has
 * been repaired, which is seen with the next tick: then it is DEAD once more.
 */
#include "daemon/member.h"
#include "heap/change/foreign_lock.h"
#include "heap/change/supply.h"

#include "daemon/admit.h"
#include "daemon/daemon.h"
#include "daemon/log.h"
#include "daemon/stats.h"
#include "heap/repair/recover.h"

#include <errno.h>
#include <string.h>

static void on_ended(evutil_socket_t fd, short events, void *userdata)
{
	struct member *member = userdata;

	(void)fd;
	(void)events;
	member_dead(member, "its process ended");
}

/* For the log. */
static const char *program_of(const struct member *member)
{
	return member->daemon->heap->sessions[member->index].program;
}

/* ---- coming ---------------------------------------------------------------------------------------------------- */

static struct member *member_init(struct daemon *daemon, uint32_t index, enum member_state state)
{
	struct member *member = &daemon->members[index];

	*member = (struct member){.daemon = daemon, .index = index, .state = state, .process = {.pidfd = -1}};
	daemon->n_members++;
	daemon_need_tick(daemon);
	return member;
}

/* Take the process's pidfd over and be told of its end. */
static int watch_process(struct member *member, struct process *process)
{
	if (process->pidfd >= 0) {
		member->ended = event_new(member->daemon->base, process->pidfd, EV_READ, on_ended, member);
		if (!member->ended)
			return -ENOMEM;
		event_add(member->ended, NULL);
	}
	member->process = *process;
	process->pidfd = -1;
	return 0;
}

int member_start(struct daemon *daemon, uint32_t index, struct process *process)
{
	struct member *member = member_init(daemon, index, MEMBER_LIVE);
	int r = watch_process(member, process);

	if (r < 0)
		member_deinit(member);
	return r;
}

static void clear_begin(struct member *member)
{
	member->has_no_grants = false;
	stats_forget(member);
	work_add(member->daemon, member);
}

void member_start_dead(struct daemon *daemon, uint32_t index)
{
	struct member *member = member_init(daemon, index, MEMBER_DEAD);

	session_init(&member->view, daemon->heap, index);
	foreign_lock_owner_died(daemon->heap, index); /* the daemon before may have died before it came to that */
	clear_begin(member);
}

void member_attach(struct member *member, struct client *client)
{
	if (member->client)
		client_close(member->client);
	member->client = client;
	client->member = member;
	if (!member->ended && watch_process(member, &client->process) < 0)
		log_error("session %u: cannot watch its process", member->index);
}

void member_resume(struct member *member, bool has_lock)
{
	member->state = MEMBER_RESUMING;
	member->has_lock = has_lock;
	grant_cancel(member);
	clear_begin(member);
}

/* ---- going ----------------------------------------------------------------------------------------------------- */

void member_deinit(struct member *member)
{
	struct daemon *daemon = member->daemon;

	if (member->state == MEMBER_NONE)
		return;
	work_remove(daemon, member);
	stats_forget(member);
	if (member->ended)
		event_free(member->ended);
	process_deinit(&member->process);
	member->state = MEMBER_NONE;
	daemon->n_members--;
}

void member_dead(struct member *member, const char *why)
{
	struct daemon *daemon = member->daemon;

	log_info("session %u (pid %d, %s) ends: %s", member->index, (int)member->process.pid, program_of(member), why);
	session_mark_dead(daemon->heap, member->index);
	member->state = MEMBER_DEAD;
	member->has_lock = false;
	if (member->ended)
		event_del(member->ended);
	if (member->client)
		client_close(member->client);
	grant_cancel(member);
	session_init(&member->view, daemon->heap, member->index);
	clear_begin(member);
}

/* relaxed: what is missed now is seen at the next tick */
static uint32_t look_at_repairs(const struct member *member)
{
	return __atomic_load_n(&member->daemon->heap->control->n_repairs, __ATOMIC_RELAXED);
}

void member_retry_lost(struct member *member)
{
	if (member->state != MEMBER_LOST || look_at_repairs(member) == member->n_repairs)
		return;
	log_info("session %u: the heap was repaired, what it left is cleared up after all", member->index);
	member->state = MEMBER_DEAD;
	session_init(&member->view, member->daemon->heap, member->index);
	clear_begin(member);
}

void member_check_closed(struct member *member)
{
	if (member->state == MEMBER_LIVE && session_is_over(member->daemon->heap, member->index))
		member_dead(member, "it was closed");
}

/*
 * Take back what was granted and not taken into use: 0 all of it was. Not before what the daemon before left RETURNING
 * is known, unless the session itself keeps the lock: then all is unmapped here and now, so that the two cannot be
 * mixed up.
 */
static int take_grants_back(struct member *member)
{
	struct daemon *daemon = member->daemon;
	uint32_t head;
	int r = member->has_lock ? 0 : returns_adopt(daemon);

	if (r < 0)
		return r;
	do
		r = unmapping_step(daemon, &member->unmapping);
	while (r > 0 && member->has_lock);
	if (r || member->has_no_grants)
		return r;
	r = supply_pick_granted(&daemon->self, member->index, member->has_lock, &head);
	if (r > 0)
		member->unmapping = (struct unmapping){.head1 = head + 1};
	if (r == 0)
		member->has_no_grants = true;
	return r;
}

static int resume_step(struct member *member)
{
	int r = take_grants_back(member);

	if (r > 0 || r == -EBUSY)
		return r;
	member->state = MEMBER_LIVE;
	if (member->client && r < 0)
		client_fail(member->client, -r, "cannot be resumed: %s", strerror(-r));
	else if (member->client)
		admit_welcome(member->client);
	return 0;
}

static int dead_step(struct member *member)
{
	struct daemon *daemon = member->daemon;
	uint32_t n_repairs = look_at_repairs(member); /* those of a repair that comes meanwhile are not among them */
	int r = take_grants_back(member);

	if (r == 0)
		r = session_reclaim_step(&member->view);
	if (r > 0 || r == -EBUSY)
		return r;
	if (r < 0) {
		log_error("session %u cannot be cleared up: %s; what it held is lost until pyheapctl check --repair",
			member->index, strerror(-r));
		member->n_repairs = n_repairs;
		member->state = MEMBER_LOST;
		return 0;
	}
	log_info("session %u is cleared up", member->index);
	member_deinit(member);
	admit_waiting(daemon);
	return 0;
}

int member_step(struct member *member)
{
	int r = 0;

	switch (member->state) {
	case MEMBER_LIVE:
		if (member->grant.is_active)
			r = grant_step(member->daemon, member);
		if (r >= 0 && member->n_stats)
			r |= stats_step(member->daemon, member);
		if (r == 0)
			r = idle_step(member->daemon, member);
		return r;
	case MEMBER_RESUMING:
		return resume_step(member);
	case MEMBER_DEAD:
		return dead_step(member);
	default:
		return 0;
	}
}
