// SPDX-License-Identifier: MIT
/*
 * Daemons of older builds
 *
 * They are known by a lock on pyheap.NAME.ctl, where this one is known by a lock on pyheap.NAME.daemon (guard.c). So
 * this one takes the lock on the control segment as well, which keeps an older daemon away. Where it cannot, the lock's
 * owner is an older daemon, or a client: those have descriptors of the control segment.
 *
 * The kernel says in /proc/locks which process took the lock. It is a daemon if it runs a program called pyheapd as
 * this user or root: a daemon of another user could not have opened the file. A client of this user can call itself so,
 * and keep a daemon away; it could kill it as well. Any other lock keeps nobody away.
 */
#include "daemon/older.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* 0: it is not to be found out. */
static pid_t lock_owner(int fd)
{
	unsigned int major_number, minor_number;
	unsigned long long inode;
	char line[256];
	pid_t pid = 0;
	struct stat st;
	FILE *f;
	int n;

	f = fopen("/proc/locks", "re");
	if (!f || fstat(fd, &st) < 0) {
		if (f)
			fclose(f);
		return 0;
	}
	while (!pid && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%llu", &n, &major_number, &minor_number, &inode) == 4 &&
			major_number == major(st.st_dev) && minor_number == minor(st.st_dev) && inode == st.st_ino)
			pid = n;
	fclose(f);
	return pid > 0 ? pid : 0;
}

static bool is_of_this_user(pid_t pid)
{
	char path[32], line[256];
	uid_t uid = (uid_t)-1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (uid == (uid_t)-1 && fgets(line, sizeof(line), f))
		sscanf(line, "Uid: %*u %u", &uid);
	fclose(f);
	return uid == 0 || uid == geteuid();
}

/* The program may have been replaced by a newer one meanwhile: then the kernel adds " (deleted)". */
static bool runs_pyheapd(pid_t pid)
{
	char path[32], program[4096];
	const char *name;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	n = readlink(path, program, sizeof(program) - 1);
	if (n < 0)
		return false;
	program[n] = '\0';
	name = strrchr(program, '/');
	name = name ? name + 1 : program;
	return strcmp(name, "pyheapd") == 0 || strcmp(name, "pyheapd (deleted)") == 0;
}

int older_lock(int control_fd, pid_t *ret_pid)
{
	if (flock(control_fd, LOCK_EX | LOCK_NB) == 0)
		return 1;
	*ret_pid = lock_owner(control_fd);
	return *ret_pid && is_of_this_user(*ret_pid) && runs_pyheapd(*ret_pid) ? -EADDRINUSE : 0;
}
