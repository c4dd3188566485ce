// SPDX-License-Identifier: MIT
/*
 * Lock files
 *
 * flock() belongs to the open file description: the kernel gives it up when the last descriptor of it is closed, so no
 * lock outlives its daemon. The description must therefore be one that no other process ever gets.
 *
 * A daemon that ends removes the file while it has the lock. This can happen between the open() and the flock() of
 * another daemon, which then has a lock on a file that no path leads to. So guard_take() checks that the path leads to
 * the file that it has locked, and begins again if it does not.
 */
#include "daemon/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

bool guard_leads_to(const char *path, int fd)
{
	struct stat there, here;

	return lstat(path, &there) == 0 && fstat(fd, &here) == 0 && there.st_dev == here.st_dev &&
	       there.st_ino == here.st_ino;
}

int guard_take(const char *path, int flags)
{
	for (;;) {
		int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);

		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			int r = errno == EWOULDBLOCK ? -EADDRINUSE : -errno;

			close(fd);
			return r;
		}
		if (guard_leads_to(path, fd))
			return fd;
		close(fd);
	}
}
