// Calls for starting programs that the C library declares only under _GNU_SOURCE, which Swift does not set.
#ifndef CPOSTGRES_SYSTEM_PROCESS_H
#define CPOSTGRES_SYSTEM_PROCESS_H

#include <spawn.h>

// <spawn.h>: POSIX_SPAWN_SETSID.
static const short postgres_POSIX_SPAWN_SETSID = 0x80;
extern int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int from);

// <sys/mman.h>: MFD_CLOEXEC.
static const unsigned int postgres_MFD_CLOEXEC = 1;
extern int memfd_create(const char *name, unsigned int flags);

#endif
