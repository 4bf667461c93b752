  ;; Calls itself for ever on token 13.
  (func $misbehave (param $token i32) (result i32)
    (if (i32.eq (local.get $token) (i32.const 13))
      (then (return (i32.add (call $misbehave (local.get $token)) (i32.const 1)))))
    (i32.const 0))
