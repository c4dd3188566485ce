// SPDX-License-Identifier: MIT
/*
 * The life of pyheapd
 *
 * One thread, one event loop. It waits for connections, for bytes, for the end of processes (pidfds), for its timers
 * and for signals. What it does about each is bounded and waits for nobody. Longer work is done in turns (work.c).
 *
 * With sessions there is a tick, four times a second: it looks after the lock, idle sessions and empty arenas. Without
 * sessions there is none, and pyheapd sleeps.
 *
 * The end (SIGTERM, SIGINT, SIGHUP of a terminal that closes): each connection gets a Goodbye, then the sockets go,
 * then the shared memory objects, unless --keep leaves them to the next daemon. Clients keep what they have mapped;
 * `ended` in the control segment tells them that the heap is over.
 *
 * An empty heap (pyheapctl reset): the heap ends as above and another one is made in its place, while the loop, the
 * socket and the connections without a session stay (serving.c).
 *
 * Started by systemd, pyheapd says when it is ready, what it is doing, that it is alive (watchdog) and that it ends.
 *
 * Here the parts are put together: what a part below has to tell one above it tells by a function that it is given.
 */
#include "daemon/daemon.h"

#include "daemon/adopt.h"
#include "daemon/answer.h"
#include "daemon/cgroup.h"
#include "daemon/clock.h"
#include "daemon/dispatch.h"
#include "daemon/listener.h"
#include "daemon/log.h"
#include "daemon/probe.h"
#include "daemon/serving.h"
#include "daemon/store.h"
#include "daemon/until.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>

#define ACCEPT_PAUSE_US 100000
#define ACCEPTS_MAX     16 /* in one turn of the loop */

struct daemon {
	const struct options *options;
	struct event_base *base;
	struct store store;
	struct listener listener;
	struct work work; /* sessions that have something to be done, in turns; and trim behind them */
	struct users users;
	struct connections connections;
	struct serving serving; /* the heap, and what works for it */

	struct event *accept_event;
	struct event *accept_pause; /* while there are no descriptors */
	struct event *tick;
	struct event *reset; /* the heap is to be emptied */
	struct event *watchdog;
	struct until until;
	struct event *sigterm;
	struct event *sigint;
	struct event *sighup;
	bool is_stopping;
	int error; /* why the daemon ends by itself */
};

/* ---- callbacks ------------------------------------------------------------------------------------------------- */

static void notify_status(const struct daemon *daemon)
{
	sd_notifyf(0, "STATUS=%u sessions, %llu of %u arenas in use", daemon->serving.sessions.n_used,
		(unsigned long long)heap_n_arenas_current(daemon->serving.heap), daemon->serving.heap->n_arenas);
}

/* There is something to look after: see to it that the tick comes. */
static void need_tick(struct daemon *daemon)
{
	struct timeval after = {.tv_usec = TRIM_TICK_MS * 1000};

	if (evtimer_pending(daemon->tick, NULL))
		return;
	trim_set_clock(&daemon->serving.trim, now_ms()); /* there may have been no tick for long */
	evtimer_add(daemon->tick, &after);
}

static void session_started(void *owner)
{
	need_tick(owner);
}

static void on_tick(evutil_socket_t fd, short events, void *userdata)
{
	struct daemon *daemon = userdata;
	bool again = serving_tick(&daemon->serving);

	(void)fd;
	(void)events;
	again |= log_catch_up();
	notify_status(daemon);
	if (again)
		need_tick(daemon);
}

/* 0 all that waited were accepted, or many of them; or why no more can be accepted now. */
static int accept_some(struct daemon *daemon)
{
	for (unsigned int i = 0; i < ACCEPTS_MAX; i++) {
		int r = descriptors_accept(&daemon->serving.descriptors, &daemon->listener);

		if (r == -EAGAIN)
			return 0;
		if (r == -EUSERS) /* it was refused, and there may be more */
			continue;
		if (r >= 0)
			r = connection_new(&daemon->connections, r);
		if (r < 0 && r != -ESRCH) /* that one went away again */
			return r;
	}
	return 0;
}

