"""Small guests, most of them hostile, written as WebAssembly text: WASI preview 1 commands that answer by CGI (RFC 3875).

`command` turns a body into a module. Memory below 1024 belongs to the prelude: 0 an I/O vector, 8 its result, 16 hexadecimal
digits, 64 the answer's head. Texts of a guest itself begin at 1024.
"""

import re

import wasmtime

SIGNATURES = {
    "fd_write": "(param i32 i32 i32 i32) (result i32)",
    "fd_read": "(param i32 i32 i32 i32) (result i32)",
    "fd_prestat_get": "(param i32 i32) (result i32)",
    "environ_sizes_get": "(param i32 i32) (result i32)",
    "environ_get": "(param i32 i32) (result i32)",
    "args_sizes_get": "(param i32 i32) (result i32)",
    "clock_time_get": "(param i32 i64 i32) (result i32)",
    "poll_oneoff": "(param i32 i32 i32 i32) (result i32)",
    "random_get": "(param i32 i32) (result i32)",
    "path_open": "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)",
    "sock_accept": "(param i32 i32 i32) (result i32)",
    "proc_exit": "(param i32)",
}

HEAD = b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n"

PRELUDE = f"""
  ;; Writes to a descriptor.
  (func $write (param $fd i32) (param $at i32) (param $length i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length))
    (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $say (param $at i32) (param $length i32) (call $write (i32.const 1) (local.get $at) (local.get $length)))
  ;; Begins the answer.
  (func $head (call $say (i32.const 64) (i32.const {len(HEAD)})))
  ;; Writes a number as eight hexadecimal digits and a space.
  (func $number (param $value i32) (local $i i32) (local $digit i32)
    (loop $next
      (local.set $digit (i32.and (i32.shr_u (local.get $value) (i32.sub (i32.const 28) (i32.mul (local.get $i) (i32.const 4)))) (i32.const 15)))
      (i32.store8 (i32.add (i32.const 16) (local.get $i))
        (i32.add (local.get $digit) (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $digit) (i32.const 10)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (i32.const 8))))
    (i32.store8 (i32.const 24) (i32.const 32))
    (call $say (i32.const 16) (i32.const 9)))
"""


def quoted(data):
    return '"' + "".join(f"\\{byte:02x}" for byte in data) + '"'


def command(body, functions="", data=None, pages=2, extra=""):
    """A command whose `_start` is `body`; `data` maps addresses to bytes, `extra` are further fields of the module."""
    text = body + functions + PRELUDE
    used = [name for name in SIGNATURES if re.search(rf"\${name}\b", text)]
    imports = "\n".join(f'(import "wasi_snapshot_preview1" "{name}" (func ${name} {SIGNATURES[name]}))' for name in used)
    texts = {64: HEAD} | (data or {})
    segments = "\n".join(f"(data (i32.const {at}) {quoted(content)})" for at, content in texts.items())
    return wasm(f'(module {imports} (memory (export "memory") {pages}) {extra} {segments} {PRELUDE} {functions} (func (export "_start") {body}))')


def wasm(text):
    return bytes(wasmtime.wat2wasm(text))


def answer(text, head=HEAD):
    """Answers with a text."""
    content = head + text.encode()
    return command(f"(call $say (i32.const 1024) (i32.const {len(content)}))", data={1024: content})


def raw(output):
    """Writes these bytes, CGI or not, and ends."""
    return command(f"(call $say (i32.const 1024) (i32.const {len(output)}))", data={1024: output}, pages=2 + (len(output) >> 16))


ECHO = command("""
  (local $read i32)
  (call $head)
  (block $end (loop $next
    (i32.store (i32.const 0) (i32.const 4096))
    (i32.store (i32.const 4) (i32.const 60000))
    (br_if $end (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (local.set $read (i32.load (i32.const 8)))
    (br_if $end (i32.eqz (local.get $read)))
    (call $say (i32.const 4096) (local.get $read))
    (br $next)))""")

