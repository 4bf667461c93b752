  ;; Traps on token 13.
  (func $misbehave (param $token i32) (result i32)
    (if (i32.eq (local.get $token) (i32.const 13)) (then (unreachable)))
    (i32.const 0))
