/* SPDX-License-Identifier: MIT */
#pragma once

/* pyheapd as a whole: see daemon.c. */

#include "daemon/options.h"

/* Serve until SIGTERM or SIGINT. 0, or what made it impossible, which the log says. */
int daemon_run(const struct options *options);
