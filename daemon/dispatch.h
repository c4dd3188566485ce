/* SPDX-License-Identifier: MIT */
#pragma once

/* Which message goes where: see dispatch.c. */

#include "daemon/admit.h"

/* What the connections call; their owner is a struct admission. */
extern const struct connection_handlers dispatch_handlers;
