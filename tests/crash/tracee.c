// SPDX-License-Identifier: MIT
/*
 * Processes that are run one instruction at a time
 *
 * A tracee is a child under ptrace. One step is one instruction; a system call is one step, however long it sleeps. The
 * cost of a step is the switch from one process to the other and back, so both should be on one CPU.
 *
 * A breakpoint is an int3 that is written over an instruction, as debug registers do not work in every virtual machine.
 *
 * A tracee that waits for another process must not make its tracer wait for ever. So a timer interrupts waitpid(), and
 * a tracee that is then seen asleep in futex or epoll_wait N_IDLE times in a row is reported as blocked. On a busy
 * machine this may be too early, when the process that it waits for has not had its turn: the caller must be able to
 * wait on, and must not conclude that the tracee would have slept for ever. A sleep in poll() is not reported: there a
 * session waits for the daemon's answer, which comes.
 */
#include "tracee.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMER_US    5000
#define N_IDLE      6     /* ticks of the timer in a row at which it is asleep */
#define N_TICKS_MAX 36000 /* ticks, three minutes: a watchdog */
#define INT3        0xccL

__asm__(".text\n"
	".globl tracee_mark_begin\n"
	".type tracee_mark_begin, @function\n"
	"tracee_mark_begin: int3\n"
	"	ret\n"
	".globl tracee_mark_end\n"
	".type tracee_mark_end, @function\n"
	"tracee_mark_end: int3\n"
	"	ret\n");

static void on_timer(int signal_number)
{
	(void)signal_number;
}

static cpu_set_t all_cpus;

void tracee_unpin(void)
{
	sched_setaffinity(0, sizeof(all_cpus), &all_cpus);
}

void tracee_init(int cpu)
{
	cpu_set_t one;

	struct itimerval timer = {.it_interval.tv_usec = TIMER_US, .it_value.tv_usec = TIMER_US};
	struct sigaction action = {.sa_handler = on_timer}; /* no SA_RESTART: it interrupts */

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	sched_getaffinity(0, sizeof(all_cpus), &all_cpus);
	CPU_ZERO(&one);
	CPU_SET(cpu < 0 ? 0U : (unsigned int)cpu % CPU_SETSIZE, &one);
	if (cpu >= 0)
		sched_setaffinity(0, sizeof(one), &one); /* where there is no such CPU, steps take longer */
}

/* The number of the system call in which it sleeps, or -1. */
static long sleeps_in(pid_t pid)
{
	char path[48];
	long number = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return -1;
	if (fscanf(file, "%ld", &number) != 1) /* "running" */
		number = -1;
	fclose(file);
	return number;
}

static bool is_blocked(pid_t pid)
{
	long number = sleeps_in(pid);

	return number == SYS_futex || number == SYS_epoll_wait || number == SYS_epoll_pwait;
}

uint64_t tracee_ip(const struct tracee *tracee)
{
	return (uint64_t)ptrace(PTRACE_PEEKUSER, tracee->pid, offsetof(struct user, regs.rip), 0);
}

uint64_t tracee_argument(const struct tracee *tracee, unsigned int i)
{
	size_t where = i == 0 ? offsetof(struct user, regs.rdi) : offsetof(struct user, regs.rsi);

	return (uint64_t)ptrace(PTRACE_PEEKUSER, tracee->pid, where, 0);
}

static bool is_at_end(uint64_t ip)
{
	uint64_t end = (uint64_t)(uintptr_t)tracee_mark_end;

	return ip == end || ip == end + 1;
}

static bool write_code(struct tracee *tracee, uint64_t address, long word)
{
	return ptrace(PTRACE_POKETEXT, tracee->pid, address, word) == 0;
}

static void clear_break(struct tracee *tracee)
{
	long word;

	if (!tracee->break_at)
		return;
	word = ptrace(PTRACE_PEEKTEXT, tracee->pid, tracee->break_at, 0);
	write_code(tracee, tracee->break_at, (word & ~0xffL) | tracee->broken_byte);
	tracee->break_at = 0;
}

static bool set_break(struct tracee *tracee, uint64_t address)
{
	long word;

	clear_break(tracee);
	errno = 0;
	word = ptrace(PTRACE_PEEKTEXT, tracee->pid, address, 0);
	if (errno || !write_code(tracee, address, (word & ~0xffL) | INT3))
		return false;
	tracee->broken_byte = (uint8_t)word;
	tracee->break_at = address;
	return true;
}

/* After the int3 was executed: remove it, and go back to the instruction that it replaced. */
static void leave_break(struct tracee *tracee)
{
	if (!tracee->break_at || tracee_ip(tracee) != tracee->break_at + 1)
		return;
	ptrace(PTRACE_POKEUSER, tracee->pid, offsetof(struct user, regs.rip), tracee->break_at);
	clear_break(tracee);
}

