// SPDX-License-Identifier: MIT
/*
 * pyheapctl run: a command with a heap of its own
 *
 * The command is a child, which waits until the daemon (private.c) serves and then becomes the command. So the daemon
 * knows from its start with which process it ends. This process passes signals on, starts another daemon where one was
 * killed, and at last removes the heap and ends as the command did.
 *
 * Whichever process is killed, the heap lives as long as the command and no longer:
 *   this process   the command and its daemon go on; the daemon ends, and removes the heap, when the command ends
 *   the daemon     another one adopts the heap; clients do not notice
 *   the command    this process ends the daemon
 */
#include "ctl.h"
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_FAILURES_MAX 3U /* daemons in a row that end before they serve */

/* How the command ends where it cannot begin, as shells have it. */
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND      127

struct run {
	pid_t command;
	int command_fd; /* a pidfd */
	int begin_fd;   /* the command begins when something is written there */
	int signal_fd;
	sigset_t before; /* the signal mask that the command gets */
	struct private_daemon daemon;
};

static void passed_on(sigset_t *ret)
{
	static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

	sigemptyset(ret);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		sigaddset(ret, signals[i]);
}

/* In the child: the parent writes the socket's path, or goes away. */
static _Noreturn void become_command(const struct run *run, int begin_fd, char **args)
{
	char path[sizeof(run->daemon.socket)];
	ssize_t l = read(begin_fd, path, sizeof(path));

	if (l <= 0)
		_exit(CTL_NO_DAEMON);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	sigprocmask(SIG_SETMASK, &run->before, NULL);
	if (setenv("PYHEAP_SOCKET", path, 1) == 0)
		execvp(args[0], args);
	l = errno;
	ctl_fail("cannot run", args[0], strerror((int)l), "name a program, with its arguments, behind --");
	_exit(l == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

static int fork_command(struct run *run, char **args)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	run->command = fork();
	if (run->command == 0) {
		close(fds[1]);
		become_command(run, fds[0], args);
	}
	close(fds[0]);
	run->begin_fd = fds[1];
	if (run->command < 0)
		return -errno;
	run->command_fd = (int)syscall(SYS_pidfd_open, run->command, 0);
	return run->command_fd < 0 ? -errno : 0;
}

static int begin(struct run *run, const char *size, char **args)
{
	sigset_t set;
	int r;

	passed_on(&set);
	sigprocmask(SIG_BLOCK, &set, &run->before);
	run->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	r = run->signal_fd < 0 ? -errno : fork_command(run, args);
	return r < 0 ? r : private_init(&run->daemon, size, run->command);
}

/* What a terminal sends goes to the command as well, which is in the same process group. */
static void pass_on(const struct run *run)
{
	struct signalfd_siginfo info;

	while (read(run->signal_fd, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_code != SI_KERNEL)
			kill(run->command, (int)info.ssi_signo);
}

static void let_begin(struct run *run)
{
	if (run->begin_fd < 0 || !run->daemon.is_ready)
		return;
	if (write(run->begin_fd, run->daemon.socket, sizeof(run->daemon.socket)) < 0) {
		/* it was killed, as is seen next */
	}
	close(run->begin_fd);
	run->begin_fd = -1;
}

/* False: the command cannot begin, as no daemon can be had. */
static bool daemon_ended(struct run *run)
{
	int status = private_reap(&run->daemon);

	/* It has said why, and would say so again. */
	if (run->begin_fd >= 0 && WIFEXITED(status))
		return false;
	if (run->daemon.n_failures < N_FAILURES_MAX && private_start(&run->daemon) == 0)
		return true;
	ctl_fail("the command has no heap any more", NULL, "pyheapd ends again and again", "its lines above say why");
	return run->begin_fd < 0;
}

/* Until the command has ended, or (false) cannot begin. */
static bool attend(struct run *run)
{
	for (;;) {
		struct pollfd fds[] = {{run->command_fd, POLLIN, 0}, {run->signal_fd, POLLIN, 0},
			{run->daemon.notify_fd, POLLIN, 0}, {run->daemon.pidfd, POLLIN, 0}};

		if (poll(fds, 4, -1) < 0)
			continue;
		if (fds[1].revents)
			pass_on(run);
		if (fds[0].revents)
			return true;
		if (fds[2].revents)
			private_heard(&run->daemon);
		let_begin(run);
		if (fds[3].revents && !daemon_ended(run))
			return false;
	}
}

static int end(struct run *run)
{
	int status = 0;

	if (run->begin_fd >= 0)
		close(run->begin_fd); /* a command that has not begun ends by that */
	while (run->command > 0 && waitpid(run->command, &status, 0) < 0 && errno == EINTR)
		;
	private_end(&run->daemon);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int run_run(struct ctl *ctl, int n_args, char **args)
{
	struct run run = {.command_fd = -1, .begin_fd = -1, .signal_fd = -1, .daemon = {.notify_fd = -1, .pidfd = -1}};
	int r = begin(&run, ctl->size, args);

	(void)n_args;
	if (r == 0 && attend(&run))
		return end(&run);
	end(&run);
	if (r < 0)
		return ctl_fail("cannot start a daemon", NULL, strerror(-r), "close files or programs, and try again");
	return CTL_NO_DAEMON;
}
