/* SPDX-License-Identifier: MIT */
#pragma once

/* What the kernel has to offer: see probe.c. */

/* Says in the log what is missing, and where it is most often forbidden. -EOPNOTSUPP. */
int probe_kernel(void);
