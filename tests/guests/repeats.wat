  ;; Answers token 13 with 4096 verdicts that all point to the same 64 KiB: 512 MiB for a host
  ;; that copies them.
  (data (i32.const 320) "\00\00\00\00" "\00\00\01\00" "\00\10\00\00")
  (func $misbehave (param $token i32) (result i32)
    (local $verdict i32)
    (if (i32.ne (local.get $token) (i32.const 13)) (then (return (i32.const 0))))
    (local.set $verdict (i32.const 65536))
    (loop $each
      (i32.store (local.get $verdict) (i32.const 0))
      (i32.store offset=4 (local.get $verdict) (i32.const 16384))
      (i32.store offset=8 (local.get $verdict) (i32.const 0))
      (i32.store offset=12 (local.get $verdict) (i32.const 32768))
      (local.set $verdict (i32.add (local.get $verdict) (i32.const 16)))
      (br_if $each (i32.lt_u (local.get $verdict) (i32.const 131072))))
    (i32.const 320))
