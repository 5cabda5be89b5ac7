#include "internal.h"

#include <poll.h>

static bool send_one(libpq_arm *arm, const libpq_row *row, bool sync) {
    const char *values[2] = {row->key, row->data};
    const int lengths[2] = {row->key_length, row->data_length}, formats[2] = {1, 1};
    if (!PQsendQueryPrepared(arm->connection, "upsert", 2, values, lengths, formats, 1)) return false;
    if (!sync) return true;
#ifdef LIBPQ_HAS_SEND_PIPELINE_SYNC
    return PQsendPipelineSync(arm->connection);
#else
    return PQpipelineSync(arm->connection); // flushes: one send for each statement
#endif
}

// Sends and reads in turns, so that neither side waits for the other with full buffers.
static bool exchange(libpq_arm *arm, const libpq_rows *rows, int32_t count, bool sync_each) {
    enum { burst = 256 };
    PGconn *connection = arm->connection;
    int32_t sent = 0, done = 0, syncs = 0;
    const int32_t syncs_owed = sync_each ? count : 1;
    while (done < count || syncs < syncs_owed) {
        for (int32_t i = 0; i < burst && sent < count; i++, sent++)
            if (!send_one(arm, &rows->row[sent % rows->count], sync_each)) return libpq_arm_fail(arm, "pipeline");
        if (!sync_each && sent == count) {
            if (!PQpipelineSync(connection)) return libpq_arm_fail(arm, "sync");
            sent++; // once
        }
        int unsent = PQflush(connection);
        if (unsent < 0) return libpq_arm_fail(arm, "flush");
        // Before waiting: a flush that would block has read input already, for which no POLLIN comes.
        // One NULL comes between two statements; more mean that nothing is outstanding.
        for (int nulls = 0; nulls < 3 && (done < count || syncs < syncs_owed) && !PQisBusy(connection);) {
            PGresult *result = PQgetResult(connection);
            if (result == NULL) {
                nulls++;
                continue;
            }
            nulls = 0;
            ExecStatusType status = PQresultStatus(result);
            PQclear(result);
            if (status == PGRES_COMMAND_OK) done++;
            else if (status == PGRES_PIPELINE_SYNC) syncs++;
            else return libpq_arm_fail(arm, "pipelined upsert");
        }
        if (done == count && syncs == syncs_owed) break;
        short events = POLLIN | (unsent > 0 || sent < count ? POLLOUT : 0);
        struct pollfd socket = {.fd = PQsocket(connection), .events = events};
        poll(&socket, 1, -1);
        if ((socket.revents & POLLIN) != 0 && !PQconsumeInput(connection)) return libpq_arm_fail(arm, "read");
    }
    return true;
}

bool libpq_arm_pipeline(libpq_arm *arm, const libpq_rows *rows, int32_t count, bool sync_each) {
    PQsetnonblocking(arm->connection, 1);
    if (!PQenterPipelineMode(arm->connection)) return libpq_arm_fail(arm, "pipeline mode");
    bool ok = exchange(arm, rows, count, sync_each);
    if (ok && !PQexitPipelineMode(arm->connection)) ok = libpq_arm_fail(arm, "leaving pipeline mode");
    PQsetnonblocking(arm->connection, 0);
    return ok;
}