enum tracee_event tracee_wait(struct tracee *tracee)
{
	int n_idle = 0, status;

	for (int n_ticks = 0; n_ticks < N_TICKS_MAX;) {
		pid_t r = waitpid(tracee->pid, &status, __WALL);

		if (r == tracee->pid)
			break;
		if (errno != EINTR)
			return TRACEE_GONE;
		n_ticks++;
		n_idle = is_blocked(tracee->pid) ? n_idle + 1 : 0;
		if (n_idle == N_IDLE)
			return TRACEE_BLOCKED;
		if (n_ticks == N_TICKS_MAX)
			return TRACEE_BLOCKED;
	}
	tracee->is_pending = false;
	tracee->status = status;
	if (!WIFSTOPPED(status)) {
		tracee->pid = 0;
		return TRACEE_GONE;
	}
	if (WSTOPSIG(status) != SIGTRAP)
		return TRACEE_GONE;
	leave_break(tracee);
	return !tracee->is_other && is_at_end(tracee_ip(tracee)) ? TRACEE_AT_END : TRACEE_STOPPED;
}

static enum tracee_event let_go(struct tracee *tracee, enum __ptrace_request how)
{
	if (ptrace(how, tracee->pid, 0, 0) < 0)
		return TRACEE_GONE;
	tracee->is_pending = true;
	return tracee_wait(tracee);
}

/* The tracer's handlers are none of the tracee's: a call that waits goes another way where a signal has a handler. */
static void forget_handlers(void)
{
	for (int i = 1; i <= SIGRTMAX; i++)
		if (i != SIGKILL && i != SIGSTOP)
			signal(i, SIG_DFL);
}

static int start(struct tracee *tracee, void (*run)(void *userdata), void *userdata)
{
	pid_t parent = getpid();

	tracee->pid = fork();
	if (tracee->pid < 0)
		return -errno;
	if (tracee->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent || ptrace(PTRACE_TRACEME, 0, 0, 0) < 0)
			_exit(125);
		forget_handlers();
		run(userdata);
		_exit(0);
	}
	tracee->is_pending = true;
	if (tracee_wait(tracee) != TRACEE_STOPPED)
		return -ECHILD;
	ptrace(PTRACE_SETOPTIONS, tracee->pid, 0, PTRACE_O_EXITKILL);
	return 0;
}

int tracee_fork(struct tracee *tracee, void (*run)(void *userdata), void *userdata)
{
	*tracee = (struct tracee){0};
	return start(tracee, run, userdata);
}

int tracee_exec(struct tracee *tracee, void (*run)(void *userdata), void *userdata)
{
	*tracee = (struct tracee){.is_other = true};
	return start(tracee, run, userdata);
}

int tracee_seize(struct tracee *tracee, pid_t pid)
{
	int status;

	*tracee = (struct tracee){.pid = pid, .is_other = true};
	if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL) < 0 || ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0)
		return -errno;
	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFSTOPPED(status) ? 0 : -ECHILD;
}

enum tracee_event tracee_step(struct tracee *tracee)
{
	clear_break(tracee);
	return let_go(tracee, PTRACE_SINGLESTEP);
}

enum tracee_event tracee_run_to(struct tracee *tracee, uint64_t address)
{
	if (tracee_ip(tracee) == address) {
		enum tracee_event event = tracee_step(tracee);

		if (event != TRACEE_STOPPED)
			return event;
	}
	return set_break(tracee, address) ? let_go(tracee, PTRACE_CONT) : TRACEE_GONE;
}

uint64_t tracee_return_address(const struct tracee *tracee)
{
	long stack = ptrace(PTRACE_PEEKUSER, tracee->pid, offsetof(struct user, regs.rsp), 0);

	return (uint64_t)ptrace(PTRACE_PEEKDATA, tracee->pid, stack, 0);
}

enum tracee_event tracee_run_call(struct tracee *tracee)
{
	return tracee_run_to(tracee, tracee_return_address(tracee));
}

void tracee_kill(struct tracee *tracee)
{
	int status;

	if (tracee->pid <= 0)
		return;
	kill(tracee->pid, SIGKILL);
	do {
		while (waitpid(tracee->pid, &status, __WALL) < 0)
			if (errno != EINTR)
				goto out;
	} while (WIFSTOPPED(status));
out:
	*tracee = (struct tracee){0};
}

void tracee_sigstop(struct tracee *tracee)
{
	int status;

	clear_break(tracee);
	if (ptrace(PTRACE_DETACH, tracee->pid, 0, (long)SIGSTOP) < 0)
		return;
	while (waitpid(tracee->pid, &status, WUNTRACED) < 0)
		if (errno != EINTR)
			break;
}
