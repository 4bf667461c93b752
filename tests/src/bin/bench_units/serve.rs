//! An asynchronous HTTP server on two threads, which also stands behind the reverse proxies, and as a
//! service that asks another server something before it answers by itself.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpStream};

/// `asked`: port of the server that is asked for each request; none to ask nobody.
pub(crate) fn run(port: u16, asked: Option<u16>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                // A client may leave whenever it likes.
                drop(connection(&stream, asked).await);
            });
        }
    })
}

async fn connection(stream: &TcpStream, asked: Option<u16>) -> io::Result<()> {
    let mut buffer = Vec::new();
    let other = match asked {
        Some(port) => Some(TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await?),
        None => None,
    };
    loop {
        let Some((head, length)) = request(stream, &mut buffer).await? else {
            return Ok(());
        };
        if let Some(other) = &other {
            ask(other).await?;
        }
        send(stream, &answer(&head, length)).await?;
        if head.contains("Connection: close") {
            return Ok(());
        }
    }
}

/// Has a small question answered.
async fn ask(other: &TcpStream) -> io::Result<()> {
    send(other, b"GET /small.txt HTTP/1.1\r\nHost: other\r\n\r\n").await?;
    // An answer is framed as a request is.
    request(other, &mut Vec::new()).await?;
    Ok(())
}

async fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        stream.writable().await?;
        match stream.try_write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Head and length of the body of the next request; none when the client is gone.
async fn request(stream: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<(String, usize)>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = stethos_tests::load::content_length(&head).unwrap_or(0);
            if buffer.len() >= end + 4 + length {
                buffer.drain(..end + 4 + length);
                return Ok(Some((head, length)));
            }
        }
        stream.readable().await?;
        let mut chunk = [0; 8192];
        match stream.try_read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(count) => buffer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn answer(head: &str, length: usize) -> Vec<u8> {
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (status, size) = match (method, path) {
        ("POST", _) => ("200 OK", length),
        (_, "/small.txt") => ("200 OK", 200),
        (_, "/page.html") => ("200 OK", 8_000),
        (_, "/big.bin") => ("200 OK", 300_000),
        _ => ("404 Not Found", 20),
    };
    let mut answer = format!("HTTP/1.1 {status}\r\nContent-Length: {size}\r\n\r\n").into_bytes();
    if method != "HEAD" {
        answer.resize(answer.len() + size, b'x');
    }
    answer
}
