// A guest for benchmarks in C, without libc and without an SDK: a component of `wasi:http`, so that bare runtimes serve it,
// too. It speaks the canonical ABI by hand: names and flat types are those of examples/python/wit/http.wit.
//
// GET greets; ?work=N counts the steps of the Collatz sequences from 1 to N, as in the other languages; POST echoes.

#include <stdint.h>

#define FROM(interface, name, result, function) \
    __attribute__((import_module(interface "@0.2.9"), import_name(name))) extern result function
#define HTTP "wasi:http/types"
#define STREAMS "wasi:io/streams"

FROM(HTTP, "[method]incoming-request.method", void, request_method)(int32_t request, uint8_t *out);
FROM(HTTP, "[method]incoming-request.path-with-query", void, request_path)(int32_t request, uint32_t *out);
FROM(HTTP, "[method]incoming-request.consume", void, request_consume)(int32_t request, uint32_t *out);
FROM(HTTP, "[resource-drop]incoming-request", void, request_drop)(int32_t request);
FROM(HTTP, "[method]incoming-body.stream", void, incoming_stream)(int32_t body, uint32_t *out);
FROM(HTTP, "[resource-drop]incoming-body", void, incoming_drop)(int32_t body);
FROM(HTTP, "[static]fields.from-list", void, fields_from_list)(const void *entries, uint32_t count, uint32_t *out);
FROM(HTTP, "[constructor]outgoing-response", int32_t, response_new)(int32_t headers);
FROM(HTTP, "[method]outgoing-response.body", void, response_body)(int32_t response, uint32_t *out);
FROM(HTTP, "[static]response-outparam.set", void, outparam_set)
(int32_t outparam, int32_t is_error, int32_t response, int32_t, int64_t, int32_t, int32_t, int32_t, int32_t);
FROM(HTTP, "[method]outgoing-body.write", void, outgoing_write)(int32_t body, uint32_t *out);
FROM(HTTP, "[static]outgoing-body.finish", void, outgoing_finish)(int32_t body, int32_t has_trailers, int32_t trailers, void *out);
FROM(STREAMS, "[method]input-stream.blocking-read", void, blocking_read)(int32_t stream, uint64_t most, uint32_t *out);
FROM(STREAMS, "[resource-drop]input-stream", void, input_drop)(int32_t stream);
FROM(STREAMS, "[method]output-stream.blocking-write-and-flush", void, blocking_write)
(int32_t stream, const uint8_t *bytes, uint32_t length, uint32_t *out);
FROM(STREAMS, "[resource-drop]output-stream", void, output_drop)(int32_t stream);

enum { GET = 0, POST = 2, PIECE = 64 * 1024, WRITE_LIMIT = 4096 };

// What the host passes in lies here until the next pass: a request holds one path and one piece of body at a time.
static uint8_t arena[PIECE + 4096] __attribute__((aligned(16)));
static uint32_t used;

__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, uint32_t old_size, uint32_t align, uint32_t size) {
    (void)old, (void)old_size;
    uint32_t at = (used + align - 1) & ~(align - 1);
    if (at + size > sizeof arena) {
        __builtin_trap();
    }
    used = at + size;
    return arena + at;
}

static void write_all(int32_t stream, const uint8_t *bytes, uint32_t length) {
    uint32_t out[3];
    while (length > 0) {
        uint32_t piece = length < WRITE_LIMIT ? length : WRITE_LIMIT;
        blocking_write(stream, bytes, piece, out);
        bytes += piece;
        length -= piece;
    }
}

static void echo(int32_t request, int32_t to) {
    uint32_t body[2], from[2], read[3];
    request_consume(request, body);
    incoming_stream((int32_t)body[1], from);
    for (;;) {
        used = 0;
        blocking_read((int32_t)from[1], PIECE, read);
        if ((uint8_t)read[0] != 0) {
            break;
        }
        write_all(to, (const uint8_t *)read[1], read[2]);
    }
    input_drop((int32_t)from[1]);
    incoming_drop((int32_t)body[1]);
}

static uint64_t steps(uint64_t most) {
    uint64_t steps = 0;
    for (uint64_t start = 1; start <= most; start++) {
        for (uint64_t value = start; value != 1; steps++) {
            value = value % 2 == 0 ? value / 2 : 3 * value + 1;
        }
    }
    return steps;
}

// The number behind "?work=", or 0.
static uint64_t asked(const uint8_t *path, uint32_t length) {
    uint64_t number = 0;
    uint32_t at = 0;
    while (at < length && path[at] != '=') {
        at++;
    }
    for (at++; at < length && path[at] >= '0' && path[at] <= '9'; at++) {
        number = number * 10 + (path[at] - '0');
    }
    return number;
}

static void answer(int32_t request, int32_t to) {
    static const uint8_t hello[] = "{\"message\":\"Hello from C\"}\n";
    uint32_t path[3];
    request_path(request, path);
    uint64_t work = (uint8_t)path[0] ? asked((const uint8_t *)path[1], path[2]) : 0;
    if (work == 0) {
        write_all(to, hello, sizeof hello - 1);
        return;
    }
    uint8_t digits[24];
    uint32_t at = sizeof digits;
    digits[--at] = '\n';
    for (uint64_t rest = steps(work); rest > 0; rest /= 10) {
        digits[--at] = (uint8_t)('0' + rest % 10);
    }
    write_all(to, digits + at, sizeof digits - at);
}

__attribute__((export_name("wasi:http/incoming-handler@0.2.9#handle"))) void handle(int32_t request, int32_t outparam) {
    static const struct { const char *name; uint32_t name_length; const char *value; uint32_t value_length; } type = {
        "content-type", 12, "application/json", 16};
    uint8_t method[12];
    uint32_t headers[3], body[2], stream[2];
    uint64_t finished[8];
    request_method(request, method);
    fields_from_list(&type, 1, headers);
    int32_t response = response_new((int32_t)headers[1]);
    response_body(response, body);
    outparam_set(outparam, 0, response, 0, 0, 0, 0, 0, 0);
    outgoing_write((int32_t)body[1], stream);
    if (method[0] == POST) {
        echo(request, (int32_t)stream[1]);
    } else {
        answer(request, (int32_t)stream[1]);
    }
    output_drop((int32_t)stream[1]);
    outgoing_finish((int32_t)body[1], 0, 0, finished);
    request_drop(request);
}
