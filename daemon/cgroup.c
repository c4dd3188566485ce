// SPDX-License-Identifier: MIT
/*
 * Memory cgroups
 *
 * The pages of a heap are charged to the memory cgroup of the daemon, which allocates them. When a cgroup, or one that
 * it is in, is at its limit, the kernel kills a process of it: most often the daemon, which is the largest. /dev/shm
 * knows nothing of this limit. So it is asked for here, before memory is promised, and before it is granted.
 *
 * What is room: the limit, less what is in use, but for the page cache of files, which the kernel drops by itself, and
 * less a 64th of the limit for what others of the cgroup, and the kernel, take meanwhile. Swap is not counted.
 *
 * Versions 1 and 2 differ in the names of the files. A process may see its cgroup's folder only (a container): then the
 * mount point is that cgroup. Limits may be changed at any time, so the files stay open and are read anew.
 *
 * The state is this process's, as its cgroup is; there is one.
 */
#include "daemon/cgroup.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LEVELS_MAX 16
#define UNLIMITED  (UINT64_C(1) << 62) /* version 1 says a number near 2^63 where there is no limit */

struct version {
	const char *limit, *usage, *inactive, *active; /* two files, and two words of memory.stat */
};

static const struct version version1 = {
	.limit = "memory.limit_in_bytes",
	.usage = "memory.usage_in_bytes",
	.inactive = "\ntotal_inactive_file ",
	.active = "\ntotal_active_file ",
};
static const struct version version2 = {
	.limit = "memory.max",
	.usage = "memory.current",
	.inactive = "\ninactive_file ",
	.active = "\nactive_file ",
};

/* A cgroup, and those that it is in. */
struct level {
	int limit_fd;
	int usage_fd;
	int stat_fd;
};

static const struct version *version;
static struct level levels[LEVELS_MAX];
static unsigned int n_levels;

/* ---- where they are -------------------------------------------------------------------------------------------- */

/* Is `word` one of a list that commas separate? */
static bool lists(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
		if (strncmp(p, word, n) == 0 && (p[n] == ',' || !p[n]))
			return true;
	return false;
}

static FILE *open_proc(const char *proc, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", proc, name);
	return fopen(path, "re");
}

/* The path of the cgroup that limits memory, from the root of its hierarchy. Sets the version. */
static bool find_path(const char *proc, char *ret, size_t size)
{
	FILE *file = open_proc(proc, "cgroup");
	char line[4096];

	version = NULL;
	while (file && fgets(line, sizeof(line), file)) {
		char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
		bool is_v1;

		if (!path)
			continue;
		*path++ = '\0';
		path[strcspn(path, "\n")] = '\0';
		is_v1 = lists(controllers + 1, "memory");
		if (!is_v1 && (controllers[1] || version)) /* a controller of version 1 is in no cgroup of version 2 */
			continue;
		version = is_v1 ? &version1 : &version2;
		snprintf(ret, size, "%s", path);
		if (is_v1)
			break;
	}
	if (file)
		fclose(file);
	return version != NULL;
}

/* Where the hierarchy is mounted, and which of its cgroups is seen there. */
static bool find_mount(const char *proc, char root[4096], char point[4096])
{
	FILE *file = open_proc(proc, "mountinfo");
	char line[8192], type[64], options[1024];
	bool is_found = false;

	while (file && !is_found && fgets(line, sizeof(line), file)) {
		const char *rest = strstr(line, " - ");

		if (!rest || sscanf(line, "%*s %*s %*s %4095s %4095s", root, point) != 2 ||
			sscanf(rest, " - %63s %*s %1023s", type, options) != 2)
			continue;
		is_found = version == &version1 ? strcmp(type, "cgroup") == 0 && lists(options, "memory")
						: strcmp(type, "cgroup2") == 0;
	}
	if (file)
		fclose(file);
	return is_found;
}

/* ---- their files ----------------------------------------------------------------------------------------------- */

