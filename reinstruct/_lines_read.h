/* JSON lines to columns of text: the loop of _lines.c. It is compiled twice: for any processor, and in _lines_avx2.c for
   those that compare 32 bytes at a time. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <stdlib.h>
#include "_json.h"

#define MOST_NAMES 64
#define FIRST_ROWS 512

/* A column's values end to end in `room` bytes, and the row's own from `start`; `rank` says which of its names it came
   from. The first column has room for all of the block. Others, which are mostly small, get more when they need it:
   memory that is touched for the first time costs more than what is done with it. */
typedef struct { char *data; int32_t *offsets; Py_ssize_t size, start, room; int rank; } Column;

/* A name in the lines that fills a column; those with a lower rank go first. `is_id`: whole numbers are taken, too. */
typedef struct { const char *name; Py_ssize_t length; int column, rank, is_id; } Name;

typedef struct {
    Json json;
    Column *columns;
    Name *names;
    int column_count, name_count;
    Py_ssize_t rows, most_rows; /* there is room for so many */
} Reader;

/* Some of the bytes that are read. */
typedef struct { const uint8_t *at, *end; } Part;

/* A whole number, as it is written. */
static Py_ssize_t whole_number(Json *json, uint8_t *out) {
    const uint8_t *first = json->at;
    if (!skip_number(json)) return -1;
    Py_ssize_t length = json->at - first;
    if (length > 18 || (length == 2 && !memcmp(first, "-0", 2))) return -1;
    for (Py_ssize_t byte = 1; byte < length; byte++)
        if (first[byte] < '0' || first[byte] > '9') return -1;
    memcpy(out, first, length);
    return length;
}

/* A text or a whole number. */
static Py_ssize_t text_or_number(Json *json, uint8_t *out) {
    uint8_t spare[32];
    if (*json->at != '"') return whole_number(json, out ? out : spare);
    json->at++;
    return string(json, out);
}

/* Room for so many bytes behind `start`; 0 if there is no memory. */
static int make_room(Column *column, Py_ssize_t bytes) {
    Py_ssize_t wanted = column->start + bytes + SLACK;
    if (wanted <= column->room) return 1;
    wanted = wanted > 2 * column->room ? wanted : 2 * column->room;
    char *data = realloc(column->data, wanted);
    if (!data) return 0;
    column->data = data;
    column->room = wanted;
    return 1;
}

/* How many bytes the text or number takes that begins here, at most; -1 if there is none. */
static Py_ssize_t bytes_ahead(const Json *json) {
    Json ahead = *json;
    return text_or_number(&ahead, NULL) < 0 ? -1 : ahead.at - json->at;
}

/* The value of a name: put into its column unless a better name has filled it. */
static int fill(Reader *reader, const Name *name) {
    Json *json = &reader->json;
    Column *column = &reader->columns[name->column];
    skip_space(json);
    if (json->at >= json->end) return 0;
    if (*json->at == 'n') return word(json, "null");
    if (*json->at != '"' && !name->is_id) return 0;
    int is_better = name->rank < column->rank;
    if (is_better && name->column) {
        Py_ssize_t most = bytes_ahead(json);
        if (most < 0 || !make_room(column, most)) return 0;
    }
    Py_ssize_t bytes = text_or_number(json, is_better ? (uint8_t *)column->data + column->start : NULL);
    if (bytes < 0) return 0;
    if (!is_better) return 1;
    column->rank = name->rank;
    column->size = column->start + bytes;
    return 1;
}

/* A name and its value. */
static int member(Reader *reader, uint64_t *seen) {
    if (!take(&reader->json, '"')) return 0;
    const uint8_t *key = reader->json.at;
    if (string(&reader->json, NULL) < 0 || memchr(key, '\\', reader->json.at - key)) return 0;
    Py_ssize_t length = reader->json.at - key - 1;
    if (!take(&reader->json, ':')) return 0;
    int wanted = 0;
    const uint8_t *value = reader->json.at;
    for (int n = 0; n < reader->name_count; n++) {
        const Name *name = &reader->names[n];
        if (name->length != length || memcmp(name->name, key, length)) continue;
        if (*seen >> n & 1) return 0; /* twice in one object */
        *seen |= 1ULL << n;
        reader->json.at = value; /* a name may fill two columns */
        if (!fill(reader, name)) return 0;
        wanted = 1;
    }
    return wanted || skip_value(&reader->json, 1);
}

