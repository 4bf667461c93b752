//! PostgreSQL, protocol 3, simple queries on the table `item (id int primary key, n int, text text)`
//! of the database `postgres`, as the user `postgres`, who is trusted.

use std::io::{self, Write as _};

use super::{Session, Wire, mysql::statement};

pub(super) struct Postgres(Wire);

impl Postgres {
    pub(super) fn greet(mut wire: Wire) -> io::Result<Self> {
        let mut words = 196_608i32.to_be_bytes().to_vec();
        words.extend(b"user\0postgres\0database\0postgres\0\0");
        wire.output.write_all(&framed(&words))?;
        let mut session = Self(wire);
        session.until_ready()?;
        Ok(session)
    }

    /// Takes messages until the server is ready for the next query.
    fn until_ready(&mut self) -> io::Result<()> {
        loop {
            let [kind] = self.0.bytes()?;
            let length = u32::from_be_bytes(self.0.bytes()?);
            self.0.skip(length.saturating_sub(4) as usize)?;
            if kind == b'Z' {
                return Ok(());
            }
        }
    }
}

impl Session for Postgres {
    fn request(&mut self, random: &mut fastrand::Rng) -> io::Result<()> {
        let mut query = statement(random).into_bytes();
        query.push(0);
        let mut message = vec![b'Q'];
        message.extend(framed(&query));
        self.0.output.write_all(&message)?;
        self.until_ready()
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&length[..], body].concat()
}
