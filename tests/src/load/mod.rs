//! Clients that do different things: connections that stay and that close, several kinds of
//! requests, one, sixteen and sixty-four at a time in turn.

mod http;
mod memcached;
mod mqtt;
mod mysql;
mod nats;
mod postgres;
mod redis;

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    net::TcpStream,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use http::content_length;

const CLIENTS: usize = 64;
const STAGE: Duration = Duration::from_secs(1);
/// Clients at a time, and their mean pause between two requests.
const STAGES: [(usize, Duration); 3] = [
    (1, Duration::from_millis(1)),
    (16, Duration::from_millis(2)),
    (CLIENTS, Duration::from_millis(5)),
];
/// An answer that takes longer does not come.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Redis,
    Memcached,
    Postgres,
    MySql,
    Mqtt,
    Nats,
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "http" => Self::Http,
            "redis" => Self::Redis,
            "memcached" => Self::Memcached,
            "postgres" => Self::Postgres,
            "mysql" => Self::MySql,
            "mqtt" => Self::Mqtt,
            "nats" => Self::Nats,
            _ => return Err(format!("{name} is no protocol of the load")),
        })
    }
}

/// One connection.
trait Session {
    /// Asks for something and takes the answer.
    fn request(&mut self, random: &mut fastrand::Rng) -> io::Result<()>;
}

/// Both directions of a connection.
struct Wire {
    output: TcpStream,
    input: BufReader<TcpStream>,
}

impl Wire {
    fn connect(port: u16) -> io::Result<Self> {
        let output = TcpStream::connect(("127.0.0.1", port))?;
        output.set_nodelay(true)?;
        output.set_read_timeout(Some(ANSWER_LIMIT))?;
        let input = BufReader::new(output.try_clone()?);
        Ok(Self { output, input })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.input.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, length: usize) -> io::Result<()> {
        let mut body = (&mut self.input).take(length as u64);
        match io::copy(&mut body, &mut io::sink())? {
            copied if copied == length as u64 => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// `scale`: so many times as many requests as usual.
    pub fn start(protocol: Protocol, port: u16, scale: f64) -> Self {
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
                    scale,
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
    pub fn finish(self) -> u64 {
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
    scale: f64,
    start: Instant,
    random: fastrand::Rng,
}

impl Client {
    /// The pause of this client between two requests; none while others have their turn.
    fn pause(&mut self) -> Option<Duration> {
        let stage = (self.start.elapsed().as_millis() / STAGE.as_millis()) as usize;
        let (count, mean) = STAGES[stage % STAGES.len()];
        (self.number < count).then(|| mean.mul_f64(2.0 * self.random.f64() / self.scale))
    }

    /// One connection, from its first request to its end.
    fn session(&mut self, stop: &AtomicBool, answered: &AtomicU64) -> io::Result<()> {
        if self.pause().is_none() {
            std::thread::sleep(Duration::from_millis(10));
            return Ok(());
        }
        let closing = self.random.u8(..5) == 0;
        let requests = if closing { 1 } else { self.random.u32(1..200) };
        let mut session = self.connect(closing)?;
        for _ in 0..requests {
            let Some(pause) = self.pause().filter(|_| !stop.load(Relaxed)) else {
                return Ok(());
            };
            session.request(&mut self.random)?;
            answered.fetch_add(1, Relaxed);
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// `closing`: the client says that it asks once.
    fn connect(&self, closing: bool) -> io::Result<Box<dyn Session>> {
        let wire = Wire::connect(self.port)?;
        Ok(match self.protocol {
            Protocol::Http => Box::new(http::Http { wire, closing }),
            Protocol::Redis => Box::new(redis::Redis(wire)),
            Protocol::Memcached => Box::new(memcached::Memcached(wire)),
            Protocol::Postgres => Box::new(postgres::Postgres::greet(wire)?),
            Protocol::MySql => Box::new(mysql::MySql::greet(wire)?),
            Protocol::Mqtt => Box::new(mqtt::Mqtt::greet(wire, self.number)?),
            Protocol::Nats => Box::new(nats::Nats::greet(wire)?),
        })
    }
}
