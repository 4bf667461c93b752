//! HTTP/1.1: files small and large, some that are missing, bodies that come back.

use std::io::{self, BufRead as _, Write as _};

use super::{Session, Wire};

pub(super) struct Http {
    pub(super) wire: Wire,
    pub(super) closing: bool,
}

impl Session for Http {
    fn request(&mut self, random: &mut fastrand::Rng) -> io::Result<()> {
        let (method, path) = match random.u8(..100) {
            0..50 => ("GET", "/small.txt"),
            50..70 => ("GET", "/page.html"),
            70..78 => ("GET", "/big.bin"),
            78..86 => ("GET", "/missing.html"),
            86..90 => ("HEAD", "/page.html"),
            _ => ("POST", "/echo"),
        };
        let connection = if self.closing {
            "Connection: close\r\n"
        } else {
            ""
        };
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: bench\r\n{connection}");
        if method == "POST" {
            let size = [100, 2_000, 20_000][random.usize(..3)];
            request += &format!("Content-Length: {size}\r\n\r\n");
            request.extend(std::iter::repeat_n('x', size));
        } else {
            request += "\r\n";
        }
        self.wire.output.write_all(request.as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.wire.input.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let lower = head.to_ascii_lowercase();
        if method != "HEAD" {
            self.body(&lower)?;
        }
        if lower.contains("connection: close") {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl Http {
    /// `head` in lower case.
    fn body(&mut self, head: &str) -> io::Result<()> {
        if !head.contains("transfer-encoding: chunked") {
            let length = content_length(head).ok_or(io::ErrorKind::InvalidData)?;
            return self.wire.skip(length);
        }
        loop {
            let line = self.wire.line()?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            self.wire.skip(size + 2)?;
            if size == 0 {
                return Ok(());
            }
        }
    }
}

/// What the head of a message says of its body's length.
pub fn content_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    })
}
