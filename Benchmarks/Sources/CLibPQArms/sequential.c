#include "internal.h"

#include <arpa/inet.h>
#include <endian.h>
#include <string.h>

bool libpq_arm_select(libpq_arm *arm, int32_t count, uint64_t *latencies) {
    for (int32_t i = 0; i < count; i++) {
        uint64_t start = latencies != NULL ? libpq_arm_now() : 0;
        uint32_t number = htonl((uint32_t)i);
        const char *values[1] = {(const char *)&number};
        const int lengths[1] = {4}, formats[1] = {1};
        PGresult *result = PQexecPrepared(arm->connection, "select", 1, values, lengths, formats, 1);
        uint32_t answer = ~number;
        if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 && PQgetlength(result, 0, 0) == 4)
            memcpy(&answer, PQgetvalue(result, 0, 0), 4);
        PQclear(result);
        if (answer != number) return libpq_arm_fail(arm, "select");
        if (latencies != NULL) latencies[i] = libpq_arm_now() - start;
    }
    return true;
}

static PGresult *run(libpq_arm *arm, const char *statement, const libpq_row *row, int parameters) {
    const char *values[2] = {row->key, row->data};
    const int lengths[2] = {row->key_length, row->data_length}, formats[2] = {1, 1};
    return PQexecPrepared(arm->connection, statement, parameters, values, lengths, formats, 1);
}

bool libpq_arm_upsert(libpq_arm *arm, const libpq_rows *rows, int32_t count, uint64_t *latencies) {
    for (int32_t i = 0; i < count; i++) {
        uint64_t start = latencies != NULL ? libpq_arm_now() : 0;
        PGresult *result = run(arm, "upsert", &rows->row[i % rows->count], 2);
        ExecStatusType status = PQresultStatus(result);
        PQclear(result);
        if (status != PGRES_COMMAND_OK) return libpq_arm_fail(arm, "upsert");
        if (latencies != NULL) latencies[i] = libpq_arm_now() - start;
    }
    return true;
}

bool libpq_arm_naive(
    libpq_arm *arm, const libpq_rows *rows, int32_t count, uint64_t *latencies, int64_t *duplicate_keys) {
    for (int32_t i = 0; i < count; i++) {
        const libpq_row *row = &rows->row[i % rows->count];
        uint64_t start = latencies != NULL ? libpq_arm_now() : 0;
        PGresult *result = run(arm, "exists", row, 1);
        bool ok = PQresultStatus(result) == PGRES_TUPLES_OK, exists = PQntuples(result) > 0;
        PQclear(result);
        if (!ok) return libpq_arm_fail(arm, "exists");
        result = run(arm, exists ? "update" : "insert", row, 2);
        if (PQresultStatus(result) != PGRES_COMMAND_OK) {
            const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
            ok = state != NULL && strcmp(state, "23505") == 0;
            *duplicate_keys += ok;
        }
        PQclear(result);
        if (!ok) return libpq_arm_fail(arm, "update or insert");
        if (latencies != NULL) latencies[i] = libpq_arm_now() - start;
    }
    return true;
}

bool libpq_arm_bulk(libpq_arm *arm, const libpq_arrays *arrays) {
    const char *values[2] = {arrays->bytes[0], arrays->bytes[1]};
    const int formats[2] = {1, 1};
    PGresult *result = PQexecPrepared(arm->connection, "bulk", 2, values, arrays->length, formats, 1);
    ExecStatusType status = PQresultStatus(result);
    PQclear(result);
    return status == PGRES_COMMAND_OK || libpq_arm_fail(arm, "bulk");
}

bool libpq_arm_bulk_rows(libpq_arm *arm, const libpq_rows *rows) {
    libpq_arrays *arrays = libpq_arrays_new(rows);
    if (arrays == NULL) return libpq_arm_fail(arm, "out of memory");
    bool ok = libpq_arm_bulk(arm, arrays);
    libpq_arrays_free(arrays);
    return ok;
}

static uint64_t read64(const PGresult *result, int column) {
    uint64_t bytes;
    memcpy(&bytes, PQgetvalue(result, 0, column), 8);
    return be64toh(bytes);
}

bool libpq_arm_read_rows(libpq_arm *arm, int32_t count, double *checksum) {
    uint32_t number = htonl((uint32_t)count);
    const char *values[1] = {(const char *)&number};
    const int lengths[1] = {4}, formats[1] = {1};
    if (!PQsendQueryPrepared(arm->connection, "rows", 1, values, lengths, formats, 1)) return libpq_arm_fail(arm, "rows");
    if (!PQsetSingleRowMode(arm->connection)) return libpq_arm_fail(arm, "single-row mode");
    int32_t rows = 0;
    uint64_t sum = 0;
    double floats = 0;
    bool ok = true;
    for (PGresult *result; (result = PQgetResult(arm->connection)) != NULL; PQclear(result)) {
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_TUPLES_OK) continue; // the end, without rows
        ok = ok && status == PGRES_SINGLE_TUPLE && PQnfields(result) == 5;
        if (!ok) continue;
        uint32_t small;
        memcpy(&small, PQgetvalue(result, 0, 0), 4);
        sum += ntohl(small) + read64(result, 1) + (uint64_t)PQgetlength(result, 0, 2) + read64(result, 4);
        uint64_t bits = read64(result, 3);
        double value;
        memcpy(&value, &bits, 8);
        floats += value;
        rows++;
    }
    *checksum = floats + (double)sum;
    return (ok && rows == count) || libpq_arm_fail(arm, "rows");
}
