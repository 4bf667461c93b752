//! Redis: keys, counters, a list, a command of the wrong kind; some of it pipelined.

use std::io::{self, Write as _};

use super::{Session, Wire};

pub(super) struct Redis(pub(super) Wire);

impl Session for Redis {
    fn request(&mut self, random: &mut fastrand::Rng) -> io::Result<()> {
        let pipelined = if random.u8(..10) == 0 { 8 } else { 1 };
        let mut request = Vec::new();
        for _ in 0..pipelined {
            let key = format!("key:{}", random.u16(..500));
            let value = "x".repeat([20, 500, 40_000][random.usize(..3)]);
            let words: Vec<&str> = match random.u8(..100) {
                0..45 => vec!["GET", &key],
                45..70 => vec!["SET", &key, &value],
                70..80 => vec!["INCR", "counter"],
                80..86 => vec!["LPUSH", "list", "one"],
                86..90 => vec!["LTRIM", "list", "0", "99"],
                90..94 => vec!["LRANGE", "list", "0", "99"],
                94..97 => vec!["EXPIRE", &key, "2"],
                _ => vec!["HGET", &key, "wrong-kind"],
            };
            request.extend(format!("*{}\r\n", words.len()).into_bytes());
            for word in words {
                request.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
            }
        }
        self.0.output.write_all(&request)?;
        (0..pipelined).try_for_each(|_| reply(&mut self.0))
    }
}

fn reply(wire: &mut Wire) -> io::Result<()> {
    let line = wire.line()?;
    let count = || line[1..].parse::<i64>().map_err(io::Error::other);
    match line.as_bytes().first() {
        Some(b'$') if count()? >= 0 => wire.skip(count()? as usize + 2),
        Some(b'*') => (0..count()?).try_for_each(|_| reply(wire)),
        _ => Ok(()),
    }
}
