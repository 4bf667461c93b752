//! A load on redis at a rate that can be set: SET and GET over many keys, with values of different
//! sizes.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const TICK: Duration = Duration::from_millis(1);
/// An answer that takes this long does not come.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const KEYS: u64 = 10_000;

/// A load that goes on until this is dropped.
pub(super) struct Paced {
    rate: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Paced {
    pub(super) fn start(port: u16, connections: u32, rate: u64) -> Result<Self> {
        ensure!(connections > 0, "a load without connections");
        let connect = |_| -> io::Result<BufReader<TcpStream>> {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(ANSWER_LIMIT))?;
            Ok(BufReader::new(stream))
        };
        let streams: io::Result<Vec<_>> = (0..connections).map(connect).collect();
        let mut streams = streams.context("cannot connect to redis")?;
        let (rate, stop) = (Arc::new(AtomicU64::new(rate)), Arc::default());
        let (wanted, stopped) = (Arc::clone(&rate), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("paced-load".to_owned())
            .spawn(move || load(&mut streams, &wanted, &stopped))?;
        Ok(Self {
            rate,
            stop,
            thread: Some(thread),
        })
    }

    /// Requests a second from now on.
    pub(super) fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    pub(super) fn rate(&self) -> u64 {
        self.rate.load(Ordering::Relaxed)
    }

    /// Says so when it ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            match self.thread.take().map(JoinHandle::join) {
                Some(Ok(Err(error))) => bail!("the load ended: {error}"),
                _ => bail!("the load ended"),
            }
        }
        Ok(())
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it failed of was said by `check`, or no longer matters.
            let _ = thread.join();
        }
    }
}

/// Every millisecond the requests that are due, each on the next connection; what a slow server
/// leaves undone is not made up for.
fn load(
    streams: &mut [BufReader<TcpStream>],
    rate: &AtomicU64,
    stop: &AtomicBool,
) -> io::Result<()> {
    let connections = streams.len();
    let mut due = 0.0;
    let mut turn = 0;
    let mut request = 0;
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(TICK);
        let now = Instant::now();
        let passed = now.duration_since(last).min(10 * TICK);
        last = now;
        due += passed.as_secs_f64() * rate.load(Ordering::Relaxed) as f64;
        while due >= 1.0 {
            let batch = (due as usize).min(connections);
            due -= batch as f64;
            for step in 0..batch {
                request += 1;
                let stream = streams[(turn + step) % connections].get_mut();
                stream.write_all(&command(request))?;
            }
            for step in 0..batch {
                answer(&mut streams[(turn + step) % connections])?;
            }
            turn += batch;
        }
    }
    Ok(())
}

/// The request with this number: every third a SET of up to 1 KiB, the others GETs.
fn command(number: u64) -> Vec<u8> {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let key = format!("key:{:05}", mixed % KEYS);
    if !number.is_multiple_of(3) {
        return format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).into_bytes();
    }
    let value = "x".repeat(16 << (mixed % 7));
    format!(
        "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n",
        key.len(),
        value.len()
    )
    .into_bytes()
}

/// Reads one answer: a line, and what it announces.
fn answer(stream: &mut impl BufRead) -> io::Result<()> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match line.as_bytes().first() {
        Some(b'+') => Ok(()),
        Some(b'$') => match line[1..].trim_end().parse::<i64>() {
            Ok(-1) => Ok(()),
            Ok(length @ 0..=65_536) => {
                let mut value = vec![0; length as usize + 2];
                stream.read_exact(&mut value)
            }
            _ => Err(io::Error::other(format!("an odd answer: {line:?}"))),
        },
        _ => Err(io::Error::other(format!("an odd answer: {line:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_and_errors_are_none() {
        let mut bytes: &[u8] = b"+OK\r\n$3\r\nabc\r\n$-1\r\n-ERR no\r\n";
        for _ in 0..3 {
            answer(&mut bytes).unwrap();
        }
        assert!(answer(&mut bytes).is_err());
        assert!(answer(&mut bytes).is_err(), "the end is an error, too");
    }

    #[test]
    fn requests_vary_in_kind_key_and_size() {
        let all: std::collections::BTreeSet<Vec<u8>> = (0..1000).map(command).collect();
        assert!(all.len() > 900, "{}", all.len());
        let lengths: std::collections::BTreeSet<usize> = all.iter().map(Vec::len).collect();
        assert!(lengths.len() >= 8, "{lengths:?}");
    }
}
