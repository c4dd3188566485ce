// SPDX-License-Identifier: MIT
/*
 * demo-count: one of the workers that count what demo-load put into the heap
 *
 *     demo-count [--nap MS] [--any-word] SLOT       SLOT: 0 to DEMO_N_WORKERS - 1, one living process each
 *
 * A worker takes a folder from the queue, counts its files where they lie in the heap and leaves the result in the
 * tree's list of results. Each folder must be counted once, whichever process is killed when. Three rules see to that:
 *
 * 1. Truth is the list of results: a folder is done when its place there has something, and what is there gets summed.
 *    The place is filled by one call, which happens as a whole or not at all; so no folder is half counted or counted
 *    twice, even were it to be gone through twice.
 * 2. A worker writes down in its claim what it counts. It takes the folder from the queue and claims it under the
 * global lock, so no living worker is ever seen in between. A worker that finds its claim filled when it starts has
 * taken the slot of a dead one over, and counts that folder first.
 * 3. A worker that died just between the two has left a folder that is not in the queue, not claimed and not done (its
 * hold went with it, but the tree still holds the folder). So a worker that finds the queue empty looks for such
 * folders before it goes.
 *
 * --nap has it sleep in the middle of every folder, so that there is something to see, also on a small tree.
 */
#include "tree.h"
#include "words.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct worker {
	pyheap *heap;
	struct tree_types types;
	unsigned long slot, nap_ms;
	bool any_word;

	pyheap_ref root, queue, claim_ref, results_ref; /* root and queue are held, and keep all others */
	const struct tree *tree;
	const pyheap_ref *folders, *results, *claims; /* the lists' slots, to be read where they lie */
	struct claim *claim;
	struct string_set identifiers;
};

static void worker_attach(struct worker *w)
{
	must(pyheap_name_get(w->heap, DEMO_ROOT, &w->root), DEMO_ROOT);
	must(pyheap_name_get(w->heap, DEMO_QUEUE, &w->queue), DEMO_QUEUE);
	w->tree = must_data(w->heap, w->root, "tree");
	w->folders = must_data(w->heap, w->tree->folders, "folders");
	w->results = must_data(w->heap, w->tree->results, "results");
	w->results_ref = w->tree->results;
	w->claims = must_data(w->heap, w->tree->claims, "claims");
	w->claim_ref = w->claims[w->slot];
	w->claim = must_data(w->heap, w->claim_ref, "claim");
}

static bool is_claimed(struct worker *w, pyheap_ref folder)
{
	for (size_t i = 0; i < DEMO_N_WORKERS; i++) {
		const struct claim *claim = must_data(w->heap, w->claims[i], "claim");
		if (claim->folder == folder)
			return true;
	}
	return false;
}

/* Under the lock: a folder that nobody has, see rule 3. It is held for the caller. */
static pyheap_ref find_orphan(struct worker *w)
{
	for (size_t i = 0; i < w->tree->n_folders; i++) {
		if (w->results[i] || is_claimed(w, w->folders[i]))
			continue;
		must(pyheap_incref(w->heap, w->folders[i]), "incref");
		return w->folders[i];
	}
	return 0;
}

/* The next folder to count, claimed and held; 0: there are no more. */
static pyheap_ref take_folder(struct worker *w)
{
	pyheap_ref folder = 0;

	must(pyheap_lock(w->heap), "lock");
	int r = pyheap_queue_pop(w->heap, w->queue, &folder, 0);
	if (r == -EAGAIN)
		folder = find_orphan(w);
	else
		must(r, "queue pop");
	w->claim->n_done = 0;
	must(pyheap_slot_set(w->heap, w->claim_ref, offsetof(struct claim, folder), folder), "claim");
	must(pyheap_unlock(w->heap), "unlock");
	return folder;
}

static void nap(unsigned long ms)
{
	struct timespec rest = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

	while (nanosleep(&rest, &rest) < 0 && errno == EINTR)
		;
}

/* Go through the files of a folder, which its holder keeps in place. Nothing is copied. */
static void count_files(struct worker *w, const struct folder *folder, struct count *count)
{
	const pyheap_ref *files = must_data(w->heap, folder->files, "files");
	struct text_count text = {0};

	for (uint64_t i = 0; i < folder->n_files; i++) {
		if (w->nap_ms && i == folder->n_files / 2)
			nap(w->nap_ms);
		const struct file *file = must_data(w->heap, files[i], "file");
		const char *contents = must_data(w->heap, file->contents, "contents");
		size_t size = (size_t)pyheap_size(w->heap, file->contents);
		if (!text_count(contents, size, w->any_word, &text, &w->identifiers))
			die("out of memory");
		count->n_bytes += size;
		w->claim->n_done = i + 1;
	}
	count->n_files = folder->n_files;
	count->n_lines = text.n_lines;
	count->n_words = text.n_words;
}

