// SPDX-License-Identifier: MIT
/*
 * Files that are cut short
 *
 * Clients have descriptors of both files of the heap, may change their sizes by ftruncate(), and may punch holes into
 * them. Files of shm_open() cannot be sealed against that. A process that then reads a page which is not there gets
 * SIGBUS. This daemon goes on: the handler puts private pages of zeros there, and the instruction is made again.
 *
 *   the page is beyond the end of its file    all pages from there to the end of the mapping are gone: all are replaced
 *   it is within the file                     /dev/shm is full, and somebody has punched the page: it alone is replaced
 *
 * Later, outside of the handler, the file gets its size again, and the mapping its file: other processes find zeros
 * instead of SIGBUS from then on. What was cut off is lost. The heap is damaged, as by any other stray write, and those
 * who check what they read answer EUCLEAN. If the beginning of the control segment is gone nobody can attach the heap
 * any more: new sessions are refused, and the heap has to be made anew.
 *
 * The handler calls mmap() and fstat() alone, which are system calls, and changes errno for nobody.
 */
#include "daemon/sigbus.h"

#include "daemon/log.h"
#include "heap/shared/segment.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE UINT64_C(4096)

/* A mapping of one of the files. */
struct window {
	uint8_t *start;
	uint64_t size;
	int fd;
};

enum { CONTROL, HEAP, N_WINDOWS };

static struct heap *guarded;
static struct window windows[N_WINDOWS];
static volatile sig_atomic_t is_replaced[N_WINDOWS]; /* by the handler: some pages are private */
static bool is_named;

static bool replace(uint8_t *start, uint64_t size)
{
	return mmap(start, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
		       0) != MAP_FAILED;
}

/* Replace what is missing around the offset. False: there is no memory for it. */
static bool replace_missing(const struct window *window, uint64_t off)
{
	struct stat st;

	off -= off % PAGE;
	if (fstat(window->fd, &st) == 0 && (uint64_t)st.st_size > off && replace(window->start + off, PAGE))
		return true;
	/* also where the process has as many mappings as it may have: one takes the place of all */
	return replace(window->start + off, window->size - off) || replace(window->start, window->size);
}

static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
	uintptr_t address = (uintptr_t)info->si_addr;
	int saved = errno;

	(void)context;
	for (int i = 0; info->si_code > 0 && i < N_WINDOWS; i++) {
		uint64_t off = address - (uintptr_t)windows[i].start;

		if (off < windows[i].size && replace_missing(&windows[i], off)) {
			is_replaced[i] = 1;
			errno = saved;
			return;
		}
	}
	/* It was sent by somebody, or is a fault of this program: it ends by it. */
	signal(signal_number, SIG_DFL);
	if (info->si_code <= 0)
		raise(signal_number);
}

void sigbus_guard(struct heap *heap)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

	guarded = heap;
	is_named = false;
	memset(windows, 0, sizeof(windows));
	is_replaced[CONTROL] = is_replaced[HEAP] = 0;
	if (!heap)
		return;
	windows[CONTROL] = (struct window){(uint8_t *)heap->control, heap->control_size, heap->control_fd};
	windows[HEAP] = (struct window){heap->base, heap->heap_size, heap->heap_fd};
	sigaction(SIGBUS, &action, NULL);
}

/* True: the file had another size. */
static bool restore_size(const struct window *window)
{
	struct stat st;

	if (fstat(window->fd, &st) < 0 || (uint64_t)st.st_size == window->size)
		return false;
	if (ftruncate(window->fd, (off_t)window->size) < 0)
		log_error("cannot give a file of the heap its size again: %s", strerror(errno));
	return true;
}

/* The end of the run of arenas, from i on, that are all there or all not there. */
static uint32_t end_of_run(uint32_t i)
{
	bool is_there = arena_is_there(guarded, i);

	while (++i < guarded->n_arenas && arena_is_there(guarded, i) == is_there)
		;
	return i;
}

/* Part of the heap's window: its file again, where arenas are there, else a reservation. */
static bool map_again(uint64_t off, uint64_t size, bool is_there)
{
	void *p;

	if (is_there)
		p = mmap(guarded->base + off, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, guarded->heap_fd,
			(off_t)off);
	else
		p = mmap(guarded->base + off, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
			-1, 0);
	return p != MAP_FAILED;
}

/* Map what the handler has replaced to its file again; what cannot be mapped now is tried with the next tick. */
static void restore_mappings(void)
{
	if (is_replaced[CONTROL]) {
		is_replaced[CONTROL] = 0;
		segment_map_control_again(guarded->control, guarded->control_size, guarded->control_fd);
	}
	if (!is_replaced[HEAP])
		return;
	is_replaced[HEAP] = 0;
	for (uint32_t i = 0, end; i < guarded->n_arenas; i = end) {
		uint64_t off = (uint64_t)i << guarded->arena_shift;

		end = end_of_run(i);
		if (!map_again(off, (uint64_t)(end - i) << guarded->arena_shift, arena_is_there(guarded, i)))
			is_replaced[HEAP] = 1;
	}
}

void sigbus_mend(void)
{
	bool is_changed = is_replaced[CONTROL] || is_replaced[HEAP];

	if (!guarded)
		return;
	for (int i = 0; i < N_WINDOWS; i++)
		is_changed |= restore_size(&windows[i]);
	if (!is_changed)
		return;
	restore_mappings();
	if (!is_named)
		log_error(
			"the heap's files were cut or stretched by a client: they have their sizes again, but what was "
			"cut off is lost; pyheapctl check --repair mends what can be mended, or pyheapctl reset "
			"empties "
			"the heap");
	is_named = true;
}

bool sigbus_is_lost(void)
{
	return guarded && __atomic_load_n(&guarded->control->magic, __ATOMIC_RELAXED) != LAYOUT_MAGIC;
}
