//! Clients that do different things: connections that stay and that close, several kinds of
//! requests, one, sixteen and sixty-four at a time in turn.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

const CLIENTS: usize = 64;
const STAGE: Duration = Duration::from_secs(1);
/// Clients at a time, and their mean pause between two requests.
const STAGES: [(usize, Duration); 3] = [
    (1, Duration::from_millis(1)),
    (16, Duration::from_millis(2)),
    (CLIENTS, Duration::from_millis(5)),
];

#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    Http,
    Redis,
    Memcached,
}

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(protocol: Protocol, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let start = Instant::now();
        let client = |number: usize| {
            let (stop, answered) = (stop.clone(), answered.clone());
            std::thread::spawn(move || {
                let mut client = Client {
                    protocol,
                    port,
                    number,
                    start,
                    random: fastrand::Rng::with_seed(number as u64),
                };
                while !stop.load(Relaxed) {
                    // A server may close a connection whenever it likes.
                    if client.session(&stop, &answered).is_err() {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Load {
            stop,
            answered,
            clients,
        }
    }

    /// Ends all clients; gives how many requests were answered.
    pub(crate) fn finish(self) -> u64 {
        self.stop.store(true, Relaxed);
        for client in self.clients {
            drop(client.join());
        }
        self.answered.load(Relaxed)
    }
}

struct Client {
    protocol: Protocol,
    port: u16,
    number: usize,
    start: Instant,
    random: fastrand::Rng,
}

impl Client {
    /// The pause of this client between two requests; none while others have their turn.
    fn pause(&mut self) -> Option<Duration> {
        let stage = (self.start.elapsed().as_millis() / STAGE.as_millis()) as usize;
        let (count, mean) = STAGES[stage % STAGES.len()];
        (self.number < count).then(|| mean.mul_f64(2.0 * self.random.f64()))
    }

    /// One connection, from its first request to its end.
    fn session(&mut self, stop: &AtomicBool, answered: &AtomicU64) -> io::Result<()> {
        if self.pause().is_none() {
            std::thread::sleep(Duration::from_millis(10));
            return Ok(());
        }
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut output = stream.try_clone()?;
        let mut input = BufReader::new(stream);
        let closing = self.random.u8(..5) == 0;
        let requests = if closing { 1 } else { self.random.u32(1..200) };
        for _ in 0..requests {
            let Some(pause) = self.pause().filter(|_| !stop.load(Relaxed)) else {
                return Ok(());
            };
            match self.protocol {
                Protocol::Http => self.http(&mut output, &mut input, closing)?,
                Protocol::Redis => self.redis(&mut output, &mut input)?,
                Protocol::Memcached => self.memcached(&mut output, &mut input)?,
            }
            answered.fetch_add(1, Relaxed);
            std::thread::sleep(pause);
        }
        Ok(())
    }

    fn http(
        &mut self,
        output: &mut TcpStream,
        input: &mut BufReader<TcpStream>,
        closing: bool,
    ) -> io::Result<()> {
        let (method, path) = match self.random.u8(..100) {
            0..50 => ("GET", "/small.txt"),
            50..70 => ("GET", "/page.html"),
            70..78 => ("GET", "/big.bin"),
            78..86 => ("GET", "/missing.html"),
            86..90 => ("HEAD", "/page.html"),
            _ => ("POST", "/echo"),
        };
        let connection = if closing { "Connection: close\r\n" } else { "" };
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: bench\r\n{connection}");
        if method == "POST" {
            let size = [100, 2_000, 20_000][self.random.usize(..3)];
            request += &format!("Content-Length: {size}\r\n\r\n");
            request.extend(std::iter::repeat_n('x', size));
        } else {
            request += "\r\n";
        }
        output.write_all(request.as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if input.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if method != "HEAD" {
            let length = content_length(&head).ok_or(io::ErrorKind::InvalidData)?;
            skip(input, length)?;
        }
        if head.to_ascii_lowercase().contains("connection: close") {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }

    fn redis(
        &mut self,
        output: &mut TcpStream,
        input: &mut BufReader<TcpStream>,
    ) -> io::Result<()> {
        let pipelined = if self.random.u8(..10) == 0 { 8 } else { 1 };
        let mut request = Vec::new();
        for _ in 0..pipelined {
            let key = format!("key:{}", self.random.u16(..500));
            let value = "x".repeat([20, 500, 40_000][self.random.usize(..3)]);
            let words: Vec<&str> = match self.random.u8(..100) {
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
        output.write_all(&request)?;
        (0..pipelined).try_for_each(|_| redis_reply(input))
    }

    fn memcached(
        &mut self,
        output: &mut TcpStream,
        input: &mut BufReader<TcpStream>,
    ) -> io::Result<()> {
        let key = format!("key{}", self.random.u16(..500));
        let size = [20, 500, 40_000][self.random.usize(..3)];
        let request = match self.random.u8(..100) {
            0..60 => format!("get {key}\r\n"),
            60..90 => format!("set {key} 0 0 {size}\r\n{}\r\n", "x".repeat(size)),
            90..95 => format!("delete {key}\r\n"),
            _ => format!("get {key} other1 other2\r\n"),
        };
        output.write_all(request.as_bytes())?;
        loop {
            let line = line(input)?;
            match line.strip_prefix("VALUE ") {
                Some(value) => {
                    let size = value.rsplit(' ').next().and_then(|size| size.parse().ok());
                    let size: u64 = size.ok_or(io::ErrorKind::InvalidData)?;
                    skip(input, size as usize + 2)?;
                }
                None => return Ok(()),
            }
        }
    }
}

pub(crate) fn content_length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    })
}

fn redis_reply(input: &mut BufReader<TcpStream>) -> io::Result<()> {
    let line = line(input)?;
    let count = || line[1..].parse::<i64>().map_err(io::Error::other);
    match line.as_bytes().first() {
        Some(b'$') if count()? >= 0 => skip(input, count()? as usize + 2),
        Some(b'*') => (0..count()?).try_for_each(|_| redis_reply(input)),
        _ => Ok(()),
    }
}

fn line(input: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn skip(input: &mut BufReader<TcpStream>, length: usize) -> io::Result<()> {
    let mut body = input.take(length as u64);
    match io::copy(&mut body, &mut io::sink())? {
        copied if copied == length as u64 => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
