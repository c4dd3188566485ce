/* SPDX-License-Identifier: MIT */
#pragma once

/* One session asks for the end of another: see evict.c. */

#include "daemon/dsession.h"

/* Kill the process of the session of that index, if the one that asks may, and answer. */
void evict_ask(struct dsession *session, uint32_t index);
