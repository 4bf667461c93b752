//! MQTT 3.1.1: clients that publish, and every fourth one that also listens.

use std::io::{self, Write as _};

use super::{Session, Wire};

const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x30;
const PUBLISH_ACKNOWLEDGED: u8 = 0x32;
const ACKNOWLEDGE: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBSCRIBED: u8 = 0x90;
const PING: u8 = 0xc0;
const PONG: u8 = 0xd0;
const USER: &str = "bench";

pub(super) struct Mqtt {
    wire: Wire,
    number: u16,
}

impl Mqtt {
    pub(super) fn greet(mut wire: Wire, client: usize) -> io::Result<Self> {
        let mut body = text("MQTT");
        // Version 4; a clean session with user and password, kept for a minute.
        body.extend([4, 0xc2, 0, 60]);
        for part in [
            &format!("client-{client}-{}", fastrand::u32(..)),
            USER,
            USER,
        ] {
            body.extend(text(part));
        }
        wire.output.write_all(&packet(CONNECT, &body))?;
        let [_, _, _, refused] = wire.bytes()?;
        if refused != 0 {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let mut session = Self { wire, number: 0 };
        if client.is_multiple_of(4) {
            let mut body = vec![0, 1];
            body.extend(text(&format!("room/{}", client % 16)));
            body.push(0);
            session.wire.output.write_all(&packet(SUBSCRIBE, &body))?;
            session.until(SUBSCRIBED)?;
        }
        Ok(session)
    }

    /// Takes packets, published ones too, until one of this kind.
    fn until(&mut self, wanted: u8) -> io::Result<()> {
        loop {
            let [kind] = self.wire.bytes()?;
            let (mut length, mut shift) = (0usize, 0);
            loop {
                let [byte] = self.wire.bytes()?;
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 || shift > 21 {
                    break;
                }
            }
            self.wire.skip(length)?;
            if kind == wanted {
                return Ok(());
            }
        }
    }
}

impl Session for Mqtt {
    fn request(&mut self, random: &mut fastrand::Rng) -> io::Result<()> {
        let topic = text(&format!("room/{}", random.u8(..16)));
        let payload = "x".repeat([20, 500, 8_000][random.usize(..3)]);
        if random.u8(..100) < 60 {
            self.number = self.number.wrapping_add(1).max(1);
            let body = [&topic, &self.number.to_be_bytes()[..], payload.as_bytes()].concat();
            let published = packet(PUBLISH_ACKNOWLEDGED, &body);
            self.wire.output.write_all(&published)?;
            return self.until(ACKNOWLEDGE);
        }
        let body = [&topic, payload.as_bytes()].concat();
        self.wire.output.write_all(&packet(PUBLISH, &body))?;
        self.wire.output.write_all(&packet(PING, &[]))?;
        self.until(PONG)
    }
}

fn text(text: &str) -> Vec<u8> {
    let length = (text.len() as u16).to_be_bytes();
    [&length[..], text.as_bytes()].concat()
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut left = body.len();
    loop {
        let more = if left > 0x7f { 0x80 } else { 0 };
        packet.push((left & 0x7f) as u8 | more);
        left >>= 7;
        if left == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}
