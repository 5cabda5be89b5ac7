// What `import Glibc` does not expose: epoll, eventfd, and a few calls that are macros or variadic.
// Header-only, no logic.
#ifndef CPOSTGRES_SYSTEM_SHIM_H
#define CPOSTGRES_SYSTEM_SHIM_H

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#endif
