#define _GNU_SOURCE
#include "internal.h"

#include <dlfcn.h>
#include <poll.h>

// Queues a Sync without sending: of libpq 17 or later, which may be another one than that of the headers. So it is looked for
// when the program starts.
static int (*send_pipeline_sync)(PGconn *);

__attribute__((constructor)) static void find_send_pipeline_sync(void) {
    *(void **)&send_pipeline_sync = dlsym(RTLD_DEFAULT, "PQsendPipelineSync");
}

bool libpq_arm_queues_sync(void) { return send_pipeline_sync != NULL; }

// PQpipelineSync flushes: one send for each statement.
static int queue_sync(PGconn *connection) {
    return send_pipeline_sync != NULL ? send_pipeline_sync(connection) : PQpipelineSync(connection);
}

// Sends and reads in turns, so that neither side waits for the other with full buffers.
static bool exchange(libpq_arm *arm, int32_t count, bool sync_each, libpq_send send, const void *context) {
    enum { burst = 256 };
    PGconn *connection = arm->connection;
    int32_t sent = 0, done = 0, syncs = 0;
    const int32_t syncs_owed = sync_each ? count : 1;
    while (done < count || syncs < syncs_owed) {
        for (int32_t i = 0; i < burst && sent < count; i++, sent++) {
            if (!send(arm, context, sent)) return libpq_arm_fail(arm, "pipeline");
            if (sync_each && !queue_sync(connection)) return libpq_arm_fail(arm, "sync");
        }
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
            if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) done++;
            else if (status == PGRES_PIPELINE_SYNC) syncs++;
            else return libpq_arm_fail(arm, "pipelined statement");
        }
        if (done == count && syncs == syncs_owed) break;
        short events = POLLIN | (unsent > 0 || sent < count ? POLLOUT : 0);
        struct pollfd socket = {.fd = PQsocket(connection), .events = events};
        poll(&socket, 1, -1);
        if ((socket.revents & POLLIN) != 0 && !PQconsumeInput(connection)) return libpq_arm_fail(arm, "read");
    }
    return true;
}

bool libpq_arm_flight(libpq_arm *arm, int32_t count, bool sync_each, libpq_send send, const void *context) {
    PQsetnonblocking(arm->connection, 1);
    if (!PQenterPipelineMode(arm->connection)) return libpq_arm_fail(arm, "pipeline mode");
    bool ok = exchange(arm, count, sync_each, send, context);
    if (ok && !PQexitPipelineMode(arm->connection)) ok = libpq_arm_fail(arm, "leaving pipeline mode");
    PQsetnonblocking(arm->connection, 0);
    return ok;
}

static bool send_upsert(libpq_arm *arm, const void *context, int32_t index) {
    const libpq_rows *rows = context;
    const libpq_row *row = &rows->row[index % rows->count];
    const char *values[2] = {row->key, row->data};
    const int lengths[2] = {row->key_length, row->data_length}, formats[2] = {1, 1};
    return PQsendQueryPrepared(arm->connection, "upsert", 2, values, lengths, formats, 1);
}

bool libpq_arm_pipeline(libpq_arm *arm, const libpq_rows *rows, int32_t count, bool sync_each) {
    return libpq_arm_flight(arm, count, sync_each, send_upsert, rows);
}
