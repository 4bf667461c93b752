//! memcached's text protocol.

use std::io::{self, Write as _};

use super::{Session, Wire};

pub(super) struct Memcached(pub(super) Wire);

impl Session for Memcached {
    fn request(&mut self, random: &mut fastrand::Rng) -> io::Result<()> {
        let key = format!("key{}", random.u16(..500));
        let size = [20, 500, 40_000][random.usize(..3)];
        let request = match random.u8(..100) {
            0..60 => format!("get {key}\r\n"),
            60..90 => format!("set {key} 0 0 {size}\r\n{}\r\n", "x".repeat(size)),
            90..95 => format!("delete {key}\r\n"),
            _ => format!("get {key} other1 other2\r\n"),
        };
        self.0.output.write_all(request.as_bytes())?;
        loop {
            let line = self.0.line()?;
            let Some(value) = line.strip_prefix("VALUE ") else {
                return Ok(());
            };
            let size = value.rsplit(' ').next().and_then(|size| size.parse().ok());
            let size: usize = size.ok_or(io::ErrorKind::InvalidData)?;
            self.0.skip(size + 2)?;
        }
    }
}
