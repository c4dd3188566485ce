// SPDX-License-Identifier: MIT
/*
 * pyheapd: serves a heap of reference-counted objects, in shared memory, to the processes of this machine
 */
#include "daemon/daemon.h"
#include "daemon/log.h"
#include "daemon/store.h"

#include <fcntl.h>
#include <unistd.h>

/* Open what is closed of stdin, stdout and stderr. A socket or the heap would get that number, and the log would be
 * written into it. */
static bool fill_stdio(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	struct options options;

	if (!fill_stdio())
		return EXIT_RUNTIME;
	log_init();
	if (options_parse(&options, argc, argv) < 0)
		return EXIT_USAGE;
	if (options.done)
		return EXIT_OK;
	log_set_level(options.log_level);
	return options_exit_code(options.remove ? store_remove(&options) : daemon_run(&options));
}
