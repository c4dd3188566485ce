/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The daemon's truth: what the daemon decides on, in a file that no client ever gets. See truth.c.
 *
 * The daemon alone writes and reads all of it. What clients have to know of it is copied to the control segment, from
 * where the daemon never reads it back.
 */

#include "heap/shared/geometry.h"

#define TRUTH_MAGIC   UINT64_C(0x0068747572747001) /* "\1ptruth\0" */
#define TRUTH_VERSION 2U

enum truth_arena_state {
	TRUTH_HOLE = 0,      /* no memory, not mapped */
	TRUTH_MAPPING = 1,   /* head of a run: is being allocated and mapped; no session knows of it */
	TRUTH_THERE = 2,     /* an arena: has memory; what it is used for the control segment says */
	TRUTH_BODY = 3,      /* of the run whose head counts it in n_arenas */
	TRUTH_UNMAPPING = 4, /* head of a run: is being unmapped from its last arena on */
};

/*
 * What is mapped or unmapped together is a run. Its length is told by its head alone: truth_settle() makes the other
 * entries agree with it. What is THERE is an arena each, since sessions cut and join free runs.
 */
struct truth_arena {
	uint32_t state;     /* enum truth_arena_state: commits what is written below */
	uint32_t n_arenas;  /* of a run; stored with the state where both change */
	uint32_t session1;  /* the session that it was granted to, plus one */
	uint32_t admission; /* that session's: another one may have its index by now */
};

struct truth_session {
	uint32_t state;         /* enum session_state: ACTIVE commits all below */
	int32_t pid;            /* in pid_namespace; 0: it has none there */
	uint64_t start_time;    /* clock ticks since boot; 0: not known */
	uint64_t pid_namespace; /* inode; 0: while pid and start_time are being written */
	uint32_t uid;
	uint32_t gid;
	uint64_t token[2];
	char program[40];
	uint32_t admission; /* number of its admission to this heap; 0: by a daemon that did not count them */
	uint32_t reserved0;
	uint64_t image; /* of the process, differs after each execve(); 0: not known, or by a daemon that did not ask */
	uint64_t reserved[3];
};

/* Which files the truth is about. A heap that is made anew has new files. */
struct truth_files {
	uint64_t control_dev, control_ino;
	uint64_t heap_dev, heap_ino;
};

struct truth_head {
	uint64_t magic; /* stored last */
	uint32_t version;
	uint32_t reserved0;
	uint64_t layout_hash;
	struct truth_files files;
	uint64_t heap_size;
	uint32_t arena_size;
	uint32_t n_sessions;
	uint8_t heap_id[16];
	uint8_t name_key[16];
	char heap_name[64];
	uint64_t pid_namespace;   /* the heap's home */
	uint64_t ended;           /* not 0: the heap is being removed */
	uint32_t n_arenas_known;  /* entries before it have memory, here and in the control segment */
	uint32_t n_arenas_mapped; /* arenas before it have pool entries */
	uint32_t n_admissions;    /* of sessions, so far */
	uint32_t reserved1;
};

static_assert(sizeof(struct truth_arena) == 16 && offsetof(struct truth_arena, n_arenas) == 4, "stored at once");
static_assert(sizeof(struct truth_session) == 128, "");
static_assert(sizeof(struct truth_head) <= 4096, "the sessions begin on the next page");

/* Process-local. */
struct truth {
	struct truth_head *head;
	struct truth_session *sessions;
	struct truth_arena *arenas;
	uint32_t n_arenas;
	uint64_t size;
	int fd; /* owned; -1: memory without a file, which ends with the process and its children */
};

/* Allocate the memory of a part of a file. -ENOMEM, or what posix_fallocate() answers. */
int file_allocate(int fd, uint64_t offset, uint64_t size);

/* Of two open files. A negative errno of fstat(). */
int truth_files_of(struct truth_files *ret, int control_fd, int heap_fd);

/*
 * Make the truth of a heap without arenas and sessions, in a file or (fd -1) without one. The caller fills in what it
 * knows and calls truth_commit(). -ENOMEM, or an errno. On success it owns the descriptor.
 */
int truth_make(struct truth **ret, int fd, const struct truth_files *files, const struct heap_geometry *geometry);

/* From here on another daemon will go by it. */
void truth_commit(struct truth *truth);

/*
 * Open the truth of a heap. -ENODATA there is none: the file is empty, unfinished, damaged, or about other files.
 * -EPROTONOSUPPORT it is of another version or layout. On success it owns the descriptor, and is settled.
 */
int truth_open(struct truth **ret, int fd, const struct truth_files *files);

/* Make entries of arenas below n usable. -ENOMEM. */
int truth_extend(struct truth *truth, uint32_t n);

/* After a death: the entries of arenas agree with their heads. Idempotent. */
void truth_settle(struct truth *truth);

/* Release, all: what was written before is there for the next daemon, wherever this one is killed. */
void truth_arena_set_state(struct truth_arena *arena, enum truth_arena_state state);
void truth_arena_set_run(struct truth_arena *arena, enum truth_arena_state state, uint32_t n_arenas);
void truth_session_set_state(struct truth_session *session, uint32_t state);

/* Unmap and close; the file stays. May be NULL; returns NULL. */
struct truth *truth_free(struct truth *truth);

/* What arena i is. */
static inline uint32_t truth_arena_state(const struct truth *truth, uint32_t i)
{
	return i < __atomic_load_n(&truth->head->n_arenas_known, __ATOMIC_ACQUIRE)
		       ? __atomic_load_n(&truth->arenas[i].state, __ATOMIC_ACQUIRE)
		       : (uint32_t)TRUTH_HOLE;
}

/* The length of the run at arena i that is being mapped or unmapped; 0 where none begins. */
static inline uint32_t truth_run_length(const struct truth *truth, uint32_t i)
{
	uint32_t state = truth_arena_state(truth, i);

	return state == TRUTH_MAPPING || state == TRUTH_UNMAPPING
		       ? __atomic_load_n(&truth->arenas[i].n_arenas, __ATOMIC_RELAXED)
		       : 0;
}
