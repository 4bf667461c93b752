  ;; Answers token 13 with a list that lies outside its memory.
  (data (i32.const 320) "\00\00\00\00" "\00\00\00\7f" "\01\00\00\00")
  (func $misbehave (param $token i32) (result i32)
    (if (i32.eq (local.get $token) (i32.const 13)) (then (return (i32.const 320))))
    (i32.const 0))
