#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t libpq_arm_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool libpq_arm_fail(libpq_arm *arm, const char *what) {
    snprintf(arm->error, sizeof arm->error, "libpq, %s: %s", what, PQerrorMessage(arm->connection));
    return false;
}

libpq_arm *libpq_arm_connect(const char *conninfo) {
    libpq_arm *arm = calloc(1, sizeof *arm);
    if (arm == NULL) return NULL;
    arm->connection = PQconnectdb(conninfo);
    if (PQstatus(arm->connection) != CONNECTION_OK) libpq_arm_fail(arm, "connect");
    return arm;
}

void libpq_arm_close(libpq_arm *arm) {
    PQfinish(arm->connection);
    free(arm);
}

const char *libpq_arm_error(const libpq_arm *arm) { return arm->error[0] == 0 ? NULL : arm->error; }

int libpq_arm_version(void) { return PQlibVersion(); }

bool libpq_arm_execute(libpq_arm *arm, const char *sql) {
    PGresult *result = PQexec(arm->connection, sql);
    ExecStatusType status = PQresultStatus(result);
    PQclear(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || libpq_arm_fail(arm, sql);
}

bool libpq_arm_prepare(libpq_arm *arm, const char *name, const char *sql) {
    PGresult *result = PQprepare(arm->connection, name, sql, 0, NULL);
    ExecStatusType status = PQresultStatus(result);
    PQclear(result);
    return status == PGRES_COMMAND_OK || libpq_arm_fail(arm, sql);
}
