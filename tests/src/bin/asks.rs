//! A client: `asks ADDRESS FILE` asks the server at ADDRESS a hundred times a second, with a new
//! connection each time, and reads FILE before every third question. What fails is asked again
//! the next time.

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
        return Err(io::Error::other("asks ADDRESS FILE"));
    };
    for question in 0u64.. {
        if question % 3 == 0 {
            fs::read(&file)?;
        }
        // A server that is not there is this program's normal life.
        let _ = ask(&address);
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn ask(address: &str) -> io::Result<()> {
    let mut server = TcpStream::connect(address)?;
    server.write_all(b"?")?;
    server.read_exact(&mut [0])
}
