// SPDX-License-Identifier: MIT
/*
 * pyheapd: serves a heap of reference-counted objects, in shared memory, to the processes of this machine
 */
#include "daemon/daemon.h"
#include "daemon/log.h"

int main(int argc, char **argv)
{
	struct options options;

	log_init();
	if (options_parse(&options, argc, argv) < 0)
		return EXIT_USAGE;
	if (options.done)
		return EXIT_OK;
	return exit_code_of(options.remove ? store_remove(&options) : daemon_run(&options));
}
