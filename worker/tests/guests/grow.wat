;; T04: takes memory until there is none, then gives up.
(module
  (memory (export "memory") 1)
  (func $grow (export "_start")
    (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
    unreachable))
