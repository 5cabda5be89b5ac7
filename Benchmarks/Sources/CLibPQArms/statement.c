#include "internal.h"

#include <stdlib.h>
#include <time.h>

static const char name[] = "statement";

bool libpq_arm_prepare_statement(libpq_arm *arm, const libpq_statement *statement) {
    PGresult *result = PQprepare(arm->connection, name, statement->sql, statement->parameters, statement->types);
    ExecStatusType status = PQresultStatus(result);
    PQclear(result);
    return status == PGRES_COMMAND_OK || libpq_arm_fail(arm, statement->sql);
}

static bool run(libpq_arm *arm, const libpq_statement *statement, libpq_mode mode) {
    PGresult *result = NULL;
    switch (mode) {
    case libpq_mode_simple: result = PQexec(arm->connection, statement->simple_sql); break;
    case libpq_mode_unnamed:
        result = PQexecParams(
            arm->connection, statement->sql, statement->parameters, statement->types, statement->values, NULL, NULL,
            statement->binary_results);
        break;
    case libpq_mode_prepared:
        result = PQexecPrepared(
            arm->connection, name, statement->parameters, statement->values, NULL, NULL, statement->binary_results);
        break;
    }
    ExecStatusType status = PQresultStatus(result);
    PQclear(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || libpq_arm_fail(arm, statement->sql);
}

bool libpq_arm_statement(
    libpq_arm *arm, const libpq_statement *statement, libpq_mode mode, int32_t count, uint64_t *latencies) {
    for (int32_t i = 0; i < count; i++) {
        uint64_t start = libpq_arm_now();
        if (!run(arm, statement, mode)) return false;
        latencies[i] = libpq_arm_now() - start;
    }
    return true;
}

static bool send_statement(libpq_arm *arm, const void *context, int32_t index) {
    (void)index;
    const libpq_statement *statement = context;
    return PQsendQueryPrepared(
        arm->connection, name, statement->parameters, statement->values, NULL, NULL, statement->binary_results);
}

bool libpq_arm_statement_pipeline(libpq_arm *arm, const libpq_statement *statement, int32_t count, bool sync_each) {
    return libpq_arm_flight(arm, count, sync_each, send_statement, statement);
}

bool libpq_arm_open_loop(
    libpq_arm *arm, const libpq_statement *statement, uint64_t start, uint64_t interval, int32_t count,
    uint64_t *responses, uint64_t *services) {
    // The last stretch is waited for awake: a sleep may end that much late.
    enum { awake = 100000 };
    for (int32_t i = 0; i < count; i++) {
        uint64_t due = start + (uint64_t)i * interval;
        if (libpq_arm_now() + awake < due) {
            uint64_t until = due - awake;
            struct timespec time = {.tv_sec = (time_t)(until / 1000000000u), .tv_nsec = (long)(until % 1000000000u)};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
        }
        while (libpq_arm_now() < due) {}
        uint64_t begin = libpq_arm_now();
        if (!run(arm, statement, libpq_mode_prepared)) return false;
        uint64_t end = libpq_arm_now();
        responses[i] = end - due;
        services[i] = end - begin;
    }
    return true;
}

bool libpq_arm_read_text_rows(libpq_arm *arm, const char *sql, int32_t count, double *checksum) {
    PGresult *result = PQexecParams(arm->connection, sql, 0, NULL, NULL, NULL, NULL, 0);
    bool ok = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == count && PQnfields(result) == 5;
    double sum = 0;
    for (int row = 0; ok && row < count; row++) {
        sum += (double)strtol(PQgetvalue(result, row, 0), NULL, 10);
        sum += (double)strtoll(PQgetvalue(result, row, 1), NULL, 10);
        sum += PQgetlength(result, row, 2);
        sum += strtod(PQgetvalue(result, row, 3), NULL);
        sum += PQgetlength(result, row, 4);
    }
    PQclear(result);
    *checksum = sum;
    return ok || libpq_arm_fail(arm, sql);
}
