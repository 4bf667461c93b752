//! The head of an HTTP/1.1 message, from the first bytes of a read or write.

use crate::record::{HttpMessage, TraceParent};

/// Capture looks at no more than this many bytes of a message.
pub const MAX_HEAD: usize = 1024;

/// Methods that are taken for HTTP even when the request line is cut off before its version.
const METHODS: [&[u8]; 9] = [
    b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT",
];
const MAX_METHOD: usize = 20;
/// `00-` trace id `-` span id `-` flags.
const TRACEPARENT_LEN: usize = 55;

/// Reads the head of an HTTP/1.0 or 1.1 message. `None` when the bytes do not start one. A head
/// that is cut off yields what was there; a `traceparent` line without its end yields none.
pub fn parse_head(bytes: &[u8]) -> Option<HttpMessage> {
    let bytes = &bytes[..bytes.len().min(MAX_HEAD)];
    if bytes.starts_with(b"HTTP/1.") {
        return parse_status(bytes).map(|status| HttpMessage::Response { status });
    }
    let mut lines = Lines(bytes);
    let (line, complete) = lines.next()?;
    let method = parse_request_line(line, complete)?;
    let traceparent = if complete {
        find_traceparent(lines)
    } else {
        None
    };
    Some(HttpMessage::Request {
        method,
        traceparent,
    })
}

/// `HTTP/1.x NNN`
fn parse_status(bytes: &[u8]) -> Option<u16> {
    let (minor, rest) = bytes[b"HTTP/1.".len()..].split_first()?;
    let digits = rest.strip_prefix(b" ")?.get(..3)?;
    let ended = rest
        .get(4)
        .is_none_or(|b| matches!(b, b' ' | b'\r' | b'\n'));
    if !minor.is_ascii_digit() || !digits.iter().all(u8::is_ascii_digit) || !ended {
        return None;
    }
    let status = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    (100..600).contains(&status).then_some(status)
}

/// `METHOD target HTTP/1.x`; without its end only a known method with a path counts.
fn parse_request_line(line: &[u8], complete: bool) -> Option<String> {
    let mut parts = line.splitn(3, |b| *b == b' ');
    let (method, target) = (parts.next()?, parts.next()?);
    if method.is_empty()
        || method.len() > MAX_METHOD
        || !method.iter().all(|b| b.is_ascii_uppercase() || *b == b'-')
        || target.is_empty()
    {
        return None;
    }
    let accepted = if complete {
        matches!(parts.next(), Some(b"HTTP/1.1" | b"HTTP/1.0"))
    } else {
        METHODS.contains(&method) && (target[0] == b'/' || target.starts_with(b"http"))
    };
    accepted.then(|| String::from_utf8_lossy(method).into_owned())
}

/// The one `traceparent` header. More than one is refused, as W3C asks.
fn find_traceparent(lines: Lines<'_>) -> Option<TraceParent> {
    let mut found = None;
    for (line, complete) in lines {
        if line.is_empty() || !complete {
            break;
        }
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            continue;
        };
        if line[..colon].eq_ignore_ascii_case(b"traceparent") {
            if found.is_some() {
                return None;
            }
            found = Some(parse_traceparent(line[colon + 1..].trim_ascii()));
        }
    }
    found.flatten()
}

/// W3C Trace Context, section 3.2: version 00 is exactly 55 lower-case characters; a later version
/// may carry more after a dash; version ff and ids of zeros only are invalid.
pub fn parse_traceparent(value: &[u8]) -> Option<TraceParent> {
    let version = hex::<1>(value.get(..2)?)?[0];
    let length_fits = match value.len() {
        TRACEPARENT_LEN => true,
        longer => version != 0 && longer > TRACEPARENT_LEN && value[TRACEPARENT_LEN] == b'-',
    };
    if version == 0xff || !length_fits || [2, 35, 52].iter().any(|dash| value[*dash] != b'-') {
        return None;
    }
    let parsed = TraceParent {
        trace_id: hex(&value[3..35])?,
        span_id: hex(&value[36..52])?,
        flags: hex::<1>(&value[53..55])?[0],
    };
    (parsed.trace_id != [0; 16] && parsed.span_id != [0; 8]).then_some(parsed)
}

