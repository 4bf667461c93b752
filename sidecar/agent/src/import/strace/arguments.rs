//! What the arguments of a call say.

use super::super::calls;

/// Longest string that is taken over: `PATH_MAX`.
const MAX_STRING: usize = 4096;

/// The number that the first argument starts with: `3`, `3</etc/passwd>`. None for `AT_FDCWD`.
pub(super) fn first_descriptor(arguments: &str) -> Option<i32> {
    let (digits, rest) = super::line::digits(arguments.trim_start());
    let whole = rest.is_empty() || rest.starts_with([',', '<', ' ', ')']);
    digits.parse().ok().filter(|_| whole)
}

/// The first string, unless strace cut it short.
pub(super) fn first_string(arguments: &str) -> Option<String> {
    string(arguments.split_once('"')?.1)
}

/// `127.0.0.1:6379`, `[::1]:80`, `unix:/run/x.sock`
pub(super) fn peer(arguments: &str) -> Option<String> {
    let after = |mark: &str| Some(arguments.split_once(mark)?.1);
    let port = |mark| {
        let (digits, _) = super::line::digits(after(mark)?);
        digits.parse::<u16>().ok()
    };
    let family = after("sa_family=")?.split([',', '}']).next()?;
    match family {
        "AF_INET" => {
            let address = string(after("inet_addr(\"")?)?;
            Some(format!("{address}:{}", port("sin_port=htons(")?))
        }
        "AF_INET6" => {
            let address = string(after("inet_pton(AF_INET6, \"")?)?;
            Some(format!("[{address}]:{}", port("sin6_port=htons(")?))
        }
        "AF_UNIX" | "AF_LOCAL" => {
            let rest = after("sun_path=")?;
            let (abstract_mark, rest) = match rest.strip_prefix('@') {
                Some(rest) => ("@", rest),
                None => ("", rest),
            };
            let path = string(rest.strip_prefix('"')?)?;
            Some(format!("unix:{abstract_mark}{path}"))
        }
        _ => None,
    }
}

/// The error of a socket that a `getsockopt` with these arguments handed out, which capture takes for
/// what the call returned.
pub(super) fn socket_error(name: &str, arguments: &str) -> Option<i64> {
    let value = arguments.split_once("SOL_SOCKET, SO_ERROR, [")?.1;
    let value = value.split(']').next()?;
    let error = calls::errno(value).or_else(|| value.parse::<u8>().ok().map(i64::from))?;
    (name == "getsockopt" && error > 0).then_some(error)
}

/// A string of C up to its closing quote.
fn string(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes().peekable();
    loop {
        let byte = match rest.next()? {
            b'"' => break,
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'v' => 0x0b,
                b'f' => 0x0c,
                b'x' => {
                    let mut digit = || (rest.next()? as char).to_digit(16);
                    (digit()? * 16 + digit()?) as u8
                }
                first @ b'0'..=b'7' => {
                    let mut value = u32::from(first - b'0');
                    for _ in 0..2 {
                        let Some(digit @ b'0'..=b'7') = rest.peek().copied() else {
                            break;
                        };
                        value = value * 8 + u32::from(digit - b'0');
                        rest.next();
                    }
                    value as u8
                }
                other => other,
            },
            other => other,
        };
        if bytes.len() >= MAX_STRING {
            return None;
        }
        bytes.push(byte);
    }
    // `"…"...`: cut short.
    if rest.peek() == Some(&b'.') {
        return None;
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_stand_first() {
        assert_eq!(first_descriptor("3, \"\", 9"), Some(3));
        assert_eq!(first_descriptor("3</etc/a(b>"), Some(3));
        for text in ["AT_FDCWD, \"a\"", "-1", "", "3a", "0x7f00", "99999999999"] {
            assert_eq!(first_descriptor(text), None, "{text}");
        }
    }

    #[test]
    fn errors_that_sockets_hand_out_are_found() {
        for (name, arguments, error) in [
            (
                "getsockopt",
                "3<socket:[7]>, SOL_SOCKET, SO_ERROR, [ECONNREFUSED], [4]",
                Some(111),
            ),
            (
                "getsockopt",
                "3, SOL_SOCKET, SO_ERROR, [113], [4]",
                Some(113),
            ),
            ("getsockopt", "3, SOL_SOCKET, SO_ERROR, [0], [4]", None),
            ("getsockopt", "3, SOL_SOCKET, SO_TYPE, [1], [4]", None),
            ("getsockopt", "3, SOL_SOCKET, SO_ERROR, 0x7f00, [4]", None),
            ("read", "3, \"SOL_SOCKET, SO_ERROR, [111]\"", None),
        ] {
            assert_eq!(socket_error(name, arguments), error, "{arguments}");
        }
    }

    #[test]
    fn strings_are_read_as_they_were_passed() {
        for (text, string) in [
            (
                r#"AT_FDCWD, "/etc/a \"b\"\n", O_RDONLY"#,
                Some("/etc/a \"b\"\n"),
            ),
            (r#""/tmp/\303\244\1x", R_OK"#, Some("/tmp/ä\u{1}x")),
            (r#""\x2f\x61""#, Some("/a")),
            (r#""/very/long"..., R_OK"#, None),
            (r#""/never/closed"#, None),
            ("NULL, 8", None),
        ] {
            assert_eq!(first_string(text).as_deref(), string, "{text}");
        }
    }

    #[test]
    fn peers_are_written_as_capture_writes_them() {
        for (text, address) in [
            (
                r#"3, {sa_family=AF_INET, sin_port=htons(6379), sin_addr=inet_addr("10.0.0.2")}, 16"#,
                Some("10.0.0.2:6379"),
            ),
            (
                "3, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), \
                 inet_pton(AF_INET6, \"::1\", &sin6_addr), sin6_scope_id=0}, 28",
                Some("[::1]:80"),
            ),
            (
                r#"3, {sa_family=AF_UNIX, sun_path="/run/x.sock"}, 16"#,
                Some("unix:/run/x.sock"),
            ),
            (
                r#"3, {sa_family=AF_UNIX, sun_path=@"x"}, 4"#,
                Some("unix:@x"),
            ),
            ("3, {sa_family=AF_NETLINK, nl_pid=0}, 12", None),
            ("3, 0x7ffe, 16", None),
        ] {
            assert_eq!(peer(text).as_deref(), address, "{text}");
        }
    }
}
