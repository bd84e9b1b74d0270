;; T05: recursion through the host: lifting the environment into this guest calls its allocator, which never returns.
(component
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))))
  (core module $memory
    (memory (export "memory") 1)
    (func $deeper (param i32 i32 i32 i32) (result i32)
      (i32.add (call $deeper (local.get 1) (local.get 2) (local.get 3) (local.get 0)) (local.get 0)))
    (export "realloc" (func $deeper)))
  (core instance $m (instantiate $memory))
  (alias core export $m "memory" (core memory $mem))
  (alias core export $m "realloc" (core func $realloc))
  (core func $get (canon lower (func $environment "get-environment") (memory $mem) (realloc $realloc)))
  (core module $main
    (import "" "get" (func $get (param i32)))
    (func (export "run") (result i32) (call $get (i32.const 0)) (i32.const 0)))
  (core instance $host (export "get" (func $get)))
  (core instance $i (instantiate $main (with "" (instance $host))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
