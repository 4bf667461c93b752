  ;; Answers token 13 with one verdict on one token, which expects an id outside the vocabulary.
  (data (i32.const 320) "\00\00\00\00" "\80\01\00\00" "\01\00\00\00")
  (data (i32.const 384) "\00\04\00\00\01\00\00\00" "\a0\01\00\00\01\00\00\00")
  (data (i32.const 416) "\40\00")
  (func $misbehave (param $token i32) (result i32)
    (if (i32.eq (local.get $token) (i32.const 13)) (then (return (i32.const 320))))
    (i32.const 0))
