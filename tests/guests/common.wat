  ;; A plugin of contract 0.1 in hand-written core WebAssembly, without the `(module …)` around
  ;; it. Each guest beside this file adds `$misbehave`: it is given the first token of the first
  ;; window and answers with the address of a result to return instead of the right one, or 0.
  ;;
  ;; Addresses: 0 description · 64 its text · 256 answer of load · 288 answer of score ·
  ;; 304 answer of assess · 320…1023 the guest's own · 1024 zeros that every list points to ·
  ;; 1536 the assessment · 2048… memory for arguments and verdicts, free again after each call.

  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 2048))

  (data (i32.const 0) "\40\00\00\00\04\00\00\00" "\48\00\00\00\03\00\00\00" "\50\00\00\00\07\00\00\00" "\01")
  (data (i32.const 64) "test")
  (data (i32.const 72) "1.0")
  (data (i32.const 80) "generic")
  ;; Ok(0, { vocabulary: 64, patterns: 8, profile: 4, latent: 2 })
  (data (i32.const 256) "\00\00\00\00" "\00\00\00\00" "\40\00\00\00" "\08\00\00\00" "\04\00\00\00" "\02\00\00\00")

  (func $take (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    ;; Arguments larger than the memory get more of it.
    (block $enough
      (br_if $enough (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
      (drop (memory.grow
        (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1)))))
    (local.get $at))

  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (call $take (local.get 3)))

  (func (export "stethos:plugin/plugin@0.1.0#describe") (result i32) (i32.const 0))

  ;; Fits nothing.
  (func (export "stethos:plugin/plugin@0.1.0#fit") (param $usage i32) (result f32)
    (global.set $free (i32.const 2048))
    (f32.const 0))

  (func (export "stethos:plugin/plugin@0.1.0#load") (param i32 i32) (result i32)
    (global.set $free (i32.const 2048))
    (i32.const 256))

  (func (export "stethos:plugin/plugin@0.1.0#unload") (param i32))

  ;; A surprise of 0 and an expected id of 0 for each token.
  (func (export "stethos:plugin/plugin@0.1.0#score")
    (param $model i32) (param $windows i32) (param $count i32) (result i32)
    (local $wrong i32) (local $verdicts i32) (local $index i32) (local $verdict i32) (local $length i32)
    (local.set $wrong
      (call $misbehave (i32.load16_u (i32.load offset=8 (local.get $windows)))))
    (if (local.get $wrong) (then (return (local.get $wrong))))
    (local.set $verdicts (call $take (i32.mul (local.get $count) (i32.const 16))))
    (loop $each
      (local.set $verdict
        (i32.add (local.get $verdicts) (i32.mul (local.get $index) (i32.const 16))))
      (local.set $length
        (i32.load offset=12
          (i32.add (local.get $windows) (i32.mul (local.get $index) (i32.const 16)))))
      (i32.store (local.get $verdict) (i32.const 1024))
      (i32.store offset=4 (local.get $verdict) (local.get $length))
      (i32.store offset=8 (local.get $verdict) (i32.const 1024))
      (i32.store offset=12 (local.get $verdict) (local.get $length))
      (local.set $index (i32.add (local.get $index) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $index) (local.get $count))))
    (i32.store (i32.const 288) (i32.const 0))
    (i32.store (i32.const 292) (local.get $verdicts))
    (i32.store (i32.const 296) (local.get $count))
    (i32.const 288))

  (func (export "cabi_post_stethos:plugin/plugin@0.1.0#score") (param i32)
    (global.set $free (i32.const 2048)))

  ;; One assessment, error 0 and latent code (0, 0), whatever the number of profiles.
  (func (export "stethos:plugin/plugin@0.1.0#assess")
    (param $model i32) (param $profiles i32) (param $count i32) (result i32)
    (global.set $free (i32.const 2048))
    (i32.store (i32.const 304) (i32.const 0))
    (i32.store (i32.const 308) (i32.const 1536))
    (i32.store (i32.const 312) (i32.const 1))
    (i32.store (i32.const 1536) (i32.const 0))
    (i32.store (i32.const 1540) (i32.const 1024))
    (i32.store (i32.const 1544) (i32.const 2))
    (i32.const 304))
