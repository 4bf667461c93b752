//! A client: `asks ADDRESS FILE [RATE]` asks the server at ADDRESS a hundred times a second, or
//! RATE times, with a new connection each time, and reads FILE before every third question. What
//! fails is asked again the next time. A redis-server understands the question.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Duration,
};

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let (Some(address), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("asks ADDRESS FILE [RATE]"));
    };
    let rate = arguments.next().and_then(|rate| rate.parse().ok());
    let pause = Duration::from_secs(1) / rate.unwrap_or(100);
    for question in 0u64.. {
        if question % 3 == 0 {
            fs::read(&file)?;
        }
        // A server that is not there is this program's normal life.
        let _ = ask(&address);
        thread::sleep(pause);
    }
    Ok(())
}

fn ask(address: &str) -> io::Result<()> {
    let mut server = TcpStream::connect(address)?;
    server.write_all(b"PING\r\n")?;
    server.read_exact(&mut [0; 7])
}
