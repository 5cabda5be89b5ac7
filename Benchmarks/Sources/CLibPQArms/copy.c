#include "internal.h"

#include <arpa/inet.h>
#include <endian.h>
#include <string.h>

enum { block_size = 65536 };

static char *put16(char *to, uint16_t number) {
    uint16_t bytes = htons(number);
    memcpy(to, &bytes, 2);
    return to + 2;
}

static char *put32(char *to, uint32_t number) {
    uint32_t bytes = htonl(number);
    memcpy(to, &bytes, 4);
    return to + 4;
}

static char *put64(char *to, uint64_t number) {
    uint64_t bytes = htobe64(number);
    memcpy(to, &bytes, 8);
    return to + 8;
}

static bool finish(libpq_arm *arm, bool ok) {
    for (PGresult *result; (result = PQgetResult(arm->connection)) != NULL; PQclear(result))
        if (PQresultStatus(result) != PGRES_COMMAND_OK) ok = libpq_arm_fail(arm, "end of COPY");
    return ok;
}

bool libpq_arm_copy_in(libpq_arm *arm, const char *sql, const libpq_copy_row *rows, int32_t count) {
    static const char header[19] = "PGCOPY\n\377\r\n";
    char block[block_size + 512];
    PGresult *result = PQexec(arm->connection, sql);
    ExecStatusType status = PQresultStatus(result);
    PQclear(result);
    if (status != PGRES_COPY_IN) return libpq_arm_fail(arm, sql);
    memcpy(block, header, sizeof header);
    char *at = block + sizeof header;
    bool ok = true;
    for (int32_t i = 0; ok && i < count; i++) {
        const libpq_copy_row *row = &rows[i];
        uint64_t number;
        memcpy(&number, &row->number, 8);
        at = put32(put32(put16(at, 3), 4), (uint32_t)row->key);
        at = put32(at, (uint32_t)row->length);
        memcpy(at, row->text, (size_t)row->length);
        at = put64(put32(at + row->length, 8), number);
        if (at - block > block_size) {
            ok = PQputCopyData(arm->connection, block, (int)(at - block)) == 1 || libpq_arm_fail(arm, "PQputCopyData");
            at = block;
        }
    }
    at = put16(at, 0xffff);
    if (ok)
        ok = (PQputCopyData(arm->connection, block, (int)(at - block)) == 1 && PQputCopyEnd(arm->connection, NULL) == 1)
            || libpq_arm_fail(arm, "PQputCopyEnd");
    return finish(arm, ok);
}

static uint32_t get32(const char *from) {
    uint32_t bytes;
    memcpy(&bytes, from, 4);
    return ntohl(bytes);
}

bool libpq_arm_copy_out(libpq_arm *arm, const char *sql, int64_t *rows, double *checksum) {
    PGresult *result = PQexec(arm->connection, sql);
    ExecStatusType status = PQresultStatus(result);
    PQclear(result);
    if (status != PGRES_COPY_OUT) return libpq_arm_fail(arm, sql);
    char *block;
    int length;
    bool is_first = true;
    *rows = 0;
    // The server sends the header with the first row, and each row as a message of its own.
    while ((length = PQgetCopyData(arm->connection, &block, 0)) > 0) {
        const char *at = block + (is_first ? 19 : 0), *end = block + length;
        is_first = false;
        if (end - at >= 2 + 4 + 4 + 4 + 4 + 8) {
            uint32_t key = get32(at + 6), text = get32(at + 10);
            uint64_t bits;
            memcpy(&bits, at + 14 + text + 4, 8);
            bits = be64toh(bits);
            double number;
            memcpy(&number, &bits, 8);
            *checksum += (double)key + (double)text + number;
            ++*rows;
        }
        PQfreemem(block);
    }
    return finish(arm, length == -1 || libpq_arm_fail(arm, "PQgetCopyData"));
}
