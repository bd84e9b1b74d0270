;; T08: asks for 64 MiB of random bytes in one call.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1100)
  (func (export "_start") (drop (call $random (i32.const 0) (i32.const 67108864)))))
