// SPDX-License-Identifier: MIT
/*
 * Processes, by pidfd
 *
 * A pid is used again, so it names a process only while that runs. Two things name a process for good: a pidfd, as long
 * as this daemon has it open; and a pid together with the time at which the process started, which a later daemon can
 * compare.
 *
 * That pair is read in an order that makes it certain: first the pidfd is opened, then the start time is read by the
 * pid, then the pidfd is asked whether the process has ended. If it has not, the process had its pid all the time, and
 * the start time is its own.
 *
 * A time namespace shows start times by a clock of its own. They are counted here by the first one's, that of the
 * machine, so that daemons of different time namespaces compare like with like.
 *
 * A pidfd is readable once the process has ended, also when its parent has not yet waited for it.
 */
#include "daemon/process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

#define N_GROUPS_MAX 65536U /* the kernel's NGROUPS_MAX */

static int open_pidfd(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0U); /* close-on-exec by itself */

	return fd < 0 ? -errno : fd;
}

/* Read a small file of /proc whole, as a string. */
static int read_proc(const char *path, char *ret, size_t size)
{
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, ret, size - 1);
	close(fd);
	if (n <= 0)
		return -EIO;
	ret[n] = '\0';
	return 0;
}

/* The process's pid as /proc shows it, which may be of another pid namespace than this process. 0: it is not there. */
static pid_t pid_in_proc(int pidfd)
{
	char path[64], text[1024];
	const char *p;
	int pid;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	if (read_proc(path, text, sizeof(text)) < 0)
		return 0;
	p = strstr(text, "\nPid:");
	return p && sscanf(p, "\nPid: %d", &pid) == 1 && pid > 0 ? pid : 0;
}

/* Does the time namespace of this process differ from the one that its children get, whose offsets /proc shows? */
static bool is_clock_of_children(void)
{
	struct stat own, of_children;

	return stat("/proc/self/ns/time", &own) < 0 || stat("/proc/self/ns/time_for_children", &of_children) < 0 ||
	       own.st_ino == of_children.st_ino;
}

/* By how many ticks this process's clock is ahead of the machine's. False: it cannot be told. Neither ever changes. */
static bool clock_ahead(int64_t *ret)
{
	static bool is_read, is_known;
	static int64_t n_ticks;
	const int64_t tick_nsec = 1000000000 / sysconf(_SC_CLK_TCK);
	int64_t sec = 0, nsec = 0;
	char text[256], *p;

	if (!is_read && read_proc("/proc/self/timens_offsets", text, sizeof(text)) == 0) {
		p = strstr(text, "boottime");
		is_known = p && sscanf(p, "boottime %" SCNd64 " %" SCNd64, &sec, &nsec) == 2 && nsec % tick_nsec == 0 &&
			   is_clock_of_children();
		n_ticks = sec * sysconf(_SC_CLK_TCK) + nsec / tick_nsec;
	} else if (!is_read) {
		is_known = access("/proc/self/timens_offsets", F_OK) < 0; /* a kernel without time namespaces */
	}
	is_read = true;
	*ret = n_ticks;
	return is_known;
}

/* A start time that /proc shows, by the machine's clock. 0: it cannot be told, as it was before that clock began. */
static uint64_t by_machines_clock(uint64_t start_time)
{
	const uint64_t negative = INT64_MAX / (uint64_t)(1000000000 / sysconf(_SC_CLK_TCK));
	int64_t ahead;

	if (!clock_ahead(&ahead) || start_time >= negative || (int64_t)start_time <= ahead)
		return 0;
	return (uint64_t)((int64_t)start_time - ahead);
}

/* Field 22 of /proc/PID/stat; the second, the name in parentheses, may have anything in it. 0: it cannot be read. */
static uint64_t start_time_of(int pidfd)
{
	char path[64], line[2048], *p;
	pid_t pid = pid_in_proc(pidfd);
	uint64_t start_time = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (!pid || read_proc(path, line, sizeof(line)) < 0)
		return 0;
	p = strrchr(line, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p || sscanf(p, " %" SCNu64, &start_time) != 1)
		return 0;
	return by_machines_clock(start_time);
}

char process_state(const struct process *process)
{
	char path[64], line[2048], *p;
	pid_t pid = process->pidfd >= 0 ? pid_in_proc(process->pidfd) : 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (!pid || read_proc(path, line, sizeof(line)) < 0)
		return '?';
	p = strrchr(line, ')');
	return p && p[1] == ' ' && p[2] ? p[2] : '?';
}

