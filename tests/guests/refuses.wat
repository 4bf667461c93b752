  ;; Answers token 13 with an error of its own.
  (data (i32.const 320) "\01\00\00\00" "\50\01\00\00" "\05\00\00\00")
  (data (i32.const 336) "never")
  (func $misbehave (param $token i32) (result i32)
    (if (i32.eq (local.get $token) (i32.const 13)) (then (return (i32.const 320))))
    (i32.const 0))