# Reads its whole input, then answers.
SINK = command("""
  (block $end (loop $next
    (i32.store (i32.const 0) (i32.const 4096))
    (i32.store (i32.const 4) (i32.const 60000))
    (br_if $end (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (br_if $next (i32.load (i32.const 8)))))
  (call $head) (call $number (i32.const 1))""")

LINE = b"a line for the log\n"
LOG = command(f"(call $write (i32.const 2) (i32.const 1024) (i32.const {len(LINE)})) (call $head) (call $say (i32.const 1024) (i32.const {len(LINE)}))", data={1024: LINE})

# Each variable that the guest sees, ended by a zero byte.
ENVIRONMENT = command("""
  (drop (call $environ_sizes_get (i32.const 32) (i32.const 36)))
  (drop (call $environ_get (i32.const 1024) (i32.const 8192)))
  (call $head)
  (call $say (i32.const 8192) (i32.load (i32.const 36)))""", pages=4)

# The error of looking for a folder to begin with, then of opening files below descriptors 3 and 4, then the number of arguments.
FILES = [b"/proc/self/environ", b"../../../../etc/passwd", b"."]
HOST = command("(drop (call $args_sizes_get (i32.const 32) (i32.const 36))) (call $head) (call $number (call $fd_prestat_get (i32.const 3) (i32.const 40)))" + "".join(
    f"(call $number (call $path_open (i32.const {fd}) (i32.const 1) (i32.const {1024 + 64 * i}) (i32.const {len(file)}) (i32.const 0) (i64.const 2) (i64.const 2) (i32.const 0) (i32.const 48)))"
    for fd in (3, 4) for i, file in enumerate(FILES)) + "(call $number (i32.load (i32.const 32)))", data={1024 + 64 * i: file for i, file in enumerate(FILES)})

LOOP = command("(loop $on (br $on))")

# One subscription to the monotonic clock, an hour from now.
SLEEP = command("""
  (i32.store8 (i32.const 1032) (i32.const 0))
  (i32.store (i32.const 1040) (i32.const 1))
  (i64.store (i32.const 1048) (i64.const 3600000000000))
  (drop (call $poll_oneoff (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 8)))
  (call $head)""")

HOST_CALLS = command("(loop $on (drop (call $clock_time_get (i32.const 1) (i64.const 1) (i32.const 1024))) (br $on))")

MEMORY_FILL = command("""
  (drop (memory.grow (i32.const 1500)))
  (loop $on (memory.fill (i32.const 65536) (i32.const 7) (i32.const 98000000)) (br $on))""")

# Grows a page at a time, touching each, until it may not, and gives up as most allocators do.
MEMORY_BOMB = command("""
  (local $page i32)
  (loop $on
    (local.set $page (memory.grow (i32.const 1)))
    (if (i32.eq (local.get $page) (i32.const -1)) (then unreachable))
    (i32.store (i32.shl (local.get $page) (i32.const 16)) (i32.const 1))
    (br $on))""")

STACK = command("(call $down (i32.const 1))", "(func $down (param i32) (call $down (i32.add (local.get 0) (i32.const 1))) (call $number (local.get 0)))")

TABLE = command("(call $head) (call $number (table.grow $t (ref.null func) (i32.const 10000000)))", extra="(table $t 1 funcref)")

TRAP = command("unreachable")
EXIT = command("(call $proc_exit (i32.const 3))")
SILENT = command("")

LOG_FLOOD = command("""
  (local $i i32)
  (memory.fill (i32.const 1024) (i32.const 120) (i32.const 60000))
  (loop $on
    (call $write (i32.const 2) (i32.const 1024) (i32.const 60000))
    (call $write (i32.const 2) (i32.const 1024) (i32.const 0))
    (call $write (i32.const 2) (i32.const 1024) (i32.const 1))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $on (i32.lt_u (local.get $i) (i32.const 2000))))
  (call $head)""")

ENDLESS_ANSWER = command("(call $head) (loop $on (call $say (i32.const 1024) (i32.const 60000)) (br $on))")
EMPTY_WRITES = command("(call $head) (loop $on (call $say (i32.const 1024) (i32.const 0)) (br $on))")