/* The set as one object of bytes: each identifier and a newline. */
static pyheap_ref put_identifiers(struct worker *w)
{
	const struct string_set *set = &w->identifiers;
	size_t size = 0;
	pyheap_ref ref;

	for (size_t i = 0; i < set->n_places; i++)
		size += set->places[i].p ? set->places[i].n + 1 : 0;
	must(pyheap_new(w->heap, PYHEAP_BYTES, size, &ref), "new identifiers");
	char *p = must_data(w->heap, ref, "identifiers");
	for (size_t i = 0; i < set->n_places; i++) {
		if (!set->places[i].p)
			continue;
		p = mempcpy(p, set->places[i].p, set->places[i].n);
		*p++ = '\n';
	}
	return ref;
}

static void count_folder(struct worker *w, pyheap_ref ref)
{
	const struct folder *folder = must_data(w->heap, ref, "folder");
	struct count count = {0};
	pyheap_ref result;

	string_set_clear(&w->identifiers);
	count_files(w, folder, &count);
	must(pyheap_new(w->heap, w->types.count, sizeof(struct count), &result), "new count");
	struct count *shared = must_data(w->heap, result, "count");
	shared->n_files = count.n_files;
	shared->n_bytes = count.n_bytes;
	shared->n_lines = count.n_lines;
	shared->n_words = count.n_words;

	pyheap_ref identifiers = put_identifiers(w);
	must(pyheap_slot_set(w->heap, result, offsetof(struct count, identifiers), identifiers), "slot set");
	must(pyheap_decref(w->heap, identifiers), "decref");

	must(pyheap_list_set(w->heap, w->results_ref, folder->index, result), "result"); /* now the folder is done */
	must(pyheap_decref(w->heap, result), "decref");
}

/* The folder that the process before in this slot had claimed, held; 0: none, or it had finished it. */
static pyheap_ref take_over(struct worker *w)
{
	pyheap_ref ref;

	must(pyheap_slot_get(w->heap, w->claim_ref, offsetof(struct claim, folder), &ref), "claim");
	if (!ref)
		return 0;
	const struct folder *folder = must_data(w->heap, ref, "folder");
	if (w->results[folder->index]) {
		must(pyheap_decref(w->heap, ref), "decref");
		return 0;
	}
	printf("worker %lu (pid %d) takes over %s\n", w->slot, getpid(),
		(const char *)must_data(w->heap, folder->path, "path"));
	return ref;
}

static void worker_run(struct worker *w)
{
	uint64_t n_folders = 0, n_files = 0;
	pyheap_ref folder = take_over(w);

	if (!folder)
		folder = take_folder(w);
	for (; folder; folder = take_folder(w)) {
		count_folder(w, folder);
		n_folders++;
		n_files += w->claim->n_done;
		must(pyheap_decref(w->heap, folder), "decref");
	}
	printf("worker %lu (pid %d) counted %ju files of %ju folders\n", w->slot, getpid(), (uintmax_t)n_files,
		(uintmax_t)n_folders);
}

static unsigned long parse_number(const char *s, unsigned long max)
{
	char *end;

	errno = 0;
	unsigned long n = strtoul(s, &end, 10);
	if (errno || end == s || *end || n > max)
		die("%s: not a number up to %lu", s, max);
	return n;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"nap", required_argument, NULL, 'n'}, {"any-word", no_argument, NULL, 'w'}, {0}};
	struct worker w = {0};

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (c == 'n')
			w.nap_ms = parse_number(optarg, 60000);
		else if (c == 'w')
			w.any_word = true;
		else
			exit(EXIT_FAILURE);
	}
	if (argc - optind != 1)
		die("usage: demo-count [--nap MS] [--any-word] SLOT");
	w.slot = parse_number(argv[optind], DEMO_N_WORKERS - 1);
	setlinebuf(stdout);

	must(pyheap_open(&w.heap, NULL), "open");
	must(tree_types_register(w.heap, &w.types), "register types");
	worker_attach(&w);
	worker_run(&w);
	string_set_deinit(&w.identifiers);
	pyheap_close(w.heap);
	return 0;
}