/// Lower-case hexadecimal of exactly `N` bytes.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let nibble = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// Lines without their `\r\n`, each with whether its end was there.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], bool);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some(end) = self.0.iter().position(|b| *b == b'\n') else {
            return Some((std::mem::take(&mut self.0), false));
        };
        let line = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some((line.strip_suffix(b"\r").unwrap_or(line), true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn traceparent(head: &str) -> Option<TraceParent> {
        match parse_head(head.as_bytes()) {
            Some(HttpMessage::Request { traceparent, .. }) => traceparent,
            other => panic!("not a request: {other:?}"),
        }
    }

    #[test]
    fn request_with_traceparent_in_any_case_of_its_name() {
        for name in ["traceparent", "TraceParent", "TRACEPARENT"] {
            let head = format!("GET /p?x=1 HTTP/1.1\r\nHost: a\r\n{name}:  {VALID} \r\n\r\nbody");
            let parent = traceparent(&head).unwrap();
            assert_eq!(parent.trace_id[..2], [0x4b, 0xf9]);
            assert_eq!(
                parent.span_id,
                [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]
            );
            assert!(parent.is_sampled());
        }
    }

    #[test]
    fn body_is_not_searched_and_two_headers_are_refused() {
        assert_eq!(
            traceparent(&format!("POST / HTTP/1.1\r\n\r\ntraceparent: {VALID}\r\n")),
            None
        );
        let twice = format!("traceparent: {VALID}\r\n");
        assert_eq!(
            traceparent(&format!("GET / HTTP/1.1\r\n{twice}{twice}\r\n")),
            None
        );
        let other = format!("GET / HTTP/1.1\r\nx-traceparent: {VALID}\r\n\r\n");
        assert_eq!(traceparent(&other), None);
    }

    #[test]
    fn invalid_traceparents_are_refused() {
        for value in [
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "",
        ] {
            assert_eq!(parse_traceparent(value.as_bytes()), None, "{value}");
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-what";
        assert_eq!(
            parse_traceparent(later.as_bytes()).map(|p| p.flags),
            Some(0)
        );
    }

    #[test]
    fn heads_cut_off_anywhere_never_panic_and_never_invent_a_traceparent() {
        let head = format!("GET /a HTTP/1.1\r\ntraceparent: {VALID}\r\nHost: a\r\n\r\n");
        let complete = "GET /a HTTP/1.1\r\ntraceparent: ".len() + VALID.len() + 2;
        for cut in 0..head.len() {
            match parse_head(&head.as_bytes()[..cut]) {
                Some(HttpMessage::Request {
                    method,
                    traceparent,
                }) => {
                    assert_eq!(method, "GET");
                    assert_eq!(traceparent.is_some(), cut >= complete, "cut at {cut}");
                }
                Some(other) => panic!("{other:?}"),
                None => assert!(cut < 5, "cut at {cut}"),
            }
        }
    }

    #[test]
    fn responses_and_what_is_not_http() {
        let status = |bytes: &[u8]| match parse_head(bytes) {
            Some(HttpMessage::Response { status }) => Some(status),
            _ => None,
        };
        assert_eq!(status(b"HTTP/1.1 503 Service Unavailable\r\n"), Some(503));
        assert_eq!(status(b"HTTP/1.0 200"), Some(200));
        assert_eq!(status(b"HTTP/1.1 20"), None);
        assert_eq!(status(b"HTTP/1.1 2000\r\n"), None);
        assert_eq!(status(b"HTTP/1.1 999 x\r\n"), None);
        for bytes in [
            &b"*3\r\n$3\r\nSET\r\n"[..],
            b"GET key\r\n",
            b"get / HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM",
            b"HTTP/2 200\r\n",
            b"+PONG\r\n",
            b"\x16\x03\x01",
            b"",
            b"FOO / ",
            b"GET",
        ] {
            assert_eq!(
                parse_head(bytes),
                None,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
        assert!(parse_head(b"PROPFIND /x HTTP/1.1\r\n").is_some());
    }
}
