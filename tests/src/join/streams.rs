//! Clients that ask over HTTP/2: one thing at a time on each connection.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use http_body_util::Empty;
use hyper::{Request, body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, runtime::Builder, task::JoinSet};

use super::{Asked, CONNECTIONS, traceparent};

pub(super) fn ask(address: SocketAddr, asked: Asked) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let next = Arc::new(AtomicU32::new(1));
        let mut clients = JoinSet::new();
        for _ in 0..CONNECTIONS {
            clients.spawn(client(address, asked, next.clone()));
        }
        clients.join_all().await;
    });
}

async fn client(address: SocketAddr, asked: Asked, next: Arc<AtomicU32>) {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    loop {
        let number = next.fetch_add(1, Relaxed);
        if number > asked.requests {
            break;
        }
        let request = Request::get(format!("http://{address}{}", asked.path(number)))
            .header("traceparent", traceparent(number))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    connection.abort();
}
