/* SPDX-License-Identifier: MIT */
#pragma once

/* A thread that plays the daemon for one session, as the test says. See peer.c. */

#include "client/session.h"

#include <check.h>
#include <pthread.h>

#define PEER_HEAP_SIZE (UINT64_C(16) << 20)

struct peer {
	char folder[32];
	char path[48];
	int listen_fd;
	pthread_t thread;
	bool is_over; /* the thread was waited for */
	void (*play)(struct peer *peer, int fd);
	struct heap *heap;         /* what a good daemon serves */
	uint32_t index;            /* the session's */
	Pyheap__ToDaemon *request; /* what the client said last */
	int n_fds;                 /* descriptors that a Welcome carries */
};

extern struct peer peer;

/* How a Welcome differs from a right one. */
struct peer_lie {
	uint32_t protocol;
	uint64_t layout_hash;
	uint32_t session;
	size_t id_len, token_len;
};

extern struct peer_lie peer_lie;

/* Check's fixture: a heap in memory files, with one session admitted. */
void peer_heap_setup(void);
void peer_heap_teardown(void);

/* Open a session with a thread that accepts it, receives the Hello, and then plays. The result of pyheap_open(). */
int peer_open(void (*play)(struct peer *peer, int fd), pyheap **ret);

/* Wait until the thread has done all that it does for the client's last call. */
void peer_rest(void);

/* Wait for the thread's end: peer.request is what the client said last. */
void peer_wait(void);

/* Wait for the thread's end, and forget what it received. */
void peer_end(void);

/* For the thread: the next message from the client goes to peer->request; false at the end of the connection. */
bool peer_receive(struct peer *p, int fd);

void peer_send(int fd, const Pyheap__FromDaemon *message);
void peer_send_error(int fd, int code);

/* A Welcome to the peer's heap, as peer_lie says. */
void peer_welcome(struct peer *p, int fd);

/* Map n runs of the length that the last request asked for, and grant them. */
void peer_grant(struct peer *p, int fd, uint32_t n);
