  ;; Does not come out of its start function.
  (func $misbehave (param $token i32) (result i32) (i32.const 0))
  (func $start (loop $ever (br $ever)))
  (start $start)
