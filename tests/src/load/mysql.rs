//! MySQL, protocol 4.1, text queries on the table `item (id int primary key, n int, text text)` of the
//! database `bench`, as the user `bench` without a password.

use std::io::{self, Write as _};

use super::{Session, Wire};

const LONG_PASSWORD: u32 = 1;
const CONNECT_WITH_DB: u32 = 8;
const PROTOCOL_41: u32 = 0x200;
const SECURE_CONNECTION: u32 = 0x8000;
const PLUGIN_AUTH: u32 = 0x8_0000;
/// Longest packet that is asked for.
const MAX_PACKET: u32 = 1 << 24;
const UTF8: u8 = 33;

pub(super) struct MySql(Wire);

impl MySql {
    pub(super) fn greet(wire: Wire) -> io::Result<Self> {
        let mut session = Self(wire);
        session.packet()?;
        let flags = LONG_PASSWORD | CONNECT_WITH_DB | PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;
        let mut answer = [flags.to_le_bytes(), MAX_PACKET.to_le_bytes()].concat();
        answer.push(UTF8);
        answer.extend([0; 23]);
        answer.extend(b"bench\0\0bench\0mysql_native_password\0");
        session.send(1, &answer)?;
        match session.packet()?.first() {
            Some(0) => Ok(session),
            // Another way to authenticate is asked for: nothing to say in it either.
            Some(0xfe) => {
                session.send(3, &[])?;
                session.packet()?;
                Ok(session)
            }
            _ => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    fn send(&mut self, number: u8, body: &[u8]) -> io::Result<()> {
        let [one, two, three, _] = (body.len() as u32).to_le_bytes();
        let packet = [&[one, two, three, number][..], body].concat();
        self.0.output.write_all(&packet)
    }

    fn packet(&mut self) -> io::Result<Vec<u8>> {
        let [one, two, three, _] = self.0.bytes()?;
        let mut body = vec![0; u32::from_le_bytes([one, two, three, 0]) as usize];
        io::Read::read_exact(&mut self.0.input, &mut body)?;
        Ok(body)
    }
}

impl Session for MySql {
    fn request(&mut self, random: &mut fastrand::Rng) -> io::Result<()> {
        const QUERY: u8 = 3;
        let query = [&[QUERY][..], statement(random).as_bytes()].concat();
        self.send(0, &query)?;
        // Done, or an error; otherwise columns and rows, each ended by a short packet.
        if matches!(self.packet()?.first(), Some(0 | 0xff) | None) {
            return Ok(());
        }
        let mut ends = 0;
        while ends < 2 {
            let packet = self.packet()?;
            match packet.first() {
                Some(0xff) => return Ok(()),
                Some(0xfe) if packet.len() < 9 => ends += 1,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Rows of the table.
const ROWS: u32 = 2_000;

/// A statement that both databases understand; some are wrong.
pub(super) fn statement(random: &mut fastrand::Rng) -> String {
    let id = random.u32(1..=ROWS);
    match random.u8(..100) {
        0..55 => format!("SELECT n, text FROM item WHERE id = {id}"),
        55..65 => format!(
            "SELECT sum(n) FROM item WHERE id BETWEEN {id} AND {}",
            id + 100
        ),
        65..85 => format!("UPDATE item SET n = n + 1 WHERE id = {id}"),
        85..90 => format!("DELETE FROM item WHERE id = {}", id + ROWS),
        90..95 => {
            let text = "x".repeat([20, 2_000][random.usize(..2)]);
            format!("INSERT INTO item VALUES ({}, 0, '{text}')", id + ROWS)
        }
        95..98 => "SELECT count(*) FROM item WHERE text LIKE '%y%'".to_owned(),
        _ => "SELECT nothing FROM nowhere".to_owned(),
    }
}
