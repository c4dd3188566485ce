// SPDX-License-Identifier: MIT
/*
 * demo-load: put every file of a folder tree into the heap
 *
 *     demo-load FOLDER
 *
 * Regular files only, as `find -type f` lists them: symbolic links are neither followed nor loaded, and folders without
 * a file of their own are left out. A file is read straight into its object. At the end two names hold everything, and
 * this process may go.
 *
 * Every object is first held by this session, and let go of once something in the heap refers to it. Should the loader
 * die in between, the daemon drops its holds, and what no name leads to is freed.
 */
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A growing array of refs or of paths. */
struct vector {
	uint64_t *items;
	size_t n, n_allocated;
};

struct loader {
	pyheap *heap;
	struct tree_types types;
	struct vector paths;   /* char *: folders still to be read */
	struct vector folders; /* refs that this session holds */
	uint64_t n_files, n_bytes, n_links;
};

static void vector_push(struct vector *vector, uint64_t item)
{
	if (vector->n == vector->n_allocated) {
		vector->n_allocated = vector->n_allocated ? vector->n_allocated * 2 : 64;
		vector->items = reallocarray(vector->items, vector->n_allocated, sizeof(vector->items[0]));
		if (!vector->items)
			die("out of memory");
	}
	vector->items[vector->n++] = item;
}

/* A list of refs that this session holds; the list holds them from here on. */
static pyheap_ref make_list(pyheap *heap, const struct vector *refs)
{
	pyheap_ref list;

	must(pyheap_list_new(heap, refs->n, &list), "new list");
	for (size_t i = 0; i < refs->n; i++) {
		must(pyheap_list_set(heap, list, i, refs->items[i]), "list set");
		must(pyheap_decref(heap, refs->items[i]), "decref");
	}
	return list;
}

/* Give a hold of this session over to a slot. */
static void give_to_slot(pyheap *heap, pyheap_ref obj, size_t offset, pyheap_ref ref)
{
	must(pyheap_slot_set(heap, obj, offset, ref), "slot set");
	must(pyheap_decref(heap, ref), "decref");
}

static pyheap_ref put_string(pyheap *heap, const char *s)
{
	pyheap_ref ref;

	must(pyheap_put(heap, s, strlen(s) + 1, &ref), s);
	return ref;
}

/* Read the whole file into a new object: its bytes are never anywhere else. */
static pyheap_ref read_file(pyheap *heap, int fd, size_t size, const char *name)
{
	pyheap_ref contents;
	must(pyheap_new(heap, PYHEAP_BYTES, size, &contents), name);

	char *data = must_data(heap, contents, name);
	for (size_t n = 0; n < size;) {
		ssize_t r = read(fd, data + n, size - n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			die("%s: %s", name, r < 0 ? strerror(errno) : "became shorter while it was read");
		n += (size_t)r;
	}
	return contents;
}

/* The object of one file, or 0 where the entry is no regular file. A folder is put on the list of those to come. */
static pyheap_ref load_entry(struct loader *loader, int folder_fd, const char *folder_path, const char *name)
{
	pyheap_ref file;
	struct stat st;
	char *path;

	if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		die("%s/%s: %s", folder_path, name, strerror(errno));
	if (S_ISDIR(st.st_mode)) {
		if (asprintf(&path, "%s/%s", folder_path, name) < 0)
			die("out of memory");
		vector_push(&loader->paths, (uintptr_t)path);
	}
	loader->n_links += S_ISLNK(st.st_mode);
	if (!S_ISREG(st.st_mode))
		return 0;

	int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		die("%s/%s: %s", folder_path, name, strerror(errno));
	must(pyheap_new(loader->heap, loader->types.file, sizeof(struct file), &file), name);
	give_to_slot(loader->heap, file, offsetof(struct file, name), put_string(loader->heap, name));
	give_to_slot(loader->heap, file, offsetof(struct file, contents),
		read_file(loader->heap, fd, (size_t)st.st_size, name));
	close(fd);
	loader->n_bytes += (uint64_t)st.st_size;
	return file;
}

static void add_folder(struct loader *loader, const char *path, const struct vector *files)
{
	pyheap_ref ref;

	must(pyheap_new(loader->heap, loader->types.folder, sizeof(struct folder), &ref), "new folder");
	struct folder *folder = must_data(loader->heap, ref, "folder");
	folder->index = loader->folders.n;
	folder->n_files = files->n;
	give_to_slot(loader->heap, ref, offsetof(struct folder, path), put_string(loader->heap, path));
	give_to_slot(loader->heap, ref, offsetof(struct folder, files), make_list(loader->heap, files));
	vector_push(&loader->folders, ref);
	loader->n_files += files->n;
}

static void load_folder(struct loader *loader, const char *path)
{
	struct vector files = {0};
	DIR *dir = opendir(path);

	if (!dir)
		die("%s: %s", path, strerror(errno));
	for (struct dirent *entry; errno = 0, entry = readdir(dir);) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		pyheap_ref file = load_entry(loader, dirfd(dir), path, entry->d_name);
		if (file)
			vector_push(&files, file);
	}
	if (errno)
		die("%s: %s", path, strerror(errno));
	closedir(dir);
	if (files.n)
		add_folder(loader, path, &files);
	free(files.items);
}

