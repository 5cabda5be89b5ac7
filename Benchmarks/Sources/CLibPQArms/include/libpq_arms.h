#pragma once
// The work that is measured, done with libpq by the book: prepared statements, binary parameters and results, pipeline
// mode, single-row mode. Connecting, preparing and building the rows are calls of their own, outside of what is timed.
#include <stdbool.h>
#include <stdint.h>

/// A connection and what last went wrong on it. Functions that return bool have set its error when they return false.
typedef struct libpq_arm libpq_arm;

/// Never NULL unless memory is exhausted; look at the error.
libpq_arm *libpq_arm_connect(const char *conninfo);
void libpq_arm_close(libpq_arm *arm);
/// NULL when nothing has gone wrong.
const char *libpq_arm_error(const libpq_arm *arm);

/// Such as 150018.
int libpq_arm_version(void);
/// Whether pipeline mode can queue a Sync without sending at once (PQsendPipelineSync, libpq 17).
bool libpq_arm_queues_sync(void);

/// Calls of send() by this thread so far. libpq sends on its caller's thread.
int64_t libpq_arm_send_calls(void);

bool libpq_arm_execute(libpq_arm *arm, const char *sql);
bool libpq_arm_prepare(libpq_arm *arm, const char *name, const char *sql);

/// Keys and jsonb values, ready made.
typedef struct libpq_rows libpq_rows;
libpq_rows *libpq_rows_new(int32_t capacity);
bool libpq_rows_add(libpq_rows *rows, const char *key, const char *json);
void libpq_rows_free(libpq_rows *rows);

/// The rows as a text[] and a jsonb[] parameter, ready made.
typedef struct libpq_arrays libpq_arrays;
libpq_arrays *libpq_arrays_new(const libpq_rows *rows);
void libpq_arrays_free(libpq_arrays *arrays);

// Below, `latencies` is NULL or has room for `count` times in nanoseconds; row number i is taken modulo the rows.

/// Statement "select" (int4) -> int4, one after the other; each answer is checked.
bool libpq_arm_select(libpq_arm *arm, int32_t count, uint64_t *latencies);
/// Statement "upsert" (key, data).
bool libpq_arm_upsert(libpq_arm *arm, const libpq_rows *rows, int32_t count, uint64_t *latencies);
/// Statement "exists" (key), then "update" or "insert" (key, data). A duplicate key is counted, not an error.
bool libpq_arm_naive(
    libpq_arm *arm, const libpq_rows *rows, int32_t count, uint64_t *latencies, int64_t *duplicate_keys);
/// Statement "upsert" in pipeline mode, with a Sync after each or one for all.
bool libpq_arm_pipeline(libpq_arm *arm, const libpq_rows *rows, int32_t count, bool sync_each);
/// Statement "bulk" (text[], jsonb[]) with arrays that are ready made.
bool libpq_arm_bulk(libpq_arm *arm, const libpq_arrays *arrays);
/// The same, packing the rows into arrays first.
bool libpq_arm_bulk_rows(libpq_arm *arm, const libpq_rows *rows);
/// Statement "rows" (int4) -> int4, int8, text, float8, timestamptz in single-row mode; every column is read.
bool libpq_arm_read_rows(libpq_arm *arm, int32_t count, double *checksum);

/// Any statement, its parameters as text.
typedef struct {
    const char *sql;
    /// The same with its values written into it, for the simple protocol.
    const char *simple_sql;
    int32_t parameters;
    const char *const *values;
    /// The types' OIDs.
    const uint32_t *types;
    bool binary_results;
} libpq_statement;

/// How a statement travels.
typedef enum {
    /// PQexec: one Query message, results as text.
    libpq_mode_simple,
    /// PQexecParams: parsed each time.
    libpq_mode_unnamed,
    /// PQexecPrepared.
    libpq_mode_prepared,
} libpq_mode;

/// For the modes that need it.
bool libpq_arm_prepare_statement(libpq_arm *arm, const libpq_statement *statement);
/// `count` times, one after the other; rows are received and let go.
bool libpq_arm_statement(
    libpq_arm *arm, const libpq_statement *statement, libpq_mode mode, int32_t count, uint64_t *latencies);
/// Prepared, in pipeline mode, with a Sync after each or one for all.
bool libpq_arm_statement_pipeline(libpq_arm *arm, const libpq_statement *statement, int32_t count, bool sync_each);
/// Prepared; number i is due at start + i * interval of the monotonic clock, in nanoseconds, whether the one before it has
/// returned by then or not. `responses` are from when each was due, `services` from when it was sent.
bool libpq_arm_open_loop(
    libpq_arm *arm, const libpq_statement *statement, uint64_t start, uint64_t interval, int32_t count,
    uint64_t *responses, uint64_t *services);
/// Rows of int4, int8, text, float8, timestamptz as text; numbers are converted.
bool libpq_arm_read_text_rows(libpq_arm *arm, const char *sql, int32_t count, double *checksum);

/// A row of a table (int4, text, float8).
typedef struct {
    int32_t key;
    int32_t length;
    double number;
    const char *text;
} libpq_copy_row;

/// COPY ... FROM STDIN (FORMAT binary): the values are converted into blocks of 64 KiB, each given to PQputCopyData.
bool libpq_arm_copy_in(libpq_arm *arm, const char *sql, const libpq_copy_row *rows, int32_t count);
/// COPY ... TO STDOUT (FORMAT binary); every column is read.
bool libpq_arm_copy_out(libpq_arm *arm, const char *sql, int64_t *rows, double *checksum);
