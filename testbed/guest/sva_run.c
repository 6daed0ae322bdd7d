// SPDX-License-Identifier: GPL-2.0-only
/*
 * Run a program, and whatever it starts, in address spaces that a device shares.
 *
 *	sva-run COUNTERS PROGRAM [ARGUMENT...]
 *	sva-run -n COUNTERS PROGRAM [ARGUMENT...]	the same, not bound
 *	sva-run -p COUNTERS				what the runs so far did
 *
 * The program has to be dynamically linked. It replaces this process, so that it
 * has the parent, the descriptors and the signals that it would have anyway; the
 * environment tells the preloaded library (sva_preload.c) what to do.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sva_run.h"

#define LIBRARY	"sva_preload.so"
#define DEVICE	"/dev/sva_testdev-0"

static struct sva_counters *map_counters(const char *path)
{
	struct sva_counters *c;
	int fd;

	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0 || ftruncate(fd, sizeof(*c)) || fchmod(fd, 0666)) {
		perror(path);
		exit(125);
	}
	c = mmap(NULL, sizeof(*c), PROT_READ, MAP_SHARED, fd, 0);
	if (c == MAP_FAILED) {
		perror(path);
		exit(125);
	}
	close(fd);
	return c;
}

static int print_counters(const struct sva_counters *c)
{
	printf("{\"programs\": %" PRIu64 ", \"bound\": %" PRIu64 ", \"busy\": %" PRIu64
	       ", \"refused\": %" PRIu64 ", \"last_error\": %" PRIu64 ", \"translations\": %" PRIu64
	       ", \"checked\": %" PRIu64 ", \"stale\": %" PRIu64 ", \"where\": [",
	       c->processes, c->bound, c->busy, c->refused, c->last_error, c->translated,
	       c->checked, c->stale);
	for (unsigned int i = 0; i < SVA_RUN_STALE && i < c->stale; i++)
		printf("%s\"0x%" PRIx64 "\"", i ? ", " : "", c->where[i]);
	puts("]}");
	return 0;
}

int main(int argc, char **argv)
{
	const char *device = getenv("SVA_TESTDEV");
	char path[PATH_MAX], library[PATH_MAX];
	int opt, bind = 1, print = 0;
	ssize_t len;

	while ((opt = getopt(argc, argv, "+np")) != -1) {
		if (opt == 'n')
			bind = 0;
		else if (opt == 'p')
			print = 1;
		else
			return 125;
	}
	if (argc - optind < (print ? 1 : 2)) {
		fprintf(stderr, "usage: sva-run [-n] COUNTERS PROGRAM [ARGUMENT...] | -p COUNTERS\n");
		return 125;
	}
	if (print)
		return print_counters(map_counters(argv[optind]));

	map_counters(argv[optind]);
	len = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (len < 0) {
		perror("/proc/self/exe");
		return 125;
	}
	path[len] = 0;
	snprintf(library, sizeof(library), "%s/" LIBRARY, dirname(path));
	setenv("LD_PRELOAD", library, 1);
	setenv(SVA_RUN_COUNTERS, argv[optind], 1);
	if (bind)
		setenv(SVA_RUN_DEVICE, device ? device : DEVICE, 1);
	else
		unsetenv(SVA_RUN_DEVICE);
	execvp(argv[optind + 1], argv + optind + 1);
	perror(argv[optind + 1]);
	return 127;
}