static pyheap_ref make_claims(struct loader *loader)
{
	struct vector claims = {0};

	for (int i = 0; i < DEMO_N_WORKERS; i++) {
		pyheap_ref ref;
		must(pyheap_new(loader->heap, loader->types.claim, sizeof(struct claim), &ref), "new claim");
		((struct claim *)must_data(loader->heap, ref, "claim"))->n_done = 0;
		vector_push(&claims, ref);
	}
	pyheap_ref list = make_list(loader->heap, &claims);
	free(claims.items);
	return list;
}

/* A queue of all folders, each of them with a hold of the queue's own. */
static pyheap_ref make_queue(struct loader *loader)
{
	pyheap_ref queue;

	must(pyheap_queue_new(loader->heap, loader->folders.n, &queue), "new queue");
	for (size_t i = 0; i < loader->folders.n; i++) {
		must(pyheap_incref(loader->heap, loader->folders.items[i]), "incref");
		must(pyheap_queue_push(loader->heap, queue, loader->folders.items[i], 0), "queue push");
	}
	return queue;
}

/* The queue's name comes last: who finds it finds everything. */
static void publish(struct loader *loader)
{
	pyheap *heap = loader->heap;
	pyheap_ref root, results, queue = make_queue(loader);

	must(pyheap_list_new(heap, loader->folders.n, &results), "new list");
	must(pyheap_new(heap, loader->types.tree, sizeof(struct tree), &root), "new tree");
	((struct tree *)must_data(heap, root, "tree"))->n_folders = loader->folders.n;
	give_to_slot(heap, root, offsetof(struct tree, folders), make_list(heap, &loader->folders));
	give_to_slot(heap, root, offsetof(struct tree, results), results);
	give_to_slot(heap, root, offsetof(struct tree, claims), make_claims(loader));
	must(pyheap_name_set(heap, DEMO_ROOT, root), DEMO_ROOT);
	must(pyheap_name_set(heap, DEMO_QUEUE, queue), DEMO_QUEUE);
}

int main(int argc, char **argv)
{
	struct loader loader = {0};

	if (argc != 2)
		die("usage: demo-load FOLDER");
	must(pyheap_open(&loader.heap, NULL), "open");
	must(tree_types_register(loader.heap, &loader.types), "register types");

	char *top = strdup(argv[1]);
	if (!top)
		die("out of memory");
	vector_push(&loader.paths, (uintptr_t)top);
	while (loader.paths.n) {
		char *path = (char *)(uintptr_t)loader.paths.items[--loader.paths.n];
		load_folder(&loader, path);
		free(path);
	}
	if (!loader.folders.n)
		die("%s: no files in it", argv[1]);
	publish(&loader);
	printf("loaded %ju files, %ju bytes, of %zu folders; %ju symbolic links left out\n", (uintmax_t)loader.n_files,
		(uintmax_t)loader.n_bytes, loader.folders.n, (uintmax_t)loader.n_links);

	free(loader.paths.items);
	free(loader.folders.items);
	pyheap_close(loader.heap);
	return 0;
}
