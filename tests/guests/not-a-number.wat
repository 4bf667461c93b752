  ;; Answers token 13 with one verdict on one token, whose surprise is not a number.
  (data (i32.const 320) "\00\00\00\00" "\80\01\00\00" "\01\00\00\00")
  (data (i32.const 384) "\a0\01\00\00\01\00\00\00" "\00\04\00\00\01\00\00\00")
  (data (i32.const 416) "\00\00\c0\7f")
  (func $misbehave (param $token i32) (result i32)
    (if (i32.eq (local.get $token) (i32.const 13)) (then (return (i32.const 320))))
    (i32.const 0))
