// SPDX-License-Identifier: MIT
/*
 * A daemon that has the life of another process
 *
 * A program that starts a daemon for itself alone (`pyheapctl run`) cannot end it when the program is killed. So the
 * daemon watches the program, by a pidfd, which becomes readable when the process ends, however it ends.
 *
 * The pid is a number on a command line. If the process ends before the pidfd is opened, the number may be another
 * process's by then. So the starter of the daemon does not wait for the process (waitpid) before the daemon serves.
 */
#include "daemon/until.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

static void on_end(evutil_socket_t fd, short events, void *userdata)
{
	struct until *until = userdata;

	(void)fd;
	(void)events;
	until->ended(until->owner);
}

int until_start(struct until *until, struct event_base *base, pid_t pid, void (*ended)(void *owner), void *owner)
{
	*until = (struct until){.pidfd = (int)syscall(SYS_pidfd_open, pid, 0), .ended = ended, .owner = owner};
	if (until->pidfd < 0 && errno != ESRCH)
		return -errno;
	until->event = event_new(base, until->pidfd, until->pidfd < 0 ? 0 : EV_READ, on_end, until);
	if (!until->event)
		return -ENOMEM;
	if (until->pidfd < 0) /* it has ended: there is no descriptor to wait for */
		event_active(until->event, 0, 0);
	else if (event_add(until->event, NULL) < 0)
		return -ENOMEM;
	return 0;
}

void until_stop(struct until *until)
{
	if (!until->event)
		return;
	event_free(until->event);
	if (until->pidfd >= 0)
		close(until->pidfd);
	*until = (struct until){.pidfd = -1};
}