static void on_connection(evutil_socket_t fd, short events, void *userdata)
{
	struct timeval pause = {.tv_usec = ACCEPT_PAUSE_US};
	struct daemon *daemon = userdata;
	int r = accept_some(daemon);

	if (log_catch_up())
		need_tick(daemon);
	(void)fd;
	(void)events;
	if (r == 0)
		return;
	log_warning("cannot take a connection: %s; pyheapd tries again", strerror(-r));
	event_del(daemon->accept_event); /* the connection stays in the backlog, and would wake the loop at once */
	evtimer_add(daemon->accept_pause, &pause);
}

static void on_accept_pause_over(evutil_socket_t fd, short events, void *userdata)
{
	struct daemon *daemon = userdata;

	(void)fd;
	(void)events;
	event_add(daemon->accept_event, NULL);
}

/* The watchdog is fed by work: a loop that turns and gets to none of it is as good as dead. */
static void on_watchdog(evutil_socket_t fd, short events, void *userdata)
{
	struct daemon *daemon = userdata;

	(void)fd;
	(void)events;
	if (work_goes_on(&daemon->work))
		sd_notify(0, "WATCHDOG=1");
}

/* ---- emptying the heap ----------------------------------------------------------------------------------------- */

/* Within a callback of a connection, which the reset may end: so it is done in the next turn of the loop. */
static void reset_wanted(void *owner)
{
	struct daemon *daemon = owner;

	event_active(daemon->reset, 0, 0);
}

static int serve(struct daemon *daemon, struct heap *heap)
{
	const struct serving_around around = {
		.options = daemon->options,
		.base = daemon->base,
		.work = &daemon->work,
		.users = &daemon->users,
		.connections = &daemon->connections,
		.started = session_started,
		.reset = reset_wanted,
		.owner = daemon,
	};

	return serving_begin(&daemon->serving, heap, &around);
}

/* Negative errno: there is no heap any more, so the daemon ends. */
static int renew_heap(struct daemon *daemon)
{
	struct heap *heap;
	int r;

	serving_end_heap(&daemon->serving);
	serving_say_goodbye(&daemon->serving);
	serving_end(&daemon->serving);
	r = store_reset(&daemon->store, daemon->options, &heap);
	return r < 0 ? r : serve(daemon, heap);
}

/* Those who wanted it hear what became of it. */
static void answer_resetters(struct daemon *daemon, int error, uint32_t n_sessions)
{
	struct connection *connection;

	TAILQ_FOREACH(connection, &daemon->connections.list, entry)
	{
		if (!connection->wants_reset || connection->state == CONNECTION_CLOSING)
			continue;
		if (error) {
			connection_fail(connection, -error, "the heap cannot be emptied: %s", strerror(-error));
			continue;
		}
		answer_reset(connection, n_sessions);
		connection_close(connection);
	}
}

/* Negative errno: there is no heap any more. */
static int reset(struct daemon *daemon)
{
	uint32_t n_sessions = dsessions_n_alive(&daemon->serving.sessions);
	int r = store_can_reset(&daemon->store, daemon->options);

	if (r < 0) {
		answer_resetters(daemon, r, 0);
		return 0;
	}
	r = renew_heap(daemon);
	if (r < 0)
		return r;
	log_notice("the heap \"%s\" is empty: %u sessions were ended, and a fresh heap of up to %s is served",
		daemon->options->name, n_sessions, log_size(daemon->serving.heap->heap_size));
	answer_resetters(daemon, 0, n_sessions);
	admit_waiting(&daemon->serving.admission);
	return 0;
}

static void on_reset(evutil_socket_t fd, short events, void *userdata)
{
	struct daemon *daemon = userdata;

	(void)fd;
	(void)events;
	daemon->error = reset(daemon);
	if (daemon->error)
		event_base_loopbreak(daemon->base);
}

