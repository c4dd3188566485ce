// SPDX-License-Identifier: MIT
/*
 * Peers: Redis and memcached, over a Unix socket
 *
 * name-size of either: get a value of that size by its name, as one request and one answer, into a buffer, and look at
 * its first and last byte. N_NAMES_SIZED of them take turns. The requests are ready-made; what is measured is the
 * server and the socket, not a client library. bench.py starts the server; $BENCH_SOCKET is where it listens.
 */
#include "works.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TEXT_MAX 128 /* of what stands around a value */

/* Each writes into ret and returns how long that is. */
struct dialect {
	int (*set)(char ret[TEXT_MAX], const char *name, size_t size); /* before the value */
	int (*get)(char ret[TEXT_MAX], const char *name);
	int (*head)(char ret[TEXT_MAX], const char *name, size_t size); /* of the answer to that, before the value */
	const char *head_end;                                           /* after the value */
	const char *stored;                                             /* the answer to `set` */
};

struct server_state {
	int fd;
	size_t size;
	char *buffer;
	struct {
		char get[TEXT_MAX];
		size_t n_get;
		size_t n_head; /* bytes before the value in the answer */
		size_t n_answer;
	} values[N_NAMES_SIZED];
	uint64_t sum; /* of what was read, so that it is read */
};

/* ---- bytes ------------------------------------------------------------------------------------------------------ */

static char mark(size_t i)
{
	return (char)('a' + i);
}

static int bytes_send(int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

		if (sent < 0)
			return -errno;
		bytes += sent;
		n -= (size_t)sent;
	}
	return 0;
}

static int bytes_receive(int fd, char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t received = recv(fd, bytes, n, 0);

		if (received <= 0)
			return received < 0 ? -errno : -ECONNRESET;
		bytes += received;
		n -= (size_t)received;
	}
	return 0;
}

/* ---- dialects --------------------------------------------------------------------------------------------------- */

static int redis_set(char ret[TEXT_MAX], const char *name, size_t size)
{
	return snprintf(ret, TEXT_MAX, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%zu\r\n", strlen(name), name, size);
}

static int redis_get(char ret[TEXT_MAX], const char *name)
{
	return snprintf(ret, TEXT_MAX, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", strlen(name), name);
}

static int redis_head(char ret[TEXT_MAX], const char *name, size_t size)
{
	(void)name;
	return snprintf(ret, TEXT_MAX, "$%zu\r\n", size);
}

static int memcached_set(char ret[TEXT_MAX], const char *name, size_t size)
{
	return snprintf(ret, TEXT_MAX, "set %s 0 0 %zu\r\n", name, size);
}

static int memcached_get(char ret[TEXT_MAX], const char *name)
{
	return snprintf(ret, TEXT_MAX, "get %s\r\n", name);
}

static int memcached_head(char ret[TEXT_MAX], const char *name, size_t size)
{
	return snprintf(ret, TEXT_MAX, "VALUE %s 0 %zu\r\n", name, size);
}

static const struct dialect redis = {
	.set = redis_set,
	.get = redis_get,
	.head = redis_head,
	.head_end = "\r\n",
	.stored = "+OK\r\n",
};

static const struct dialect memcached = {
	.set = memcached_set,
	.get = memcached_get,
	.head = memcached_head,
	.head_end = "\r\nEND\r\n",
	.stored = "STORED\r\n",
};

/* ---- the work --------------------------------------------------------------------------------------------------- */

static int server_connect(void)
{
	const char *path = getenv("BENCH_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (!path || strlen(path) >= sizeof(address.sun_path))
		return -EINVAL;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static int value_store(struct server_state *server, const struct dialect *dialect, size_t i)
{
	char name[WORK_NAME_BYTES], text[TEXT_MAX], answer[16] = "";
	int r;

	work_name(name, i);
	memset(server->buffer, '.', server->size);
	server->buffer[0] = server->buffer[server->size - 1] = mark(i);
	server->values[i].n_get = (size_t)dialect->get(server->values[i].get, name);
	server->values[i].n_head = (size_t)dialect->head(text, name, server->size);
	server->values[i].n_answer = server->values[i].n_head + server->size + strlen(dialect->head_end);

	r = bytes_send(server->fd, text, (size_t)dialect->set(text, name, server->size));
	if (r >= 0)
		r = bytes_send(server->fd, server->buffer, server->size);
	if (r >= 0)
		r = bytes_send(server->fd, "\r\n", 2);
	if (r >= 0)
		r = bytes_receive(server->fd, answer, strlen(dialect->stored));
	return r < 0 ? r : strcmp(answer, dialect->stored) ? -EBADMSG : 0;
}

static int server_teardown(void *state)
{
	struct server_state *server = state;

	if (server->fd >= 0)
		close(server->fd);
	free(server->buffer);
	free(server);
	return 0;
}

static int server_begin(void **ret, uint64_t size, const struct dialect *dialect)
{
	struct server_state *server = calloc(1, sizeof(*server));
	int r = 0;

	if (!server)
		return -ENOMEM;
	server->size = size;
	server->buffer = malloc(size + 2 * TEXT_MAX);
	server->fd = server->buffer ? server_connect() : -ENOMEM;
	if (server->fd < 0)
		r = server->fd;
	for (size_t i = 0; r >= 0 && i < N_NAMES_SIZED; i++)
		r = value_store(server, dialect, i);
	if (r < 0) {
		server_teardown(server);
		return r;
	}
	*ret = server;
	return 0;
}

static int redis_setup(void **ret, uint64_t argument)
{
	return server_begin(ret, argument, &redis);
}

static int memcached_setup(void **ret, uint64_t argument)
{
	return server_begin(ret, argument, &memcached);
}

static inline int server_loop(struct server_state *server, uint64_t n, bool read)
{
	int r;

	for (uint64_t i = 0; i < n; i++) {
		size_t next = i % N_NAMES_SIZED;
		const char *value = server->buffer + server->values[next].n_head;

		r = bytes_send(server->fd, server->values[next].get, server->values[next].n_get);
		if (r >= 0)
			r = bytes_receive(server->fd, server->buffer, server->values[next].n_answer);
		if (r < 0)
			return r;
		if (value[0] != mark(next) || value[server->size - 1] != mark(next))
			return -EBADMSG;
		if (read)
			server->sum += work_sum(value, server->size);
	}
	return 0;
}

static int size_loop(void *state, uint64_t n)
{
	return server_loop(state, n, false);
}

static int read_loop(void *state, uint64_t n)
{
	return server_loop(state, n, true);
}

/* ----------------------------------------------------------------------------------------------------------------- */

static const struct work works[] = {
	{.key = "redis", .setup = redis_setup, .loop = size_loop, .teardown = server_teardown},
	{.key = "redis-read", .setup = redis_setup, .loop = read_loop, .teardown = server_teardown},
	{.key = "memcached", .setup = memcached_setup, .loop = size_loop, .teardown = server_teardown},
	{.key = "memcached-read", .setup = memcached_setup, .loop = read_loop, .teardown = server_teardown},
};

int main(int argc, char **argv)
{
	static const struct family family = {.works = works, .n_works = sizeof(works) / sizeof(*works)};
	static const struct family *const families[] = {&family};

	return contender_main(argc, argv, "", families, 1);
}
