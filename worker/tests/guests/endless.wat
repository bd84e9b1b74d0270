;; T10: a good head, then a body without end.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\10\00\00\00\1a\00\00\00" "\00\04\00\00\60\ea\00\00")
  (data (i32.const 16) "Content-Type: text/plain\n\n")
  (func (export "_start")
    (memory.fill (i32.const 1024) (i32.const 0x78) (i32.const 60000))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 512)))
    (loop
      (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 512)))
      (br 0))))
