//! Simulated OTLP servers that give scripted answers on loopback and keep what they were sent.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// What the HTTP server does with one request.
pub(crate) enum Answer {
    Respond {
        status: u16,
        headers: Vec<String>,
        body: Vec<u8>,
    },
    HangUp,
    Silence,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Answer {
        Answer::Respond {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn header(mut self, line: &str) -> Answer {
        if let Answer::Respond { headers, .. } = &mut self {
            headers.push(line.to_owned());
        }
        self
    }

    pub(crate) fn partial_success(rejected: i64, message: &str) -> Answer {
        let body = partial(rejected, message).encode_to_vec();
        Answer::Respond {
            status: 200,
            headers: Vec::new(),
            body,
        }
    }

    pub(crate) fn hang_up() -> Answer {
        Answer::HangUp
    }

    pub(crate) fn silence() -> Answer {
        Answer::Silence
    }
}

fn partial(rejected_log_records: i64, message: &str) -> ExportLogsServiceResponse {
    let error_message = message.to_owned();
    let partial = ExportLogsPartialSuccess {
        rejected_log_records,
        error_message,
    };
    ExportLogsServiceResponse {
        partial_success: Some(partial),
    }
}

#[derive(Clone)]
pub(crate) struct HttpRequest {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

/// Stopped when dropped. Silent once its answers are used up.
pub(crate) struct HttpServer {
    endpoint: String,
    requests: Arc<Mutex<Vec<HttpRequest>>>,
    task: JoinHandle<()>,
}

impl HttpServer {
    pub(crate) async fn start(answers: impl IntoIterator<Item = Answer>) -> HttpServer {
        Self::start_with(None, answers).await
    }

    /// Over TLS where there is a configuration for it.
    pub(crate) async fn start_with(
        tls: Option<TlsAcceptor>,
        answers: impl IntoIterator<Item = Answer>,
    ) -> HttpServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let seen = Arc::clone(&requests);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, seen) = (Arc::clone(&answers), Arc::clone(&seen));
                let Some(tls) = tls.clone() else {
                    tokio::spawn(serve(stream, answers, seen));
                    continue;
                };
                tokio::spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, answers, seen).await;
                    }
                });
            }
        });
        HttpServer {
            endpoint: format!("{scheme}://{address}"),
            requests,
            task,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    pub(crate) fn requests(&self) -> Vec<HttpRequest> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection, request after request.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    seen: Arc<Mutex<Vec<HttpRequest>>>,
) {
    while let Some(request) = read_request(&mut stream).await {
        seen.lock().unwrap().push(request);
        let answer = answers.lock().unwrap().pop_front();
        match answer {
            Some(Answer::Respond {
                status,
                headers,
                body,
            }) => {
                let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n{headers}\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(&body).await.unwrap();
            }
            Some(Answer::HangUp) => return,
            Some(Answer::Silence) | None => std::future::pending().await,
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<HttpRequest> {
    let mut bytes = Vec::new();
    loop {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end + 2]).into_owned();
            let length = head.to_ascii_lowercase();
            let length = length
                .split("content-length: ")
                .nth(1)?
                .lines()
                .next()?
                .parse()
                .ok()?;
            let mut body = bytes.split_off(end + 4);
            let already = body.len();
            body.resize(length, 0);
            stream.read_exact(&mut body[already..]).await.ok()?;
            return Some(HttpRequest {
                head,
                body,
                at: Instant::now(),
            });
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Rejected records and a message, or a failure.
type GrpcAnswer = Result<(i64, &'static str), Status>;

#[derive(Clone)]
pub(crate) struct GrpcRequest {
    pub(crate) message: ExportLogsServiceRequest,
    pub(crate) metadata: MetadataMap,
}

#[derive(Clone, Default)]
struct Logs {
    answers: Arc<Mutex<VecDeque<GrpcAnswer>>>,
    requests: Arc<Mutex<Vec<GrpcRequest>>>,
}

#[tonic::async_trait]
impl LogsService for Logs {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        self.requests
            .lock()
            .unwrap()
            .push(GrpcRequest { message, metadata });
        let answer = self.answers.lock().unwrap().pop_front();
        let (rejected, message) = answer.unwrap_or(Ok((0, "")))?;
        Ok(Response::new(partial(rejected, message)))
    }
}

/// Stopped when dropped.
pub(crate) struct GrpcServer {
    endpoint: String,
    logs: Logs,
    task: JoinHandle<()>,
}

impl GrpcServer {
    pub(crate) async fn start(answers: impl IntoIterator<Item = GrpcAnswer>) -> GrpcServer {
        Self::start_with(None, answers).await
    }

    /// Over TLS where there is a configuration for it.
    pub(crate) async fn start_with(
        tls: Option<ServerTlsConfig>,
        answers: impl IntoIterator<Item = GrpcAnswer>,
    ) -> GrpcServer {
        let reserved = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = reserved.local_addr().unwrap();
        drop(reserved);
        let logs = Logs::default();
        logs.answers.lock().unwrap().extend(answers);
        let service =
            LogsServiceServer::new(logs.clone()).accept_compressed(CompressionEncoding::Gzip);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let server = server.add_service(service);
        let task = tokio::spawn(async move { server.serve(address).await.unwrap() });
        while TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
        GrpcServer {
            endpoint: format!("{scheme}://{address}"),
            logs,
            task,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    pub(crate) fn requests(&self) -> Vec<GrpcRequest> {
        self.logs.requests.lock().unwrap().clone()
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
