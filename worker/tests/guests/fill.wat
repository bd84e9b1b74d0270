;; T03: fills 120 MiB in one instruction, again and again. The engine looks at the clock only between them.
(module
  (memory (export "memory") 1920)
  (func (export "_start") (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 125829120)) (br 0))))
