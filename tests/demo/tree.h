/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the demo keeps in the heap
 *
 *     "demo.root" --> tree --> folders: a list --> folder --> path: bytes
 *                      |                             '----> files: a list --> file --> name: bytes
 *                      |                                                        '----> contents: bytes
 *                      |-----> results: a list, as long as folders: the count of folder i, empty while it has none
 *                      '-----> claims: a list --> claim --> folder: what worker i counts at this moment
 *
 *     "demo.queue" --> the folders that nobody has taken yet
 *
 * The tree alone keeps everything: when its name is removed, all of it goes. The structs lie in shared memory as they
 * are here, so their members are 8 bytes wide each; members of type pyheap_ref are slots.
 */

#include <pyheap.h>
#include <stdbool.h>
#include <stdnoreturn.h>

#define DEMO_ROOT      "demo.root"
#define DEMO_QUEUE     "demo.queue"
#define DEMO_N_WORKERS 4

struct tree {
	pyheap_ref folders;
	pyheap_ref results;
	pyheap_ref claims;
	uint64_t n_folders;
};

struct folder {
	pyheap_ref path;
	pyheap_ref files;
	uint64_t index; /* in the tree's folders and results */
	uint64_t n_files;
};

struct file {
	pyheap_ref name;
	pyheap_ref contents;
};

struct claim {
	pyheap_ref folder; /* 0: none */
	uint64_t n_done;   /* files of it counted so far, for processes that look on */
};

struct count {
	pyheap_ref identifiers; /* bytes: the different ones of the folder, a newline after each */
	uint64_t n_files;
	uint64_t n_bytes;
	uint64_t n_lines;
	uint64_t n_words;
};

/* The types of these structs in the heap. */
struct tree_types {
	pyheap_type tree, folder, file, claim, count;
};

/* Register the five types, or find them where another process did so before. */
int tree_types_register(pyheap *heap, struct tree_types *ret);

/* Ends the program with one line where r is negative; what its session held, the daemon drops. Returns r. */
int must(int r, const char *what);

/* The payload of an object that must be there. */
void *must_data(pyheap *heap, pyheap_ref ref, const char *what);

/* Say what went wrong in one line, and end. */
noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
