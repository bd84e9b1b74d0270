;; T07: makes resources of its own without ever dropping one.
(component
  (type $thing (resource (rep i32)))
  (core func $new (canon resource.new $thing))
  (core module $m
    (import "" "new" (func $new (param i32) (result i32)))
    (func (export "run") (result i32) (loop (drop (call $new (i32.const 1))) (br 0)) (i32.const 0)))
  (core instance $host (export "new" (func $new)))
  (core instance $i (instantiate $m (with "" (instance $host))))
  (func $run (result (result)) (canon lift (core func $i "run")))
  (instance $exports (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $exports)))
