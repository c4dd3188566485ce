/* SPDX-License-Identifier: MIT */
#pragma once

/* Processes that are run one instruction at a time: see tracee.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Functions that consist of an int3: a tracee calls them where the part that is stepped begins and ends. */
void tracee_mark_begin(void);
void tracee_mark_end(void);

struct tracee {
	pid_t pid;           /* 0: none */
	bool is_pending;     /* it runs or sleeps: it has not stopped since it was last let go */
	int status;          /* of waitpid(), after TRACEE_GONE */
	bool is_other;       /* it runs another program, which has no tracee_mark_end() */
	uint64_t break_at;   /* address of the breakpoint; 0: none is set */
	uint8_t broken_byte; /* the byte of code that the breakpoint replaces */
};

enum tracee_event {
	TRACEE_STOPPED, /* after one instruction, or at a breakpoint */
	TRACEE_AT_END,  /* it has come to tracee_mark_end() */
	TRACEE_BLOCKED, /* it sleeps in futex or epoll_wait until another process acts; it is still pending */
	TRACEE_GONE,    /* it ended, or got a signal by which it would crash: see status */
};

/*
 * To be called once in a process, before all else here. Binds this process and the tracees it forks to one CPU (-1: to
 * none; a CPU that does not exist: to none, either), and starts the timer that interrupts waits for a tracee.
 */
void tracee_init(int cpu);

/* For a child that is no tracee: allow all CPUs again. */
void tracee_unpin(void);

/* Fork a traced child that calls `run`, and let it get to tracee_mark_begin(). 0, or -ECHILD: see status. */
int tracee_fork(struct tracee *tracee, void (*run)(void *userdata), void *userdata);

/* Likewise, where `run` executes another program: the child is stopped before the program's first instruction. */
int tracee_exec(struct tracee *tracee, void (*run)(void *userdata), void *userdata);

/* Trace a process that runs already, and stop it wherever it is. 0, or a negative errno. */
int tracee_seize(struct tracee *tracee, pid_t pid);

enum tracee_event tracee_step(struct tracee *tracee);

/* Run until it is about to execute `address`; where it is so already, until the next time. */
enum tracee_event tracee_run_to(struct tracee *tracee, uint64_t address);

/* For a tracee at the first instruction of a function: where the function returns to, and run until it has. */
uint64_t tracee_return_address(const struct tracee *tracee);
enum tracee_event tracee_run_call(struct tracee *tracee);

/* After TRACEE_BLOCKED: wait for it once more. */
enum tracee_event tracee_wait(struct tracee *tracee);

/* For a tracee at the first instruction of a function: the argument i, 0 or 1. */
uint64_t tracee_argument(const struct tracee *tracee, unsigned int i);

/* The address of the instruction that it executes next. */
uint64_t tracee_ip(const struct tracee *tracee);

/* End it by SIGKILL, wherever it is, and wait for its end. May be called again. */
void tracee_kill(struct tracee *tracee);

/* Stop it by SIGSTOP and trace it no more, so that others see an ordinary stopped process. End it by tracee_kill(). */
void tracee_sigstop(struct tracee *tracee);