static int open_file(const char *folder, const char *name)
{
	char path[8448];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Not where it has no limit by its nature, as the root of all. */
static void add_level(const char *folder)
{
	struct level *level = &levels[n_levels];

	if (n_levels == LEVELS_MAX)
		return;
	level->limit_fd = open_file(folder, version->limit);
	if (level->limit_fd < 0)
		return;
	level->usage_fd = open_file(folder, version->usage);
	level->stat_fd = open_file(folder, "memory.stat");
	n_levels++;
}

void cgroup_memory_open(const char *proc)
{
	char path[4096] = "", root[4096] = "", point[4096] = "", folder[8192];
	const char *below;
	size_t n_root;

	cgroup_memory_close();
	if (!find_path(proc, path, sizeof(path)) || !find_mount(proc, root, point))
		return;
	n_root = strcmp(root, "/") == 0 ? 0 : strlen(root);
	below = strncmp(path, root, n_root) == 0 && (path[n_root] == '/' || !path[n_root]) ? path + n_root : "";
	if (strstr(below, "/..")) /* it is outside of what this process is shown */
		below = "";
	snprintf(folder, sizeof(folder), "%s%s", point, strcmp(below, "/") == 0 ? "" : below);
	for (;;) {
		add_level(folder);
		if (strlen(folder) <= strlen(point))
			break;
		*strrchr(folder, '/') = '\0';
	}
}

void cgroup_memory_close(void)
{
	for (unsigned int i = 0; i < n_levels; i++) {
		close(levels[i].limit_fd);
		if (levels[i].usage_fd >= 0)
			close(levels[i].usage_fd);
		if (levels[i].stat_fd >= 0)
			close(levels[i].stat_fd);
	}
	n_levels = 0;
}

/* ---- what they say --------------------------------------------------------------------------------------------- */

static bool read_text(int fd, char *ret, size_t size)
{
	ssize_t n = fd < 0 ? -1 : pread(fd, ret, size - 1, 0);

	if (n <= 0)
		return false;
	ret[n] = '\0';
	return true;
}

/* "max", and what cannot be read, is no limit. */
static uint64_t limit_of(const struct level *level)
{
	char text[64];
	uint64_t n;

	if (!read_text(level->limit_fd, text, sizeof(text)) || *text < '0' || *text > '9')
		return UINT64_MAX;
	n = strtoull(text, NULL, 10);
	return n >= UNLIMITED ? UINT64_MAX : n;
}

/* The number behind a word of memory.stat; the word begins with a newline. */
static uint64_t number_behind(const char *text, const char *word)
{
	const char *p = strncmp(text, word + 1, strlen(word) - 1) == 0 ? text - 1 : strstr(text, word);

	return p ? strtoull(p + strlen(word), NULL, 10) : 0;
}

static uint64_t room_of(const struct level *level)
{
	uint64_t limit = limit_of(level), used = 0, dropped;
	char text[8192];

	if (limit == UINT64_MAX)
		return limit;
	if (read_text(level->usage_fd, text, sizeof(text)))
		used = strtoull(text, NULL, 10);
	if (read_text(level->stat_fd, text, sizeof(text))) {
		dropped = number_behind(text, version->inactive) + number_behind(text, version->active);
		used -= dropped < used ? dropped : used;
	}
	used += limit / 64;
	return used < limit ? limit - used : 0;
}

uint64_t cgroup_memory_limit(void)
{
	uint64_t min = UINT64_MAX;

	for (unsigned int i = 0; i < n_levels; i++)
		if (limit_of(&levels[i]) < min)
			min = limit_of(&levels[i]);
	return min;
}

uint64_t cgroup_memory_room(void)
{
	uint64_t min = UINT64_MAX, n;

	for (unsigned int i = 0; i < n_levels; i++) {
		n = room_of(&levels[i]);
		if (n < min)
			min = n;
	}
	return min;
}
