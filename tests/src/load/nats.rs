//! The text protocol of NATS: messages that come back to who listens.

use std::io::{self, Write as _};

use super::{Session, Wire};

pub(super) struct Nats(Wire);

impl Nats {
    pub(super) fn greet(mut wire: Wire) -> io::Result<Self> {
        wire.line()?;
        wire.output
            .write_all(b"CONNECT {\"verbose\":false}\r\nSUB room.1 1\r\nPING\r\n")?;
        let mut session = Self(wire);
        session.until_pong()?;
        Ok(session)
    }

    /// Takes messages and pings until the server has seen everything that was sent.
    fn until_pong(&mut self) -> io::Result<()> {
        loop {
            let line = self.0.line()?;
            if line == "PONG" {
                return Ok(());
            }
            if line == "PING" {
                self.0.output.write_all(b"PONG\r\n")?;
            }
            if line.starts_with("MSG ") {
                let size = line.rsplit(' ').next().and_then(|size| size.parse().ok());
                let size: usize = size.ok_or(io::ErrorKind::InvalidData)?;
                self.0.skip(size + 2)?;
            }
        }
    }
}

impl Session for Nats {
    fn request(&mut self, random: &mut fastrand::Rng) -> io::Result<()> {
        let payload = "x".repeat([20, 500, 8_000][random.usize(..3)]);
        let topic = random.u8(..16);
        let message = format!(
            "PUB room.{topic} {}\r\n{payload}\r\nPING\r\n",
            payload.len()
        );
        self.0.output.write_all(message.as_bytes())?;
        self.until_pong()
    }
}
