// The function {{name}}: a program that speaks CGI (RFC 3875). The request is in environment variables and on standard
// input; what it prints is the response: headers, an empty line, the body.

#include <stdio.h>
#include <stdlib.h>

static const char *variable(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value ? value : otherwise;
}

int main(void) {
    const char *path = variable("PATH_INFO", "/");
    // Standard output is the response, so the log is standard error: `dunlin logs {{name}}`.
    fprintf(stderr, "%s %s\n", variable("REQUEST_METHOD", "GET"), path);

    printf("Content-Type: text/plain; charset=utf-8\r\n\r\n");
    // GREETING is one of the variables that dunlin.toml declares.
    printf("%s from {{name}}, at %s\n", variable("GREETING", "Hello"), path);
    return 0;
}
