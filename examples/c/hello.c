// An HTTP function in C without any SDK: a program that speaks CGI (RFC 3875), compiled to a WASI command. The request is
// in environment variables and on standard input; what it prints is the response: headers, an empty line, the body.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The value of a variable, or a default where the request does not set it.
static const char *variable(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value ? value : otherwise;
}

// Prints what goes between the quotes of a JSON string.
static void print_json(const char *text) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            printf("\\%c", c);
        } else if (c < 0x20) {
            printf("\\u%04x", c);
        } else {
            putchar(c);
        }
    }
}

// Greets, and shows where it was called.
static void hello(const char *method, const char *path) {
    printf("Content-Type: application/json\r\n\r\n{\"message\":\"");
    // Beside CGI's own, the only variables that a function sees are the ones that its dunlin.toml declares.
    print_json(variable("GREETING", "Hello"));
    printf(" from C\",\"method\":\"");
    print_json(method);
    printf("\",\"path\":\"");
    print_json(path);
    printf("\"}\n");
}

// Sends the body back as it arrives: it is streamed, never held whole in memory.
static int echo(void) {
    char piece[16 * 1024];
    size_t length;
    printf("Content-Type: %s\r\n\r\n", variable("CONTENT_TYPE", "application/octet-stream"));
    while ((length = fread(piece, 1, sizeof piece, stdin)) > 0) {
        if (fwrite(piece, 1, length, stdout) != length) {
            return 1;
        }
    }
    return ferror(stdin) ? 1 : 0;
}

int main(void) {
    const char *method = variable("REQUEST_METHOD", "GET");
    const char *path = variable("PATH_INFO", "/");
    // Standard output is the response, so the log is standard error: `dunlin logs hello-c`.
    fprintf(stderr, "%s %s\n", method, path);

    if (strcmp(method, "GET") == 0) {
        hello(method, path);
    } else if (strcmp(method, "POST") == 0) {
        return echo();
    } else {
        printf("Status: 405 Method Not Allowed\r\nAllow: GET, POST\r\nContent-Type: text/plain\r\n\r\n"
               "this function answers GET and POST\n");
    }
    return 0;
}
