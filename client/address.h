/* SPDX-License-Identifier: MIT */
#pragma once

/* Which socket a session is opened on, and who may serve it. See address.c. */

#include <sys/un.h>

/*
 * The address of `socket`; NULL: of the default one. A relative path is made absolute where that fits. -ENOENT: there
 * is no default, or the path is empty. -ENAMETOOLONG.
 */
int address_find(const char *socket, struct sockaddr_un *ret);

/* May the process at the other end of a connected socket serve this one? -EPERM: no; pyheap_open_error() says who. */
int address_check_server(int fd, const struct sockaddr_un *address);
