/* SPDX-License-Identifier: MIT */
#pragma once

/* Processes that are run one instruction at a time: see tracee.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What a tracee executes where the part of interest begins and ends: an int3 each. */
void tracee_mark_begin(void);
void tracee_mark_end(void);

struct tracee {
	pid_t pid;           /* 0: none */
	bool is_pending;     /* it was let go and has not stopped again */
	int status;          /* of waitpid(), where it is TRACEE_GONE */
	bool is_other;       /* it runs another program, in which there are no marks */
	uint64_t break_at;   /* 0: nowhere */
	uint8_t broken_byte; /* what stands there but for the breakpoint */
};

enum tracee_event {
	TRACEE_STOPPED, /* after one instruction, or where it was let run to */
	TRACEE_AT_END,  /* tracee_mark_end() is what it would execute next, or has executed */
	TRACEE_BLOCKED, /* it sleeps in a system call that waits for somebody: futex, epoll_wait; still pending */
	TRACEE_GONE,    /* it ended, or got a signal that means it crashed: status */
};

/*
 * Once, before anything else here: puts this process and the tracees it forks on one CPU (-1: wherever), and has waits
 * interrupted now and then, so that a tracee that sleeps is noticed.
 */
void tracee_init(int cpu);

/* For a child that is no tracee: any CPU again. */
void tracee_unpin(void);

/* Fork a child that runs `run`, traced, and let it run to tracee_mark_begin(): 0; else -ECHILD, and status says why. */
int tracee_fork(struct tracee *tracee, void (*run)(void *userdata), void *userdata);

/* The same, where `run` executes another program: it is stopped before its first instruction. */
int tracee_exec(struct tracee *tracee, void (*run)(void *userdata), void *userdata);

/* Take a running process over: it is stopped, wherever it is. 0, or a negative errno. */
int tracee_seize(struct tracee *tracee, pid_t pid);

enum tracee_event tracee_step(struct tracee *tracee);

/* Until it is about to execute `address`, by a breakpoint; where it is so already, the next time. */
enum tracee_event tracee_run_to(struct tracee *tracee, uint64_t address);

/* Where it stands at a function's first instruction: where that returns to; and let it run until then. */
uint64_t tracee_return_address(const struct tracee *tracee);
enum tracee_event tracee_run_call(struct tracee *tracee);

/* After TRACEE_BLOCKED: wait for it once more. */
enum tracee_event tracee_wait(struct tracee *tracee);

/* Where it stands at a function's first instruction: its i-th argument, of the first two. */
uint64_t tracee_argument(const struct tracee *tracee, unsigned int i);

/* The address of the instruction that comes next. */
uint64_t tracee_ip(const struct tracee *tracee);

/* End it by SIGKILL, wherever it is, and wait for that. Any number of times. */
void tracee_kill(struct tracee *tracee);

/* Stop it by SIGSTOP and let go of it: it is a stopped process like any other, until tracee_kill(). */
void tracee_sigstop(struct tracee *tracee);
