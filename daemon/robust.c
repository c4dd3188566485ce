// SPDX-License-Identifier: MIT
/*
 * What a thread has locked, by its own robust list
 *
 * The word of a lock in shared memory says whose it is, and anybody who has that memory can write it. The other side
 * cannot be written by others: each thread that locks a robust futex has it in a list in its own memory, by which the
 * kernel frees it when the thread dies (get_robust_list(2)). That list is read here, and each entry compared with where
 * the process has mapped the lock.
 *
 * The kernel lets a process look at its own user's processes, unless a security module forbids it, and root at all.
 * What is read is another process's to change meanwhile: everything is copied once, and the walk is bounded.
 */
#include "daemon/robust.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#define N_WORDS_MAX   64U   /* places at which a process has the lock mapped */
#define N_ENTRIES_MAX 2048U /* of a thread's list: as many as the kernel follows */

struct words {
	uint64_t addresses[N_WORDS_MAX];
	uint32_t n;
};

/* Where the process has the word of the file mapped. */
static int find_words(pid_t pid, const struct stat *of, uint64_t word_off, struct words *ret)
{
	char path[64], line[512];
	FILE *maps;

	ret->n = 0;
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	if (!maps)
		return -errno;
	while (ret->n <= N_WORDS_MAX && fgets(line, sizeof(line), maps)) {
		uint64_t begin, end, off, inode;
		unsigned int major_number, minor_number;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %x:%x %" SCNu64, &begin, &end, &off,
			    &major_number, &minor_number, &inode) != 6)
			continue;
		if (inode == of->st_ino && major_number == major(of->st_dev) && minor_number == minor(of->st_dev) &&
			word_off >= off && word_off - off < end - begin && ret->n++ < N_WORDS_MAX)
			ret->addresses[ret->n - 1] = begin + (word_off - off);
	}
	fclose(maps);
	return ret->n <= N_WORDS_MAX ? 0 : -E2BIG;
}

static int read_from(pid_t pid, uint64_t address, void *to, size_t size)
{
	struct iovec here = {to, size}, there = {(void *)(uintptr_t)address, size};
	ssize_t n = process_vm_readv(pid, &here, 1, &there, 1, 0);

	return n < 0 ? -errno : n == (ssize_t)size ? 0 : -EFAULT;
}

static int is_one_of(const struct words *words, uint64_t address)
{
	for (uint32_t i = 0; i < words->n; i++)
		if (words->addresses[i] == address)
			return 1;
	return 0;
}

static int walk(pid_t pid, uint64_t head_address, const struct words *words)
{
	uint64_t head[3]; /* struct robust_list_head: next, futex_offset, list_op_pending */
	uint64_t entry;
	int r = read_from(pid, head_address, head, sizeof(head));

	if (r < 0)
		return r;
	if (head[2] && is_one_of(words, (head[2] & ~UINT64_C(1)) + head[1]))
		return 1;
	entry = head[0] & ~UINT64_C(1);
	for (uint32_t i = 0; entry && entry != head_address; i++) {
		if (i == N_ENTRIES_MAX)
			return -E2BIG;
		if (is_one_of(words, entry + head[1]))
			return 1;
		r = read_from(pid, entry, &entry, sizeof(entry));
		if (r < 0)
			return r;
		entry &= ~UINT64_C(1);
	}
	return 0;
}

/*
 * Are mappings of the file found at all? Not on every file system: the numbers of its device in /proc/PID/maps may be
 * others than those of fstat(). This process has the lock mapped.
 */
static int is_found_here(const struct stat *st, uint64_t word_off)
{
	struct words words;

	return find_words(getpid(), st, word_off, &words) == 0 && words.n;
}

int robust_has(pid_t pid, uint32_t tid, int fd, uint64_t word_off)
{
	struct robust_list_head *head = NULL;
	struct words words;
	size_t size = 0;
	struct stat st;
	int r;

	static_assert(sizeof(struct robust_list_head) == 3 * sizeof(uint64_t), "walk()");
	if (fstat(fd, &st) < 0)
		return -errno;
	if (syscall(SYS_get_robust_list, (pid_t)tid, &head, &size) < 0)
		return -errno;
	if (size != sizeof(*head))
		return -EOPNOTSUPP;
	r = find_words(pid, &st, word_off, &words);
	if (r == 0 && !words.n && !is_found_here(&st, word_off))
		r = -EOPNOTSUPP;
	return r < 0 ? r : walk(pid, (uint64_t)(uintptr_t)head, &words);
}