SECRET = b"residue-of-another-tenant-0123456789abcdef"
# Writes the secret all over its memory, then fails in the middle.
LEAVE = command(f"""
  (local $at i32)
  (drop (memory.grow (i32.const 600)))
  (local.set $at (i32.const 131072))
  (loop $on
    (memory.copy (local.get $at) (i32.const 1024) (i32.const {len(SECRET)}))
    (local.set $at (i32.add (local.get $at) (i32.const 64)))
    (br_if $on (i32.lt_u (local.get $at) (i32.const 39000000))))
  unreachable""", data={1024: SECRET})
# Looks for anything but zeros in memory that it has just been given; says how many words it found and how many it looked at.
SCAN = command("""
  (local $at i32) (local $end i32) (local $found i32)
  (local.set $at (i32.shl (memory.grow (i32.const 600)) (i32.const 16)))
  (local.set $end (i32.add (local.get $at) (i32.const 39321600)))
  (loop $on
    (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
    (local.set $at (i32.add (local.get $at) (i32.const 8)))
    (br_if $on (i32.lt_u (local.get $at) (local.get $end))))
  (call $head) (call $number (local.get $found)) (call $number (i32.const 4915200))""")

FOREIGN_MODULE = wasm('(module (import "env" "launch_missiles" (func)) (memory (export "memory") 1) (func (export "_start")))')
FOREIGN_COMPONENT = wasm("""(component
  (import "acme:billing/ledger@1.0.0" (instance (export "charge" (func))))
  (core module $m (func (export "run") (result i32) i32.const 0))
  (core instance $i (instantiate $m))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))""")
LIBRARY = wasm('(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))')


def precompiled():
    """Native code, as wasmtime itself writes it."""
    return bytes(wasmtime.Module(wasmtime.Engine(), "(module)").serialize())


def leb(number):
    out = bytearray()
    while True:
        byte, number = number & 0x7F, number >> 7
        out.append(byte | (0x80 if number else 0))
        if not number:
            return bytes(out)


def section(number, content):
    return bytes([number]) + leb(len(content)) + content


def vector(items):
    return leb(len(items)) + b"".join(items)


def bomb(locals_count=50_000, blocks=40_000):
    """A command of one huge function: tens of thousands of locals that all live across every one of very many branches."""
    body = bytearray(leb(1) + leb(locals_count) + b"\x7f")
    for i in range(blocks):
        a, b = leb(i % locals_count), leb((i * 7919 + 13) % locals_count)
        # local.get a; if; local.get b; i32.const 1; i32.add; local.set a; else; local.get a; local.set b; end
        body += b"\x20" + a + b"\x04\x40\x20" + b + b"\x41\x01\x6a\x21" + a + b"\x05\x20" + a + b"\x21" + b + b"\x0b"
    # Every local is used at the end, so that none dies before.
    for i in range(locals_count):
        body += b"\x20" + leb(i) + b"\x1a"
    body += b"\x0b"
    return started(body)


def slow_bomb(blocks=40_000):
    """A command of one function that takes little memory to compile, and time that grows with the square of its size: ten locals
    that each of very many branches may change."""
    body = bytearray(leb(1) + leb(10) + b"\x7f")
    for i in range(blocks):
        a, b = leb(i % 10), leb((i + 1) % 10)
        # local.get a; if; local.get a; i32.const 1; i32.add; local.set b; end
        body += b"\x20" + a + b"\x04\x40\x20" + a + b"\x41\x01\x6a\x21" + b + b"\x0b"
    body += b"\x0b"
    return started(body)


def started(body):
    """A command whose `_start` has this body, locals and all."""
    types = section(1, vector([b"\x60\x00\x00"]))
    functions = section(3, vector([b"\x00"]))
    memory = section(5, vector([b"\x00\x01"]))
    exports = section(7, vector([b"\x06memory\x02\x00", b"\x06_start\x00\x00"]))
    code = section(10, vector([leb(len(body)) + bytes(body)]))
    return b"\0asm\1\0\0\0" + types + functions + memory + exports + code
