#include "internal.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

libpq_rows *libpq_rows_new(int32_t capacity) {
    libpq_rows *rows = calloc(1, sizeof *rows);
    if (rows == NULL) return NULL;
    rows->row = calloc((size_t)capacity, sizeof *rows->row);
    rows->capacity = capacity;
    return rows;
}

bool libpq_rows_add(libpq_rows *rows, const char *key, const char *json) {
    if (rows->row == NULL || rows->count == rows->capacity) return false;
    libpq_row row = {.key_length = (int)strlen(key), .data_length = (int)strlen(json) + 1};
    row.key = strdup(key);
    row.data = malloc((size_t)row.data_length + 1);
    if (row.key == NULL || row.data == NULL) return false;
    row.data[0] = 1; // jsonb's binary form: a version, and the text
    memcpy(row.data + 1, json, (size_t)row.data_length);
    rows->row[rows->count++] = row;
    return true;
}

void libpq_rows_free(libpq_rows *rows) {
    for (int32_t i = 0; i < rows->count; i++) {
        free(rows->row[i].key);
        free(rows->row[i].data);
    }
    free(rows->row);
    free(rows);
}

static char *put(char *to, uint32_t number) {
    uint32_t bytes = htonl(number);
    memcpy(to, &bytes, 4);
    return to + 4;
}

// An array's binary form: dimensions, flags, element type, length, first index, then the elements.
static char *make_array(const libpq_rows *rows, uint32_t element, bool keys, int *length) {
    size_t size = 20;
    for (int32_t i = 0; i < rows->count; i++)
        size += 4 + (size_t)(keys ? rows->row[i].key_length : rows->row[i].data_length);
    char *bytes = malloc(size);
    if (bytes == NULL) return NULL;
    char *at = put(put(put(put(put(bytes, 1), 0), element), (uint32_t)rows->count), 1);
    for (int32_t i = 0; i < rows->count; i++) {
        const libpq_row *row = &rows->row[i];
        int count = keys ? row->key_length : row->data_length;
        at = put(at, (uint32_t)count);
        memcpy(at, keys ? row->key : row->data, (size_t)count);
        at += count;
    }
    *length = (int)size;
    return bytes;
}

libpq_arrays *libpq_arrays_new(const libpq_rows *rows) {
    enum { text_oid = 25, jsonb_oid = 3802 };
    libpq_arrays *arrays = calloc(1, sizeof *arrays);
    if (arrays == NULL) return NULL;
    arrays->bytes[0] = make_array(rows, text_oid, true, &arrays->length[0]);
    arrays->bytes[1] = make_array(rows, jsonb_oid, false, &arrays->length[1]);
    return arrays;
}

void libpq_arrays_free(libpq_arrays *arrays) {
    free(arrays->bytes[0]);
    free(arrays->bytes[1]);
    free(arrays);
}
