//! The function {{name}}: a program that speaks CGI (RFC 3875). The request is in environment variables and on standard
//! input; what it writes is the response: headers, an empty line, the body. Written for Zig 0.17.

const std = @import("std");

pub fn main(init: std.process.Init) !void {
    var buffer: [4096]u8 = undefined;
    var stdout = std.Io.File.stdout().writerStreaming(init.io, &buffer);
    const out = &stdout.interface;

    const path = init.environ_map.get("PATH_INFO") orelse "/";
    // Standard output is the response, so the log is standard error: `dunlin logs {{name}}`.
    std.debug.print("{s} {s}\n", .{ init.environ_map.get("REQUEST_METHOD") orelse "GET", path });

    // GREETING is one of the variables that dunlin.toml declares.
    const greeting = init.environ_map.get("GREETING") orelse "Hello";
    try out.print("Content-Type: text/plain; charset=utf-8\r\n\r\n{s} from {{name}}, at {s}\n", .{ greeting, path });
    try out.flush();
}
