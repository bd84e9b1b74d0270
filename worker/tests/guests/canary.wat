;; T14: leaves a secret in its memory, table and stack, and traps.
(module
  (memory (export "memory") 32)
  (table 1000 funcref)
  (elem declare func $spill)
  (func $spill (param i64 i32) (result i64)
    (if (result i64) (local.get 1)
      (then (i64.add (call $spill (local.get 0) (i32.sub (local.get 1) (i32.const 1))) (local.get 0)))
      (else (local.get 0))))
  (func (export "_start")
    (memory.fill (i32.const 0) (i32.const 0xa5) (i32.const 2097152))
    (table.fill (i32.const 0) (ref.func $spill) (i32.const 1000))
    (drop (call $spill (i64.const 0xa5a5a5a5a5a5a5a5) (i32.const 2000)))
    unreachable))