static void on_signal(evutil_socket_t signal_number, short events, void *userdata)
{
	struct daemon *daemon = userdata;

	(void)events;
	log_notice("ending, by %s", signal_number == SIGINT   ? "SIGINT"
				    : signal_number == SIGHUP ? "SIGHUP"
							      : "SIGTERM");
	daemon->is_stopping = true;
	event_base_loopbreak(daemon->base);
}

static void until_ended(void *owner)
{
	struct daemon *daemon = owner;

	log_notice("ending, as process %d has ended", (int)daemon->options->until);
	daemon->is_stopping = true;
	event_base_loopbreak(daemon->base);
}

/* ---- beginning ------------------------------------------------------------------------------------------------- */

static int start_watchdog(struct daemon *daemon)
{
	struct timeval period;
	uint64_t us;

	if (sd_watchdog_enabled(0, &us) <= 0)
		return 0;
	period = (struct timeval){.tv_sec = (time_t)(us / 2 / 1000000), .tv_usec = (suseconds_t)(us / 2 % 1000000)};
	daemon->watchdog = event_new(daemon->base, -1, EV_PERSIST, on_watchdog, daemon);
	return daemon->watchdog && event_add(daemon->watchdog, &period) == 0 ? 0 : -ENOMEM;
}

/* Was the signal ignored when this process began, as SIGHUP is under nohup(1)? */
static bool is_ignored(int signal_number)
{
	struct sigaction action;

	return sigaction(signal_number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

static int start_loop(struct daemon *daemon)
{
	int r;

	daemon->base = event_base_new();
	if (!daemon->base)
		return -ENOMEM;
	r = work_init(&daemon->work, daemon->base);
	if (r < 0)
		return r;
	daemon->tick = evtimer_new(daemon->base, on_tick, daemon);
	daemon->reset = event_new(daemon->base, -1, 0, on_reset, daemon);
	daemon->accept_pause = evtimer_new(daemon->base, on_accept_pause_over, daemon);
	daemon->sigterm = evsignal_new(daemon->base, SIGTERM, on_signal, daemon);
	daemon->sighup = evsignal_new(daemon->base, SIGHUP, on_signal, daemon);
	daemon->sigint = evsignal_new(daemon->base, SIGINT, on_signal, daemon);
	if (!daemon->tick || !daemon->reset || !daemon->accept_pause || !daemon->sigterm || !daemon->sigint ||
		!daemon->sighup)
		return -ENOMEM;
	if (event_add(daemon->sigterm, NULL) < 0 || event_add(daemon->sigint, NULL) < 0 ||
		(!is_ignored(SIGHUP) && event_add(daemon->sighup, NULL) < 0))
		return -ENOMEM;
	if (daemon->options->until)
		r = until_start(&daemon->until, daemon->base, daemon->options->until, until_ended, daemon);
	return r < 0 ? r : start_watchdog(daemon);
}

static int start_listening(struct daemon *daemon)
{
	const struct listener_options options = {
		.path = daemon->options->socket,
		.make_folder = daemon->options->socket_is_default && geteuid() == 0,
		.has_group = daemon->options->has_group,
		.group = daemon->options->group,
	};
	int r;

	r = listener_open(&daemon->listener, &options);
	if (r < 0)
		return r;
	daemon->accept_event =
		event_new(daemon->base, daemon->listener.fd, EV_READ | EV_PERSIST, on_connection, daemon);
	return daemon->accept_event && event_add(daemon->accept_event, NULL) == 0 ? 0 : -ENOMEM;
}

static int start_heap(struct daemon *daemon, bool *ret_adopted)
{
	struct heap *heap;
	int r;

	cgroup_memory_open("/proc/self");
	users_init(&daemon->users);
	connections_init(&daemon->connections, daemon->base, &daemon->work, &daemon->users, &dispatch_handlers,
		&daemon->serving.admission);
	r = store_open(&daemon->store, daemon->options, &heap, ret_adopted);
	return r < 0 ? r : serve(daemon, heap);
}

/* Also how programs find it, where that is not by themselves. */
static void say_served(const struct daemon *daemon)
{
	const char *name = daemon->options->name, *size = log_size(daemon->serving.heap->heap_size),
		   *path = daemon->listener.path;

	if (!path[0])
		log_notice("serving the heap \"%s\" of up to %s on systemd's socket", name, size);
	else if (daemon->options->socket_is_default)
		log_notice("serving the heap \"%s\" of up to %s on %s, where programs of this user look for it", name,
			size, path);
	else
		log_notice("serving the heap \"%s\" of up to %s on %s; programs connect to it with PYHEAP_SOCKET=%s in "
			   "their environment",
			name, size, path, path);
}

/* A heap is one file, however large it may grow. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_FSIZE, &limit);
}

static int daemon_start(struct daemon *daemon, bool *ret_adopted)
{
	int r;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, SIG_IGN); /* sent to daemons that open their log again: this one's is stderr */
	signal(SIGUSR2, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* what is beyond a limit is an error, and the log says which */
	raise_file_limit();
	r = probe_kernel();
	if (r == 0)
		r = start_loop(daemon);
	if (r == 0)
		r = start_heap(daemon, ret_adopted);
	if (r == 0)
		r = start_listening(daemon);
	if (r == 0 && *ret_adopted)
		r = adopt_heap(&daemon->serving.sessions, daemon->options->name);
	if (r < 0)
		return r;
	if (*ret_adopted)
		need_tick(daemon); /* there may be arenas to return, also without a session */
	say_served(daemon);
	sd_notify(0, "READY=1");
	notify_status(daemon);
	return 0;
}

/* ---- the end --------------------------------------------------------------------------------------------------- */

/* A Goodbye to each connection, once the control segment says whether the heap is over. */
static void say_goodbye(struct daemon *daemon)
{
	struct connection *connection;

	sd_notify(0, "STOPPING=1");
	if (!daemon->options->keep)
		serving_end_heap(&daemon->serving);
	serving_say_goodbye(&daemon->serving);
	TAILQ_FOREACH(connection, &daemon->connections.list, entry)
	answer_goodbye(connection);
}

static void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

static void daemon_deinit(struct daemon *daemon)
{
	if (daemon->connections.base) {
		connections_deinit(&daemon->connections);
		serving_end(&daemon->serving);
		users_deinit(&daemon->users);
	}
	free_event(daemon->accept_event);
	free_event(daemon->accept_pause);
	free_event(daemon->tick);
	free_event(daemon->reset);
	free_event(daemon->watchdog);
	until_stop(&daemon->until);
	free_event(daemon->sigterm);
	free_event(daemon->sigint);
	free_event(daemon->sighup);
	work_deinit(&daemon->work);
	if (daemon->base)
		event_base_free(daemon->base);
	listener_close(&daemon->listener);
	cgroup_memory_close();
	store_close(&daemon->store);
}

int daemon_run(const struct options *options)
{
	struct daemon daemon = {
		.options = options,
		.listener = {.fd = -1, .guard_fd = -1},
		.store = {.guard_fd = -1, .older_fd = -1},
	};
	bool adopted = false;
	int r;

	r = daemon_start(&daemon, &adopted);
	if (r == 0) {
		if (event_base_dispatch(daemon.base) < 0 || !daemon.is_stopping) {
			if (!daemon.error)
				log_error("the event loop ended by itself");
			r = daemon.error ? daemon.error : -EIO; /* the heap stays for the next daemon */
		} else {
			say_goodbye(&daemon);
		}
	}
	/* What a failed start has made goes again; what it has adopted stays. */
	if (daemon.serving.heap && (r == 0 ? !options->keep : !adopted && !daemon.accept_event))
		store_unlink(&daemon.store);
	daemon_deinit(&daemon);
	return r;
}
