;; T09: writes to stderr for ever: nothing, one byte, a line feed, 60,000 bytes.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\00\04\00\00\00\00\00\00" "\00\04\00\00\01\00\00\00" "\ff\03\00\00\01\00\00\00" "\00\04\00\00\60\ea\00\00")
  (data (i32.const 1023) "\n")
  (func (export "_start") (local $next i32)
    (memory.fill (i32.const 1024) (i32.const 0x78) (i32.const 60000))
    (loop
      (drop (call $write (i32.const 2) (i32.shl (local.get $next) (i32.const 3)) (i32.const 1) (i32.const 512)))
      (local.set $next (i32.and (i32.add (local.get $next) (i32.const 1)) (i32.const 3)))
      (br 0))))
