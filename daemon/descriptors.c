// SPDX-License-Identifier: MIT
/*
 * File descriptors
 *
 * Each session needs one for its connection and one for its process. The daemon raises its limit to the hard one.
 *
 * Where that is not enough, a connection stays in the socket's backlog, and its client waits for an answer without
 * knowing why. So one descriptor is kept in reserve: it is given up for as long as it takes to accept the connection,
 * and to tell its client that there are no descriptors.
 *
 * Some are kept for connections of root and the daemon's user, so that pyheapctl gets in when all others are refused.
 */
#include "daemon/descriptors.h"

#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/user.h"
#include "proto/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PER_CONNECTION 3     /* besides its own: its pidfd, and the files of /proc that are read about it */
#define KEPT           8     /* for root and the daemon's user: two of their connections, with what those need */
#define QUIET_MS       60000 /* refusals that follow each other sooner are one event of the log */

static int take_spare(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void descriptors_init(struct descriptors *descriptors, uint32_t n_sessions)
{
	rlim_t n_needed = 2 * (rlim_t)n_sessions + 256;
	struct rlimit limit;

	*descriptors = (struct descriptors){.spare_fd = take_spare()};
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	if (limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0 && getrlimit(RLIMIT_NOFILE, &limit) < 0)
			return;
	}
	if (limit.rlim_cur < n_needed)
		log_warning(
			"only %llu descriptors are allowed, %u sessions may need %llu: raise LimitNOFILE= or ulimit -n",
			(unsigned long long)limit.rlim_cur, n_sessions, (unsigned long long)n_needed);
}

void descriptors_deinit(struct descriptors *descriptors)
{
	if (descriptors->spare_fd >= 0)
		close(descriptors->spare_fd);
	descriptors->spare_fd = -1;
}

static bool is_trusted(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && user_is_trusted(peer.uid);
}

/* Are there as many as a connection needs besides its own, and those that it may not have? */
static bool has_enough(int fd)
{
	int fds[PER_CONNECTION + KEPT], n = 0, n_needed = PER_CONNECTION + (is_trusted(fd) ? 0 : KEPT);

	while (n < n_needed && (fds[n] = fcntl(fd, F_DUPFD_CLOEXEC, 0)) >= 0)
		n++;
	for (int i = 0; i < n; i++)
		close(fds[i]);
	return n == n_needed;
}

static void refuse(struct descriptors *descriptors, int fd)
{
	Pyheap__FromDaemon message = PYHEAP__FROM_DAEMON__INIT;
	Pyheap__Error error = PYHEAP__ERROR__INIT;
	int64_t now = now_ms();

	error.code = ENFILE;
	error.text = (char *)"pyheapd is out of file descriptors (LimitNOFILE=, ulimit -n)";
	message.body_case = PYHEAP__FROM_DAEMON__BODY_ERROR;
	message.error = &error;
	frame_send(fd, &message.base, NULL, 0, 0); /* it is ended all the same */
	close(fd);
	if (!descriptors->refused_ms || now - descriptors->refused_ms > QUIET_MS)
		log_warning("a connection is refused, as may be those that follow: pyheapd is out of file descriptors; "
			    "raise LimitNOFILE= or ulimit -n, or end clients");
	descriptors->refused_ms = now;
}

/* There is no descriptor for the next connection. */
static int refuse_by_spare(struct descriptors *descriptors, const struct listener *listener, int error)
{
	int fd;

	if (descriptors->spare_fd < 0)
		return error;
	close(descriptors->spare_fd);
	fd = listener_accept(listener);
	if (fd >= 0)
		refuse(descriptors, fd);
	descriptors->spare_fd = take_spare();
	return fd < 0 ? fd : -EUSERS;
}

int descriptors_accept(struct descriptors *descriptors, const struct listener *listener)
{
	int fd;

	if (descriptors->spare_fd < 0)
		descriptors->spare_fd = take_spare();
	fd = listener_accept(listener);
	if (fd == -EMFILE || fd == -ENFILE)
		return refuse_by_spare(descriptors, listener, fd);
	if (fd < 0 || has_enough(fd))
		return fd;
	refuse(descriptors, fd);
	return -EUSERS;
}
