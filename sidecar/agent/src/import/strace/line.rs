//! One line of strace's output.

use crate::record::Nanos;

use super::super::{
    calls,
    error::{LineError, short},
};

/// Years after 2116 are mistakes.
const MAX_NS: Nanos = 1 << 62;
/// A number of seconds below this (1973) is the time since the line before (`-r`).
const FIRST_UNIX_NS: Nanos = 100_000_000 * SECOND;
const SECOND: Nanos = 1_000_000_000;
const MAX_NAME: usize = 64;

#[derive(Debug, PartialEq)]
pub(super) struct Line<'a> {
    pub(super) tid: Option<u32>,
    pub(super) stamp: Option<Stamp>,
    /// What `-T` says.
    pub(super) duration: Option<Nanos>,
    pub(super) said: Said<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stamp {
    /// `-ttt`
    Unix(Nanos),
    /// `-tt`, `-t`
    OfDay(Nanos),
    /// `-r`
    Since(Nanos),
}

#[derive(Debug, PartialEq)]
pub(super) enum Said<'a> {
    Call {
        name: &'a str,
        arguments: &'a str,
        returned: Returned,
    },
    Unfinished {
        name: &'a str,
        arguments: &'a str,
    },
    Resumed {
        name: &'a str,
        returned: Returned,
    },
    /// The end of a thread, with the code of `wait(2)`.
    Ended(i32),
    Signal,
    /// Words of strace about itself.
    Note,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Returned {
    pub(super) ret: i64,
    pub(super) no_return: bool,
}

pub(super) fn parse(text: &str) -> Result<Line<'_>, LineError> {
    let (tid, rest) = thread(text)?;
    let (stamp, rest) = stamp(rest)?;
    let (body, duration) = duration(rest);
    Ok(Line {
        tid,
        stamp,
        duration,
        said: said(text, body)?,
    })
}

/// `vfork(strace: Process 9 attached`: what stands before, and goes on in the next line.
pub(super) fn broken_off(text: &str) -> Option<&str> {
    let (start, rest) = text.split_once("strace: Process ")?;
    let (_, rest) = digits(rest);
    (!start.is_empty() && rest == " attached").then_some(start)
}

/// `[pid  7] …` or `7 …`, both also as `7<name>`.
fn thread(text: &str) -> Result<(Option<u32>, &str), LineError> {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix("[pid") {
        let wrong = || LineError::Thread(short(text));
        let (inside, rest) = rest.split_once(']').ok_or_else(wrong)?;
        let (digits, _) = digits(inside.trim_start());
        let tid = digits.parse().map_err(|_| wrong())?;
        return Ok((Some(tid), rest));
    }
    let (digits, rest) = digits(text);
    let after = match rest.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
        Some((_, rest)) => rest,
        None => rest,
    };
    if digits.is_empty() || !after.starts_with([' ', '\t']) {
        return Ok((None, text));
    }
    let tid = digits
        .parse()
        .map_err(|_| LineError::Thread(short(digits)))?;
    Ok((Some(tid), after))
}

fn stamp(text: &str) -> Result<(Option<Stamp>, &str), LineError> {
    let text = text.trim_start();
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    if !word.starts_with(|first: char| first.is_ascii_digit()) {
        return Ok((None, text));
    }
    let found = match word.contains(':') {
        true => time_of_day(word).map(Stamp::OfDay),
        false => seconds(word).map(|ns| match ns {
            FIRST_UNIX_NS.. => Stamp::Unix(ns),
            _ => Stamp::Since(ns),
        }),
    };
    let stamp = found.ok_or_else(|| LineError::Time(short(word)))?;
    // `-r` beside another clock.
    let rest = rest.trim_start();
    let rest = match rest
        .strip_prefix("(+")
        .and_then(|rest| rest.split_once(')'))
    {
        Some((_, rest)) => rest.trim_start(),
        None => rest,
    };
    Ok((Some(stamp), rest))
}

/// `<0.000012>` at the end.
fn duration(text: &str) -> (&str, Option<Nanos>) {
    let text = text.trim();
    let found = (|| {
        let (before, inside) = text.strip_suffix('>')?.rsplit_once('<')?;
        Some((before.trim_end(), seconds(inside)?))
    })();
    match found {
        Some((before, ns)) => (before, Some(ns)),
        None => (text, None),
    }
}

