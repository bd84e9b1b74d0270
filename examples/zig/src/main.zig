//! An HTTP function in Zig without any SDK: a program that speaks CGI (RFC 3875), compiled to a WASI command. The request
//! is in environment variables and on standard input; what it writes is the response: headers, an empty line, the body.

const std = @import("std");
const Io = std.Io;

pub fn main(init: std.process.Init) !void {
    var buffer: [16 * 1024]u8 = undefined;
    var stdout = Io.File.stdout().writerStreaming(init.io, &buffer);
    const out = &stdout.interface;

    const variables = init.environ_map;
    const method = variables.get("REQUEST_METHOD") orelse "GET";
    const path = variables.get("PATH_INFO") orelse "/";
    // Standard output is the response, so the log is standard error: `dunlin logs hello-zig`.
    std.debug.print("{s} {s}\n", .{ method, path });

    if (std.mem.eql(u8, method, "GET")) {
        // Beside CGI's own, the only variables that a function sees are the ones that its dunlin.toml declares.
        try hello(out, init.arena.allocator(), variables.get("GREETING") orelse "Hello", method, path);
    } else if (std.mem.eql(u8, method, "POST")) {
        try echo(out, init.io, variables.get("CONTENT_TYPE") orelse "application/octet-stream");
    } else {
        try out.writeAll("Status: 405 Method Not Allowed\r\nAllow: GET, POST\r\nContent-Type: text/plain\r\n\r\n" ++
            "this function answers GET and POST\n");
    }
    try out.flush();
}

/// Greets, and shows where it was called.
fn hello(out: *Io.Writer, arena: std.mem.Allocator, greeting: []const u8, method: []const u8, path: []const u8) !void {
    const message = try std.fmt.allocPrint(arena, "{s} from Zig", .{greeting});
    try out.writeAll("Content-Type: application/json\r\n\r\n");
    try std.json.Stringify.value(.{ .message = message, .method = method, .path = path }, .{}, out);
    try out.writeAll("\n");
}

/// Sends the body back as it arrives: it is streamed, never held whole in memory.
fn echo(out: *Io.Writer, io: Io, content_type: []const u8) !void {
    var buffer: [16 * 1024]u8 = undefined;
    var stdin = Io.File.stdin().readerStreaming(io, &buffer);
    try out.print("Content-Type: {s}\r\n\r\n", .{content_type});
    _ = try stdin.interface.streamRemaining(out);
}
