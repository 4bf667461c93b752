  ;; Asks for a clock.
  (import "stethos:plugin/clock@0.1.0" "now" (func $now (result i64)))
  (func $misbehave (param $token i32) (result i32) (i32.wrap_i64 (call $now)))
