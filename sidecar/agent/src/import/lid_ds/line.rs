//! One line, in any of the forms.

use super::super::{LineError, error::short, strace::time_of_day};
use crate::record::Nanos;

/// Times beyond 2116 are mistakes.
const MAX_NS: Nanos = 1 << 62;
/// Words in which the direction is looked for: names of processes may have several.
const MAX_WORDS: usize = 24;
const MAX_ARGUMENTS: usize = 32;

#[derive(Debug, PartialEq)]
pub(super) struct Line<'a> {
    pub(super) time: Time,
    pub(super) pid: Option<u32>,
    pub(super) tid: u32,
    pub(super) begins: bool,
    /// Of an end, the time since the beginning; 0 where it is not told.
    pub(super) since_ns: Nanos,
    pub(super) call: &'a str,
    arguments: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Time {
    Unix(Nanos),
    OfDay(Nanos),
}

pub(super) fn parse(text: &str) -> Result<Line<'_>, LineError> {
    match bars(text)? {
        Some(line) => Ok(line),
        None => columns(text),
    }
}

/// Columns between bars; none where the second column is none.
fn bars(text: &str) -> Result<Option<Line<'_>>, LineError> {
    let mut fields = text.splitn(7, " |").map(str::trim);
    let mut next = || fields.next().unwrap_or_default();
    let (time, since, tid, direction, call, arguments) =
        (next(), next(), next(), next(), next(), next());
    if call.is_empty() || time.contains(' ') {
        return Ok(None);
    }
    Ok(Some(Line {
        time: unix(time)?,
        pid: None,
        tid: thread(tid)?,
        begins: begins(direction).ok_or(LineError::NoDirection)?,
        since_ns: since.parse().unwrap_or(0),
        call: named(call)?,
        arguments,
    }))
}

/// Columns between blanks.
fn columns(text: &str) -> Result<Line<'_>, LineError> {
    let words = || Words { rest: text };
    let at = |index: usize| words().nth(index).unwrap_or_default();
    let (first, second) = (at(0), at(1));
    if second.is_empty() {
        return Err(LineError::NoCall);
    }
    let by_day = second.contains(':');
    let time = match by_day {
        true => time_of_day(second)
            .map(Time::OfDay)
            .ok_or_else(|| LineError::Time(short(second)))?,
        false => unix(first)?,
    };
    let least = if by_day { 5 } else { 6 };
    let mut candidates = words().take(MAX_WORDS).enumerate().skip(least);
    let (place, begins) = candidates
        .find_map(|(place, word)| Some((place, begins(word)?)))
        .ok_or(LineError::NoDirection)?;
    let (tid, call, after) = match by_day {
        true => (at(place - 1), at(place + 1), place + 2),
        false => (at(place - 2), at(place - 1), place + 1),
    };
    let bare = tid.strip_prefix('(').and_then(|tid| tid.strip_suffix(')'));
    let mut rest = words();
    rest.by_ref().take(after).for_each(drop);
    Ok(Line {
        time,
        pid: (!by_day).then(|| at(2).parse().ok()).flatten(),
        tid: thread(bare.unwrap_or(tid))?,
        begins,
        since_ns: 0,
        call: named(call)?,
        arguments: rest.rest.trim(),
    })
}

struct Words<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start_matches([' ', '\t']);
        let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }
}

fn unix(text: &str) -> Result<Time, LineError> {
    let parsed = text.parse().ok().filter(|ns| *ns <= MAX_NS);
    parsed
        .map(Time::Unix)
        .ok_or_else(|| LineError::Time(short(text)))
}

fn thread(text: &str) -> Result<u32, LineError> {
    text.parse().map_err(|_| LineError::Thread(short(text)))
}

fn begins(word: &str) -> Option<bool> {
    match word {
        ">" => Some(true),
        "<" => Some(false),
        _ => None,
    }
}

fn named(call: &str) -> Result<&str, LineError> {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '<' | '>'));
    if call.is_empty() || call.len() > 64 || call.contains(odd) {
        return Err(LineError::NoCall);
    }
    Ok(call)
}

impl<'a> Line<'a> {
    /// Of a call that sysdig has no event for, the name stands among the arguments:
    /// `syscall ID=157(prctl)`.
    pub(super) fn name(&self) -> &'a str {
        let inside = || {
            let (_, name) = self.argument("ID")?.split_once('(')?;
            name.strip_suffix(')')
        };
        match self.call {
            "syscall" => inside().unwrap_or(self.call),
            call => call,
        }
    }

    fn words(&self) -> impl Iterator<Item = &'a str> {
        let rest = self.arguments;
        Words { rest }.take(MAX_ARGUMENTS)
    }

    /// Value of a named argument, up to the next blank.
    pub(super) fn argument(&self, name: &str) -> Option<&'a str> {
        self.words()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// What the call gave back: `res=-11(EAGAIN)`, or the descriptor that it made.
    pub(super) fn result(&self) -> Option<i64> {
        match self.words().next()?.split_once('=')? {
            ("res" | "fd", text) => value(text),
            _ => None,
        }
    }

    /// The descriptor that the call is about.
    pub(super) fn descriptor(&self) -> Option<i32> {
        let (name, text) = self.words().next()?.split_once('=')?;
        let number = name.ends_with("fd").then(|| value(text))??;
        i32::try_from(number).ok().filter(|fd| *fd >= 0)
    }
}

/// Decimal, or an address in bare hexadecimal digits; what follows in parentheses explains it.
pub(super) fn value(text: &str) -> Option<i64> {
    let (digits, _) = text.split_once('(').unwrap_or((text, ""));
    let hexadecimal = || u64::from_str_radix(digits, 16).ok().map(|n| n as i64);
    digits.parse().ok().or_else(hexadecimal)
}