fn said<'a>(whole: &str, body: &'a str) -> Result<Said<'a>, LineError> {
    if let Some(rest) = body.strip_prefix("<... ") {
        let (name, rest) = rest.split_once(" resumed").ok_or(LineError::NoCall)?;
        let (_, rest) = rest.split_once('>').ok_or(LineError::NoResult)?;
        let (_, result) = result(rest).ok_or(LineError::NoResult)?;
        return Ok(Said::Resumed {
            name,
            returned: returned(result)?,
        });
    }
    if let Some(rest) = body.strip_prefix("+++ ") {
        return Ok(ended(rest).map_or(Said::Note, Said::Ended));
    }
    if body.starts_with("--- ") {
        return Ok(Said::Signal);
    }
    let notes = ["strace: ", "Process ", "[ Process "];
    if notes.iter().any(|note| body.starts_with(note)) || whole.starts_with(" > ") {
        return Ok(Said::Note);
    }
    let (name, rest) = body.split_once('(').ok_or(LineError::NoCall)?;
    let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(named) {
        return Err(LineError::NoCall);
    }
    if let Some(arguments) = rest.strip_suffix("<unfinished ...>") {
        return Ok(Said::Unfinished { name, arguments });
    }
    if rest.ends_with("<detached ...>") {
        return Ok(Said::Note);
    }
    let (arguments, result) = result(rest).ok_or(LineError::NoResult)?;
    Ok(Said::Call {
        name,
        arguments,
        returned: returned(result)?,
    })
}

/// Arguments and result: parted by the last `) = `, because arguments may hold anything.
fn result(text: &str) -> Option<(&str, &str)> {
    let mut end = text.len();
    loop {
        let at = text[..end].rfind("= ")?;
        let before = &text[..at];
        if before.ends_with([' ', '\t'])
            && let Some(arguments) = before.trim_end().strip_suffix(')')
        {
            return Some((arguments, &text[at + 2..]));
        }
        end = at;
    }
}

fn returned(text: &str) -> Result<Returned, LineError> {
    let wrong = || LineError::Result(short(text));
    let text = text.trim();
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let error = rest.trim_start().split(' ').next().unwrap_or_default();
    let plain = |ret| Returned {
        ret,
        no_return: false,
    };
    if first == "?" {
        return Ok(match calls::errno(error) {
            Some(errno) => plain(-errno),
            None => Returned {
                ret: 0,
                no_return: true,
            },
        });
    }
    // What `-y` says of a descriptor follows directly.
    let value = first.split('<').next().unwrap_or_default();
    let value = number(value).ok_or_else(wrong)?;
    if value != -1 || error.is_empty() {
        return Ok(plain(value));
    }
    let unnamed = || {
        let digits = rest
            .trim_start()
            .strip_prefix("(errno ")?
            .strip_suffix(')')?;
        digits.parse::<u16>().ok().map(i64::from)
    };
    let errno = calls::errno(error).or_else(unnamed).ok_or_else(wrong)?;
    Ok(plain(-errno))
}

/// Decimal, `0x…` or, with a leading zero, octal.
fn number(text: &str) -> Option<i64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok().map(|n| n as i64);
    }
    if text.len() > 1 && text.starts_with('0') {
        return i64::from_str_radix(text, 8).ok();
    }
    // Beyond i64: an address or offset in decimal.
    let unsigned = || text.parse::<u64>().ok().map(|n| n as i64);
    text.parse().ok().or_else(unsigned)
}

/// None for what is no end of a thread: a leader whose place another thread took with an exec.
fn ended(text: &str) -> Option<i32> {
    if let Some(rest) = text.strip_prefix("exited with ") {
        let (digits, _) = digits(rest);
        return Some((digits.parse::<i32>().ok()? & 0xff) << 8);
    }
    let rest = text.strip_prefix("killed by ")?;
    let name = rest.split(' ').next().unwrap_or_default();
    let dumped = if rest.contains("core dumped") {
        0x80
    } else {
        0
    };
    Some(calls::signal(name).map_or(-1, |signal| signal | dumped))
}

/// `12.000345`
fn seconds(text: &str) -> Option<Nanos> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(part) {
        return None;
    }
    let part = &part[..part.len().min(9)];
    let fraction = part.parse::<Nanos>().ok()? * 10u64.pow(9 - part.len() as u32);
    let whole = whole.parse::<Nanos>().ok()?.checked_mul(SECOND)?;
    let ns = whole.checked_add(fraction)?;
    (ns <= MAX_NS).then_some(ns)
}

/// `23:59:58.000345`
pub(in crate::import) fn time_of_day(text: &str) -> Option<Nanos> {
    let (hours, rest) = text.split_once(':')?;
    let (minutes, rest) = rest.split_once(':')?;
    let field = |text: &str, most: Nanos| {
        let value = text.parse::<Nanos>().ok()?;
        (value <= most).then_some(value)
    };
    let minutes = field(hours, 24)? * 60 + field(minutes, 59)?;
    let rest = seconds(rest).filter(|ns| *ns < 61 * SECOND)?;
    Some(minutes * 60 * SECOND + rest)
}

/// Decimal digits at the start, and what follows.
pub(super) fn digits(text: &str) -> (&str, &str) {
    let end = text
        .bytes()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests;
