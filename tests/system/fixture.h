/* SPDX-License-Identifier: MIT */
#pragma once

/* Real daemons and real processes for the tests, and nothing of them left behind: see fixture.c. */

#include <pyheap.h>

#include "tests/check_setup.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* A sanitizer's own memory is beyond any limit that a test sets, and it makes mlockall() do nothing. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER
#endif

#define FIXTURE_ARGS_MAX 16

struct fixture_daemon {
	pid_t pid; /* 0: not running */
	char name[48];
	char socket[96];
	char log[96]; /* what it writes to stderr */
	const char *args[FIXTURE_ARGS_MAX];
};

/* The daemon of the running test, for suites whose tests have one each (fixture_setup, fixture_teardown). */
extern struct fixture_daemon fx;

/* A folder of this test program's own, which is removed at the end. */
extern char fixture_folder[32];

/* Runs the suite and reclaims it; what main() returns. The tests run in processes of their own, as Check does
 * it. */
int fixture_main(Suite *suite);

/* Start a daemon of its own name with `args` (ended by NULL) and wait until it admits. */
void fixture_start(struct fixture_daemon *daemon, const char *const *args);

/* Start it again after fixture_stop(): the same name, socket and arguments. */
void fixture_start_again(struct fixture_daemon *daemon);

/* End it by a signal and wait for that; the status as of waitpid(). */
int fixture_stop(struct fixture_daemon *daemon, int signal_number);

/* Check's fixture: fx serves a heap of 64 MiB. At the end pyheap_check() finds no fault, and the daemon ends. */
void fixture_setup(void);
void fixture_teardown(void);

/* fixture_setup() and fixture_teardown(), and a session of the test's own: fixture_heap. */
extern pyheap *fixture_heap;
void fixture_setup_session(void);
void fixture_teardown_session(void);

/* Open a session; the test fails where that fails. */
pyheap *fixture_open(const struct fixture_daemon *daemon);

/* Run a function in a child, which ends with it: status 0 unless an assertion fails there. It dies with its parent. */
pid_t fixture_fork(void (*run)(void *userdata), void *userdata);

/* Wait for a child; the status as of waitpid(). */
int fixture_wait(pid_t pid);

/* End a child by SIGKILL and wait for that. */
void fixture_kill(pid_t pid);

/* What the heap of fx's daemon occupies in /dev/shm. */
uint64_t fixture_heap_bytes(void);

/* Make objects until a call needs the daemon, since no memory that is there is free, and drop them; or its error. */
int fixture_need_daemon(pyheap *heap);

/* How often the text is in the log of fx's daemon. */
int fixture_log_count(const char *text);

/* Wait until the condition is true. After five minutes or more the test fails: no busy machine takes that long. */
#define fixture_until(condition)                                                                                       \
	do {                                                                                                           \
		int tries_ = 0;                                                                                        \
		while (!(condition)) {                                                                                 \
			ck_assert_msg(tries_++ < 60000, "never came true: %s", #condition);                            \
			usleep(5000);                                                                                  \
		}                                                                                                      \
	} while (0)

#define ck_ok(call)        ck_assert_int_eq((call), 0)
#define ck_err(call, code) ck_assert_int_eq((call), -(code))
