//! Single calls that are missing, come twice or are others than usual, put into normal calls: what a
//! model has to find.

use std::collections::BTreeSet;

use stethos_patterns::{Token, Window, WindowCall};

/// One call in so many is changed.
const EVERY: usize = 300;
/// Calls that show change `n` return `FIRST + n`.
const FIRST: i64 = i64::MIN;

/// The change that a call shows.
pub(crate) fn shown(call: &WindowCall) -> Option<i64> {
    (call.ret < FIRST + (1 << 40)).then_some(call.ret)
}

/// `windows` with changes from `middle_ns` on; each thread's windows are together and in order. The
/// same windows always get the same changes.
pub(crate) fn changed(windows: &[Window], middle_ns: u64) -> Vec<Window> {
    let calls = windows.iter().flat_map(|window| &window.calls);
    let tokens: BTreeSet<Token> = calls.map(|call| call.token).collect();
    let tokens: Vec<Token> = tokens.into_iter().collect();
    let mut random = fastrand::Rng::with_seed(1);
    let mut mark = FIRST;
    // What the next call, and the next one on that descriptor, have to show.
    let mut missing: Option<(u64, i32, i64)> = None;
    let mut changed = windows.to_vec();
    for window in &mut changed {
        let stream = window.stream();
        missing = missing.filter(|(thread, ..)| *thread == stream);
        let mut calls = Vec::with_capacity(window.calls.len());
        for mut call in std::mem::take(&mut window.calls) {
            if let Some((_, fd, mark)) = missing {
                call.ret = mark;
                if fd == call.fd || fd < 0 {
                    missing = None;
                }
            } else if call.enter_ns > middle_ns && random.usize(..EVERY) == 0 {
                mark += 1;
                match random.u8(..3) {
                    0 => {
                        missing = Some((stream, call.fd, mark));
                        continue;
                    }
                    1 => calls.push(WindowCall { ret: mark, ..call }),
                    _ => call.token = tokens[random.usize(..tokens.len())],
                }
                call.ret = mark;
            }
            calls.push(call);
        }
        window.calls = calls;
    }
    changed
}
