;; T14: answers 200 if all of its memory above its own data and all of its table are empty, otherwise 500.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 32)
  (table 1000 funcref)
  (data (i32.const 0) "\10\00\00\00\0d\00\00\00" "\20\00\00\00\0d\00\00\00")
  (data (i32.const 16) "Status: 200\n\n")
  (data (i32.const 32) "Status: 500\n\n")
  (func $dirty (result i32) (local $at i32)
    (local.set $at (i32.const 64))
    (loop
      (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (return (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if 0 (i32.lt_u (local.get $at) (i32.const 2097152))))
    (local.set $at (i32.const 0))
    (loop
      (if (i32.eqz (ref.is_null (table.get (local.get $at)))) (then (return (i32.const 1))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if 0 (i32.lt_u (local.get $at) (i32.const 1000))))
    (i32.const 0))
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.shl (call $dirty) (i32.const 3)) (i32.const 1) (i32.const 512)))))