bool process_ended(const struct process *process)
{
	struct pollfd pollfd = {.fd = process->pidfd, .events = POLLIN};

	return process->pidfd >= 0 && poll(&pollfd, 1, 0) > 0;
}

/* Is the process that user's, as the one that connected was? */
static bool is_users(int pidfd, uid_t uid)
{
	pid_t pid = pid_in_proc(pidfd);
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	return pid && stat(path, &st) == 0 && st.st_uid == uid;
}

/* Does anybody still have the other end? */
static bool has_peer(int socket)
{
	struct pollfd pollfd = {.fd = socket, .events = POLLRDHUP};

	return poll(&pollfd, 1, 0) == 0;
}

/*
 * A pidfd for the peer; -1 where the kernel has none to give. Before Linux 6.5 it is opened by the pid that the peer
 * had when it connected. A process that has got that pid since is taken for the peer only where it is the same user's
 * and the socket is still open.
 */
static int peer_pidfd(int socket, pid_t pid, uid_t uid, int *ret, bool *ret_is_peer)
{
	socklen_t size = sizeof(int);
	int fd;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, ret, &size) == 0) {
		*ret_is_peer = true;
		return 0;
	}
	if (errno == ESRCH || errno == EINVAL)
		return -ESRCH; /* it ended and was waited for */
	if (errno != ENOPROTOOPT && errno != ENODATA)
		return -errno;
	*ret = -1;
	if (pid <= 0)
		return 0;
	fd = open_pidfd(pid);
	if (fd < 0)
		return fd;
	*ret_is_peer = is_users(fd, uid) && has_peer(socket);
	*ret = fd;
	return 0;
}

int process_of_socket(struct process *ret, int socket)
{
	struct process process = {.pidfd = -1};
	struct ucred ucred;
	socklen_t size = sizeof(ucred);
	int r;

	if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &ucred, &size) < 0)
		return -errno;
	r = peer_pidfd(socket, ucred.pid, ucred.uid, &process.pidfd, &process.is_peer);
	if (r < 0)
		return r;
	process.pid = ucred.pid;
	process.uid = ucred.uid;
	process.gid = ucred.gid;
	if (process.pid > 0 && process.pidfd >= 0)
		process.start_time = start_time_of(process.pidfd);
	if (process_ended(&process)) {
		process_deinit(&process);
		return -ESRCH;
	}
	*ret = process;
	return 0;
}

int process_find(struct process *ret, pid_t pid, uint64_t start_time)
{
	struct process process = {.pidfd = -1, .pid = pid, .start_time = start_time};
	uint64_t now;
	int fd;

	if (pid <= 0) {
		*ret = process;
		return 0;
	}
	fd = open_pidfd(pid);
	if (fd < 0)
		return fd == -EINVAL || fd == -ENOENT ? -ESRCH : fd; /* these two: the pid is a thread's now */
	process.pidfd = fd;
	now = start_time_of(fd);
	if (process_ended(&process) || (start_time && now && now != start_time)) {
		process_deinit(&process);
		return -ESRCH;
	}
	*ret = process;
	return 0;
}

/* Also where /proc does not show the process (hidepid): the kernel is asked, as if it should get a signal. */
bool process_may_have_thread(const struct process *process, uint32_t tid)
{
	return process->pid > 0 && !process_ended(process) &&
	       (syscall(SYS_tgkill, process->pid, tid, 0) == 0 || errno != ESRCH);
}

bool process_has_thread(const struct process *process, uint32_t tid)
{
	/* If it has not ended afterwards, the pid was its own all the time. */
	return process->pidfd >= 0 && process_may_have_thread(process, tid) && !process_ended(process);
}

int process_kill(const struct process *process)
{
	if (process->pidfd < 0)
		return -ESRCH;
	if (!process->is_peer)
		return -ENOTCONN;
	return syscall(SYS_pidfd_send_signal, process->pidfd, SIGKILL, NULL, 0) < 0 ? -errno : 0;
}

bool process_in_group(const struct process *process, int socket, gid_t group)
{
	socklen_t size = N_GROUPS_MAX * sizeof(gid_t);
	bool found = process->gid == group;
	gid_t *groups;

	if (found)
		return true;
	groups = malloc(size);
	if (groups && getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0)
		for (size_t i = 0; i < size / sizeof(gid_t) && !found; i++)
			found = groups[i] == group;
	free(groups);
	return found;
}

void process_deinit(struct process *process)
{
	if (process->pidfd >= 0)
		close(process->pidfd);
	process->pidfd = -1;
}
