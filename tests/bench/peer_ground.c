// SPDX-License-Identifier: MIT
/*
 * Peer: bare shared memory
 *
 * What the machine itself takes: the ground that nothing can be better than.
 *
 * touch: a file in /dev/shm with its memory reserved (fallocate) is mapped, and one byte of each page is written.
 * Figures, nanoseconds a page: the writing; reserving, mapping and writing.
 *
 * there-and-back: two processes wait for each other's number in memory that both have, each number in a cache line of
 * its own.
 *
 * asleep: the same, and each sleeps at its number by a futex until the other wakes it.
 */
#include "partner.h"
#include "works.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* ---- touch ------------------------------------------------------------------------------------------------------ */

/* A file in /dev/shm without a name. */
static int segment_open(void)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "/pyheap-bench.%ld.ground", (long)getpid());
	fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	shm_unlink(name);
	return fd;
}

static int touch_setup(void **ret, uint64_t argument)
{
	size_t *size = malloc(sizeof(*size));

	if (!size)
		return -ENOMEM;
	*size = argument << 20;
	*ret = size;
	return 0;
}

static int touch_segment(int fd, size_t size, double ret[FIGURES_MAX])
{
	double n_pages = (double)size / PAGE_SIZE_4K;
	uint64_t begin = clock_now(), ready, done;
	volatile uint8_t *bytes;
	int r = posix_fallocate(fd, 0, (off_t)size);

	if (r)
		return -r;
	bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		return -errno;
	ready = clock_now();
	for (size_t at = 0; at < size; at += PAGE_SIZE_4K)
		bytes[at] = 1;
	done = clock_now();
	munmap((void *)bytes, size);
	ret[0] = (double)(done - ready) / n_pages;
	ret[1] = (double)(done - begin) / n_pages;
	return 2;
}

static int touch_measure(void *state, uint64_t n, double ret[FIGURES_MAX])
{
	const size_t *size = state;
	int fd = segment_open(), r;

	(void)n;
	if (fd < 0)
		return fd;
	r = touch_segment(fd, *size, ret);
	close(fd);
	return r;
}

static int touch_teardown(void *state)
{
	free(state);
	return 0;
}

/* ---- there-and-back --------------------------------------------------------------------------------------------- */

struct words {
	_Alignas(64) atomic_uint_fast64_t there;
	_Alignas(64) atomic_uint_fast64_t back;
	_Alignas(64) struct partner partner; /* the first process's */
};

static int word_await(const atomic_uint_fast64_t *word, uint64_t wanted)
{
	struct spin spin = {0};

	while (atomic_load_explicit(word, memory_order_acquire) != wanted) {
		if (spin_again(&spin) < 0)
			return -ETIMEDOUT;
	}
	return 0;
}

static int words_serve(void *userdata, int fd)
{
	struct words *words = userdata;
	uint64_t at = 0, n;
	int r;

	while ((r = partner_wait(fd, &n)) >= 0) {
		for (uint64_t i = 0; r >= 0 && i < n; i++) {
			r = word_await(&words->there, ++at);
			atomic_store_explicit(&words->back, at, memory_order_release);
		}
		if (r < 0)
			return r;
	}
	return r == -ECONNRESET ? 0 : r;
}

static int words_setup(void **ret, uint64_t argument)
{
	struct words *words = mmap(NULL, sizeof(*words), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int r;

	(void)argument;
	if (words == MAP_FAILED)
		return -errno;
	r = partner_start(&words->partner, words_serve, words);
	if (r < 0) {
		munmap(words, sizeof(*words));
		return r;
	}
	*ret = words;
	return 0;
}

static int words_loop(void *state, uint64_t n)
{
	struct words *words = state;
	uint64_t at = atomic_load(&words->there);
	int r = partner_say(words->partner.fd, n);

	for (uint64_t i = 0; r >= 0 && i < n; i++) {
		atomic_store_explicit(&words->there, ++at, memory_order_release);
		r = word_await(&words->back, at);
	}
	return r;
}

static int words_teardown(void *state)
{
	struct words *words = state;
	int r = partner_stop(&words->partner);

	munmap(words, sizeof(*words));
	return r;
}

/* ---- asleep ----------------------------------------------------------------------------------------------------- */

struct futexes {
	_Alignas(64) atomic_uint there;
	_Alignas(64) atomic_uint back;
	_Alignas(64) struct partner partner; /* the first process's */
};

static int futex_await(atomic_uint *futex, unsigned int wanted)
{
	const struct timespec patience = {.tv_sec = WATCH_DOG_MS / 1000};
	unsigned int value;

	while ((value = atomic_load(futex)) != wanted)
		if (syscall(SYS_futex, futex, FUTEX_WAIT, value, &patience, NULL, 0) < 0 && errno == ETIMEDOUT)
			return -ETIMEDOUT;
	return 0;
}

static void futex_set(atomic_uint *futex, unsigned int value)
{
	atomic_store(futex, value);
	syscall(SYS_futex, futex, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static int futexes_serve(void *userdata, int fd)
{
	struct futexes *futexes = userdata;
	unsigned int at = 0;
	uint64_t n;
	int r;

	while ((r = partner_wait(fd, &n)) >= 0)
		for (uint64_t i = 0; i < n; i++) {
			r = futex_await(&futexes->there, ++at);
			if (r < 0)
				return r;
			futex_set(&futexes->back, at);
		}
	return r == -ECONNRESET ? 0 : r;
}

static int futexes_setup(void **ret, uint64_t argument)
{
	struct futexes *futexes =
		mmap(NULL, sizeof(*futexes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int r;

	(void)argument;
	if (futexes == MAP_FAILED)
		return -errno;
	r = partner_start(&futexes->partner, futexes_serve, futexes);
	if (r < 0) {
		munmap(futexes, sizeof(*futexes));
		return r;
	}
	*ret = futexes;
	return 0;
}

static int futexes_loop(void *state, uint64_t n)
{
	struct futexes *futexes = state;
	unsigned int at = atomic_load(&futexes->there);
	int r = partner_say(futexes->partner.fd, n);

	for (uint64_t i = 0; r >= 0 && i < n; i++) {
		futex_set(&futexes->there, ++at);
		r = futex_await(&futexes->back, at);
	}
	return r;
}

static int futexes_teardown(void *state)
{
	struct futexes *futexes = state;
	int r = partner_stop(&futexes->partner);

	munmap(futexes, sizeof(*futexes));
	return r;
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct work works[] = {
	{.key = WORK_TOUCH, .setup = touch_setup, .measure = touch_measure, .teardown = touch_teardown},
	{.key = WORK_THERE_AND_BACK, .setup = words_setup, .loop = words_loop, .teardown = words_teardown},
	{.key = WORK_ASLEEP, .setup = futexes_setup, .loop = futexes_loop, .teardown = futexes_teardown},
};

int main(int argc, char **argv)
{
	static const struct family family = {.works = works, .n_works = sizeof(works) / sizeof(*works)};
	static const struct family *const families[] = {&family};
	struct utsname kernel = {0};

	uname(&kernel);
	return contender_main(argc, argv, kernel.release, families, 1);
}
