// SPDX-License-Identifier: MIT
/*
 * A pyheapd of one command's own
 *
 * The daemon ends with the command (`pyheapd --until`), also where this process was killed. If the daemon is killed,
 * this process starts another one, which adopts the heap. Only where both are killed at once may something be left.
 *
 * The daemon says by sd_notify(3) that it serves: to a socket of this process, which believes that daemon alone.
 */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define END_MS 5000 /* patience with a daemon that is to end */

static int choose_names(struct private_daemon *daemon)
{
	const char *folder = getenv("XDG_RUNTIME_DIR");
	uint64_t number;
	int n;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return -EIO;
	snprintf(daemon->name, sizeof(daemon->name), "run-%d-%016llx", (int)getpid(), (unsigned long long)number);
	snprintf(daemon->until_text, sizeof(daemon->until_text), "%d", (int)daemon->until);
	n = snprintf(daemon->socket, sizeof(daemon->socket), "%s/pyheap-%s", folder && *folder ? folder : "/tmp",
		daemon->name);
	return n < (int)sizeof(daemon->socket) ? 0 : -ENAMETOOLONG;
}

/* An abstract address, which the kernel chooses. */
static int open_notify(struct private_daemon *daemon)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t l = sizeof(address);
	int yes = 1;

	daemon->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (daemon->notify_fd < 0 || setsockopt(daemon->notify_fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)) < 0 ||
		bind(daemon->notify_fd, (struct sockaddr *)&address, sizeof(sa_family_t)) < 0 ||
		getsockname(daemon->notify_fd, (struct sockaddr *)&address, &l) < 0)
		return -errno;
	l -= (socklen_t)offsetof(struct sockaddr_un, sun_path);
	if (l < 2 || l > sizeof(daemon->notify) - 1)
		return -EIO;
	snprintf(daemon->notify, sizeof(daemon->notify), "@%.*s", (int)l - 1, address.sun_path + 1);
	return 0;
}

/* $PYHEAPD; or the one beside this program; or by $PATH. */
static void exec_pyheapd(char *const *arguments)
{
	const char *given = getenv("PYHEAPD");
	char path[PATH_MAX];
	ssize_t l;
	char *slash;

	if (given && *given) {
		execvp(given, arguments);
		return;
	}
	l = readlink("/proc/self/exe", path, sizeof(path) - sizeof("pyheapd"));
	path[l < 0 ? 0 : l] = '\0';
	slash = strrchr(path, '/');
	if (slash) {
		strcpy(slash + 1, "pyheapd");
		execv(path, arguments);
	}
	execvp("pyheapd", arguments);
}

/* A child that becomes pyheapd. What a terminal sends to the command's process group does not reach it. */
static pid_t fork_pyheapd(const struct private_daemon *daemon, char *const *arguments)
{
	sigset_t none;
	int fd;
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	setpgid(0, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd >= 0 && dup2(fd, STDIN_FILENO) >= 0 && dup2(fd, STDOUT_FILENO) >= 0 &&
		setenv("NOTIFY_SOCKET", daemon->notify, 1) == 0)
		exec_pyheapd(arguments);
	fprintf(stderr, "pyheapctl: cannot start pyheapd: %s; install it, or name it by $PYHEAPD\n", strerror(errno));
	_exit(127);
}

int private_start(struct private_daemon *daemon)
{
	char *arguments[] = {"pyheapd", "--name", daemon->name, "--socket", daemon->socket, "--until",
		daemon->until_text, "--log-level", "warning", daemon->size ? "--size" : NULL, (char *)daemon->size,
		NULL};

	daemon->is_ready = false;
	daemon->pid = fork_pyheapd(daemon, arguments);
	if (daemon->pid < 0) {
		daemon->pid = 0;
		return -errno;
	}
	daemon->pidfd = (int)syscall(SYS_pidfd_open, daemon->pid, 0);
	return daemon->pidfd < 0 ? -errno : 0;
}

int private_init(struct private_daemon *daemon, const char *size, pid_t until)
{
	int r;

	*daemon = (struct private_daemon){.size = size, .until = until, .notify_fd = -1, .pidfd = -1};
	r = choose_names(daemon);
	if (r == 0)
		r = open_notify(daemon);
	return r < 0 ? r : private_start(daemon);
}

void private_heard(struct private_daemon *daemon)
{
	char text[512], control[CMSG_SPACE(sizeof(struct ucred))];
	struct iovec iov = {.iov_base = text, .iov_len = sizeof(text) - 1};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t l = recvmsg(daemon->notify_fd, &message, MSG_CMSG_CLOEXEC);
	const struct cmsghdr *part = l < 0 ? NULL : CMSG_FIRSTHDR(&message);
	struct ucred sender;

	if (!part || part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_CREDENTIALS)
		return;
	memcpy(&sender, CMSG_DATA(part), sizeof(sender));
	text[l] = '\0';
	if (sender.pid != daemon->pid || !strstr(text, "READY=1"))
		return;
	daemon->is_ready = true;
	daemon->n_failures = 0;
}

int private_reap(struct private_daemon *daemon)
{
	int status = 0;

	while (waitpid(daemon->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (daemon->pidfd >= 0)
		close(daemon->pidfd);
	daemon->pidfd = -1;
	daemon->pid = 0;
	daemon->n_failures += !daemon->is_ready;
	daemon->is_ready = false;
	if (WIFSIGNALED(status))
		daemon->is_left = true;
	else if (WEXITSTATUS(status) == 0)
		daemon->is_left = false;
	return status;
}

static void end_daemon(struct private_daemon *daemon)
{
	struct pollfd poll_fd = {.fd = daemon->pidfd, .events = POLLIN};

	kill(daemon->pid, SIGTERM);
	kill(daemon->pid, SIGCONT); /* it may have been stopped */
	if (daemon->pidfd < 0 || poll(&poll_fd, 1, END_MS) <= 0)
		kill(daemon->pid, SIGKILL);
	private_reap(daemon);
}

static void remove_heap(const struct private_daemon *daemon)
{
	char *arguments[] = {"pyheapd", "--name", (char *)daemon->name, "--remove", "--log-level", "error", NULL};
	char guard[sizeof(daemon->socket) + 8];
	pid_t pid = fork_pyheapd(daemon, arguments);

	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	snprintf(guard, sizeof(guard), "%s.lock", daemon->socket);
	unlink(daemon->socket);
	unlink(guard);
}

void private_end(struct private_daemon *daemon)
{
	if (daemon->pid)
		end_daemon(daemon);
	if (daemon->is_left)
		remove_heap(daemon);
	if (daemon->notify_fd >= 0)
		close(daemon->notify_fd);
	daemon->notify_fd = -1;
}
