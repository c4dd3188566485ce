// SPDX-License-Identifier: MIT
/*
 * demo-crew: start the workers, kill one of them in the middle of a folder, and have a fresh one take its place
 *
 *     demo-crew [--any-word] DEMO-COUNT
 *
 * The kill is not left to chance and not helped by the worker: it is stopped (SIGSTOP) at any moment, and if the heap
 * then says that it has claimed a folder whose result is not there, it is killed (SIGKILL); else it goes on, and is
 * stopped again a little later. A stopped process may have the global lock, so nothing is asked of the library
 * meanwhile: the lists are read where they lie, by pointers taken before.
 */
#include "tree.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VICTIM     1
#define VICTIM_NAP "300" /* ms in the middle of every folder */

struct crew {
	pyheap *heap;
	const char *program;
	bool any_word;
	pid_t pids[DEMO_N_WORKERS];

	const struct tree *tree;
	const pyheap_ref *folder_refs, *results;
	const struct folder **folders;
	const struct claim *claim; /* the victim's */
};

static void crew_attach(struct crew *crew)
{
	pyheap_ref root;

	must(pyheap_name_get(crew->heap, DEMO_ROOT, &root), DEMO_ROOT); /* held until the session ends */
	crew->tree = must_data(crew->heap, root, "tree");
	crew->folder_refs = must_data(crew->heap, crew->tree->folders, "folders");
	crew->results = must_data(crew->heap, crew->tree->results, "results");
	const pyheap_ref *claims = must_data(crew->heap, crew->tree->claims, "claims");
	crew->claim = must_data(crew->heap, claims[VICTIM], "claim");

	crew->folders = calloc(crew->tree->n_folders, sizeof(crew->folders[0]));
	if (!crew->folders)
		die("out of memory");
	for (uint64_t i = 0; i < crew->tree->n_folders; i++)
		crew->folders[i] = must_data(crew->heap, crew->folder_refs[i], "folder");
}

/* Another process begins at its own main(): this one's session is nothing to it. */
static void crew_start(struct crew *crew, unsigned slot, bool nap)
{
	char number[16];
	char *argv[8] = {(char *)crew->program};
	size_t n = 1;

	snprintf(number, sizeof(number), "%u", slot);
	if (crew->any_word)
		argv[n++] = (char *)"--any-word";
	if (nap) {
		argv[n++] = (char *)"--nap";
		argv[n++] = (char *)VICTIM_NAP;
	}
	argv[n++] = number;

	fflush(NULL);
	pid_t pid = fork();
	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* no worker is left behind */
		execv(argv[0], argv);
		fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	crew->pids[slot] = pid;
}

/* The folder that the victim is half through; NULL: there is none at this moment. */
static const struct folder *victim_folder(const struct crew *crew)
{
	pyheap_ref ref = __atomic_load_n(&crew->claim->folder, __ATOMIC_ACQUIRE);

	for (uint64_t i = 0; ref && i < crew->tree->n_folders; i++) {
		if (crew->folder_refs[i] != ref)
			continue;
		bool done = __atomic_load_n(&crew->results[i], __ATOMIC_ACQUIRE);
		uint64_t n_done = __atomic_load_n(&crew->claim->n_done, __ATOMIC_ACQUIRE);
		return done || n_done < crew->folders[i]->n_files / 2 ? NULL : crew->folders[i];
	}
	return NULL;
}

/* Wait until the victim says that it is half through a folder. */
static void wait_for_victim(const struct crew *crew)
{
	const struct timespec pause = {.tv_nsec = 1000000};

	while (!victim_folder(crew)) {
		siginfo_t info = {0};
		if (waitid(P_PID, (id_t)crew->pids[VICTIM], &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid)
			die("worker %d ended before it could be killed", VICTIM);
		nanosleep(&pause, NULL);
	}
}

static void stop_victim(pid_t pid)
{
	int status;

	if (kill(pid, SIGSTOP) < 0 || waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
		die("worker %d ended before it could be killed", VICTIM);
}

/* True once somebody has finished a folder, and where there are too few folders for everybody. */
static bool is_under_way(const struct crew *crew)
{
	for (uint64_t i = 0; i < crew->tree->n_folders; i++)
		if (__atomic_load_n(&crew->results[i], __ATOMIC_ACQUIRE))
			return true;
	return crew->tree->n_folders < DEMO_N_WORKERS;
}

static void kill_victim(struct crew *crew)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	const struct folder *folder;
	pid_t pid = crew->pids[VICTIM];

	while (!is_under_way(crew))
		nanosleep(&pause, NULL);
	for (;;) {
		wait_for_victim(crew);
		stop_victim(pid);
		folder = victim_folder(crew);
		if (folder)
			break;
		kill(pid, SIGCONT);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	printf("worker %d (pid %d) is killed in %s, %ju of %ju files counted\n", VICTIM, pid,
		(const char *)must_data(crew->heap, folder->path, "path"), (uintmax_t)crew->claim->n_done,
		(uintmax_t)folder->n_files);
}

/* Wait for all; true when each of them ended well. */
static bool crew_wait(struct crew *crew)
{
	bool ok = true;
	int status;

	for (unsigned i = 0; i < DEMO_N_WORKERS; i++) {
		if (waitpid(crew->pids[i], &status, 0) != crew->pids[i])
			die("waitpid: %s", strerror(errno));
		ok = ok && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	}
	return ok;
}

int main(int argc, char **argv)
{
	struct crew crew = {.any_word = argc > 2 && strcmp(argv[1], "--any-word") == 0};

	if (argc != (crew.any_word ? 3 : 2))
		die("usage: demo-crew [--any-word] DEMO-COUNT");
	crew.program = argv[argc - 1];
	must(pyheap_open(&crew.heap, NULL), "open");
	crew_attach(&crew);

	crew_start(&crew, VICTIM, true); /* first, so that there is a folder left for it */
	wait_for_victim(&crew);
	for (unsigned i = 0; i < DEMO_N_WORKERS; i++)
		if (i != VICTIM)
			crew_start(&crew, i, false);
	kill_victim(&crew);
	crew_start(&crew, VICTIM, false);

	bool ok = crew_wait(&crew);
	free(crew.folders);
	pyheap_close(crew.heap);
	if (!ok)
		die("a worker failed");
	return 0;
}
