//! A server whose requests end in calls that fail, for measuring whose span those are put under:
//! `join-server threads|tokio|http2 [publish]`. Says the port that it listens at.
//!
//! `GET /WHAT/N` with `traceparent`, on connections that stay open. `open`: opens `/join/N`, which is not there;
//! `connect`: connects to an address that stands for N, where nobody listens; `elsewhere`: opens on a thread
//! that does nothing else; `exchange`: asks another server at an address that stands for N, under a span of its own.
//! N is in hexadecimal. With `publish`, every thread says which span it works for
//! (OTEP 4947): one of its own for each request.

use std::{
    convert::Infallible,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use http_body_util::Empty;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use stethos_tests::{
    join::{Operation, address_of, dependency_of, own_span, path_of, question_of, trace_of},
    published::Published,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// What a request takes before it fails.
const WORK: Duration = Duration::from_millis(1);

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;
    match words[..] {
        ["threads"] => threads(&listener, false),
        ["threads", "publish"] => threads(&listener, true),
        ["tokio"] => runtime()?.block_on(tasks(listener, false)),
        ["tokio", "publish"] => runtime()?.block_on(tasks(listener, true)),
        ["http2"] => runtime()?.block_on(streams(listener, false)),
        ["http2", "publish"] => runtime()?.block_on(streams(listener, true)),
        _ => Err(io::Error::other(
            "join-server threads|tokio|http2 [publish]",
        )),
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
}

/// A thread for each connection.
fn threads(listener: &TcpListener, publish: bool) -> io::Result<()> {
    for connection in listener.incoming() {
        let connection = connection?;
        std::thread::spawn(move || {
            // A client may leave whenever it likes.
            let _ = serve(connection, publish);
        });
    }
    Ok(())
}

fn serve(connection: TcpStream, publish: bool) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut writer = connection.try_clone()?;
    let mut reader = BufReader::new(connection);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((operation, number)) = Operation::of_line(&line) else {
            return Ok(());
        };
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line)?;
        }
        let mut published = publish.then(|| Published::new(trace_of(number), own_span(number)));
        let work = || {
            std::thread::sleep(WORK);
            match operation {
                Operation::Open => drop(std::fs::File::open(path_of(number))),
                Operation::Connect => drop(TcpStream::connect(address_of(number))),
                Operation::Exchange => drop(exchange(number)),
                Operation::Elsewhere => {
                    // Whoever does it knows nothing of the request.
                    let elsewhere =
                        std::thread::spawn(move || std::fs::File::open(path_of(number)));
                    drop(elsewhere.join());
                }
            }
        };
        match &mut published {
            Some(published) => published.within(work),
            None => work(),
        }
        writer.write_all(ANSWER)?;
    }
}

fn exchange(number: u32) -> io::Result<usize> {
    let mut connection = TcpStream::connect(dependency_of(number))?;
    connection.write_all(question_of(number).as_bytes())?;
    connection.read(&mut [0; 64])
}

async fn exchange_task(number: u32) -> io::Result<usize> {
    let mut connection = tokio::net::TcpStream::connect(dependency_of(number)).await?;
    connection.write_all(question_of(number).as_bytes()).await?;
    connection.read(&mut [0; 64]).await
}

/// A task for each connection.
async fn tasks(listener: TcpListener, publish: bool) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (connection, _) = listener.accept().await?;
        tokio::spawn(async move {
            let _ = serve_task(connection, publish).await;
        });
    }
}

async fn serve_task(connection: tokio::net::TcpStream, publish: bool) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let (reader, mut writer) = connection.into_split();
    let mut reader = tokio::io::BufReader::new(reader).take(u64::MAX);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await?;
        let Some((operation, number)) = Operation::of_line(&line) else {
            return Ok(());
        };
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).await?;
        }
        fail(operation, number, publish).await;
        writer.write_all(ANSWER).await?;
    }
}

/// What a request ends in.
async fn fail(operation: Operation, number: u32, publish: bool) {
    let work = async move {
        tokio::time::sleep(WORK).await;
        match operation {
            Operation::Open => drop(std::fs::File::open(path_of(number))),
            Operation::Connect => {
                let address: SocketAddr = address_of(number);
                drop(tokio::net::TcpStream::connect(address).await);
            }
            Operation::Elsewhere => drop(tokio::fs::File::open(path_of(number)).await),
            Operation::Exchange => drop(exchange_task(number).await),
        }
    };
    match publish {
        true => {
            let published = Published::new(trace_of(number), own_span(number));
            published.during(work).await;
        }
        false => work.await,
    }
}

/// A task for each request of a connection.
async fn streams(listener: TcpListener, publish: bool) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (connection, _) = listener.accept().await?;
        connection.set_nodelay(true)?;
        let answer = move |request: Request<Incoming>| async move {
            let line = format!("GET {} HTTP/2", request.uri().path());
            if let Some((operation, number)) = Operation::of_line(&line) {
                fail(operation, number, publish).await;
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        };
        tokio::spawn(async move {
            let connection = TokioIo::new(connection);
            let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(connection, service_fn(answer));
            // A client may leave whenever it likes.
            let _ = served.await;
        });
    }
}