/* Whether a text surely holds more than white space. That beyond ASCII begins with C2, E1, E2 or E3 80. */
static int is_filled(const Column *column) {
    for (Py_ssize_t at = column->start; at < column->size; at++) {
        uint8_t byte = (uint8_t)column->data[at];
        if (byte > ' ' && byte < 0x7F) return 1;
        if (byte == 0xE3 && (uint8_t)column->data[at + 1] != 0x80) return 1;
        if (byte > 0xC2 && byte != 0xE1 && byte != 0xE2 && byte != 0xE3) return 1;
    }
    return 0;
}

/* Room for offsets of more rows; 0 if there is no memory. */
static int more_rows(Reader *reader) {
    Py_ssize_t most = reader->most_rows ? 2 * reader->most_rows : FIRST_ROWS;
    for (Column *column = reader->columns; column < reader->columns + reader->column_count; column++) {
        int32_t *offsets = realloc(column->offsets, (most + 1) * sizeof *offsets);
        if (!offsets) return 0;
        if (!column->offsets) offsets[0] = 0;
        column->offsets = offsets;
    }
    reader->most_rows = most;
    return 1;
}

/* One line; its row is put behind the others. */
static int line(Reader *reader) {
    uint64_t seen = 0;
    for (int n = 0; n < reader->column_count; n++) {
        reader->columns[n].start = reader->columns[n].size;
        reader->columns[n].rank = MOST_NAMES;
    }
    if (!take(&reader->json, '{')) return 0;
    if (!take(&reader->json, '}')) {
        do
            if (!member(reader, &seen)) return 0;
        while (take(&reader->json, ','));
        if (!take(&reader->json, '}')) return 0;
    }
    skip_space(&reader->json);
    if ((reader->json.at < reader->json.end && *reader->json.at != '\n') || !is_filled(&reader->columns[0])) return 0;
    if (reader->rows == reader->most_rows && !more_rows(reader)) return 0;
    reader->rows++;
    for (Column *column = reader->columns; column < reader->columns + reader->column_count; column++)
        column->offsets[reader->rows] = (int32_t)column->size;
    return 1;
}

/* All lines but blank ones, of which no more than the last lacks its newline; 0 if one cannot be read here. */
static int whole_lines(Reader *reader, Part part) {
    Json *json = &reader->json;
    *json = (Json){part.at, part.end};
    while (json->at < json->end) {
        skip_space(json);
        if (json->at < json->end && *json->at != '\n' && !line(reader)) return 0;
        if (json->at < json->end) json->at++; /* behind the newline */
    }
    return 1;
}

/* The beginning of a line that ends in a later part. */
typedef struct { uint8_t *data; Py_ssize_t size, room; } Begun;

/* 0 if there is no memory. */
static int go_on(Begun *begun, Part part) {
    Py_ssize_t more = part.end - part.at, wanted = begun->size + more;
    if (wanted > begun->room) {
        uint8_t *data = realloc(begun->data, 2 * wanted);
        if (!data) return 0;
        begun->data = data;
        begun->room = 2 * wanted;
    }
    if (more) memcpy(begun->data + begun->size, part.at, more);
    begun->size = wanted;
    return 1;
}

static int ended(Reader *reader, Begun *begun) {
    Part line = {begun->data, begun->data + begun->size};
    begun->size = 0;
    return whole_lines(reader, line);
}

static const uint8_t *behind_last_newline(Part part) {
#ifdef __GLIBC__
    const uint8_t *newline = part.at < part.end ? memrchr(part.at, '\n', part.end - part.at) : NULL;
    return newline ? newline + 1 : part.at;
#else
    while (part.end > part.at && part.end[-1] != '\n') part.end--;
    return part.end;
#endif
}

static int read_part(Reader *reader, Part part, Begun *begun) {
    if (begun->size) {
        const uint8_t *newline = memchr(part.at, '\n', part.end - part.at), *end = newline ? newline + 1 : part.end;
        if (!go_on(begun, (Part){part.at, end})) return 0;
        if (!newline) return 1;
        if (!ended(reader, begun)) return 0;
        part.at = end;
    }
    const uint8_t *end = behind_last_newline(part);
    return whole_lines(reader, (Part){part.at, end}) && go_on(begun, (Part){end, part.end});
}

/* The lines of all parts, end to end; 0 if one cannot be read here. */
static int lines(Reader *reader, const Part *parts, Py_ssize_t count) {
    Begun begun = {NULL, 0, 0};
    int is_read = 1;
    for (Py_ssize_t n = 0; is_read && n < count; n++)
        if (parts[n].at < parts[n].end) is_read = read_part(reader, parts[n], &begun);
    is_read = is_read && (!begun.size || ended(reader, &begun));
    free(begun.data);
    return is_read;
}
