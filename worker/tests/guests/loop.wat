;; T01: burns CPU for ever.
(module
  (memory (export "memory") 1)
  (func $spin (export "_start") (loop (br 0))))
