//! Plain call numbers between white space: one sequence, without times and results.

use stethos_patterns::Token;

use super::{Event, LineError, STEP_NS, Trace, What, calls::Names, error::short};
use crate::record::Call;

pub(super) struct Numbers {
    names: Names,
    events: Vec<Event>,
}

impl Numbers {
    pub(super) fn new(names: Names) -> Self {
        Numbers {
            names,
            events: Vec::new(),
        }
    }

    /// Takes one word. A number that no call can have keeps its place, as an unknown call.
    pub(super) fn take(&mut self, word: &str) -> Result<(), LineError> {
        let bare = word.trim_matches(|c| matches!(c, ',' | ';'));
        if bare.is_empty() || !bare.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(LineError::Number(short(word)));
        }
        let number = bare.parse().ok().filter(|nr| *nr < Token::UNKNOWN_CALL);
        let nr = number.unwrap_or(Token::UNKNOWN_CALL);
        if !self.names.table.knows(nr) {
            self.names.unknown(bare);
        }
        let at_ns = self.events.len() as u64 * STEP_NS;
        self.events.push(Event {
            tid: None,
            at_ns,
            what: What::Call(Call {
                nr,
                fd: -1,
                ret: 0,
                enter_ns: at_ns,
                duration_ns: 0,
                no_return: false,
                counted: false,
            }),
        });
        Ok(())
    }

    pub(super) fn held(&self) -> usize {
        self.events.len()
    }

    pub(super) fn finish(self) -> Trace {
        let mut counts = self.names.counts();
        counts.calls = self.events.len() as u64;
        Trace {
            events: self.events,
            counts,
            ..Trace::default()
        }
    }
}

/// Whether all words of a line are numbers.
pub(super) fn looks_like(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace().peekable();
    words.peek().is_some() && words.all(|word| word.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::super::Arch;
    use super::*;

    fn read(text: &str) -> (Trace, Vec<LineError>) {
        let mut parser = Numbers::new(Names::new(Arch::I386));
        let words = text.split_ascii_whitespace();
        let bad = words.filter_map(|word| parser.take(word).err()).collect();
        (parser.finish(), bad)
    }

    fn numbers(trace: &Trace) -> Vec<u16> {
        let calls = trace.events.iter().filter_map(|event| match &event.what {
            What::Call(call) => Some(call.nr),
            _ => None,
        });
        calls.collect()
    }

    #[test]
    fn numbers_become_calls_at_equal_steps() {
        let (trace, bad) = read("6 6 63 6\r\n 42 120");
        assert_eq!(numbers(&trace), [6, 6, 63, 6, 42, 120]);
        assert!(bad.is_empty() && !trace.dated);
        assert_eq!(trace.events[5].at_ns, 5 * STEP_NS);
        assert_eq!(trace.counts.unknown, 0);
    }

    #[test]
    fn numbers_without_a_name_stay_and_are_counted() {
        let (trace, bad) = read("3 900 65534 65535 99999999999999999999 4");
        let unknown = Token::UNKNOWN_CALL;
        assert_eq!(numbers(&trace), [3, 900, unknown, unknown, unknown, 4]);
        assert_eq!((trace.counts.unknown, bad.len()), (4, 0));
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let (trace, bad) = read("3 -4 x 5.5 0x10 4,");
        assert_eq!(numbers(&trace), [3, 4]);
        assert_eq!(bad.len(), 4);
        assert_eq!(bad[0].to_string(), "\"-4\" is no call number");
    }
}
