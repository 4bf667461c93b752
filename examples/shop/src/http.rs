//! HTTP/1.1 with keep-alive, one thread per connection, blocking reads and writes on one
//! descriptor. Bodies have a `Content-Length`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

const MAX_REQUEST_BYTES: usize = 64 * 1024;
const MAX_HEADERS: usize = 32;
/// Pause after an `accept` that failed, for want of descriptors as a rule.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    keep_alive: bool,
}

impl Request {
    /// A request without a body; header names in lower case.
    #[cfg(test)]
    pub(crate) fn get(path: &str, headers: &[(&str, &str)]) -> Self {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            method: "GET".into(),
            path: path.into(),
            headers: headers.iter().map(owned).collect(),
            body: Vec::new(),
            keep_alive: true,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub body: Value,
}

impl Response {
    pub fn new(status: u16, body: Value) -> Self {
        Self { status, body }
    }

    pub fn error(status: u16, message: impl ToString) -> Self {
        Self::new(status, json!({ "error": message.to_string() }))
    }
}

#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("the peer went away: {0}")]
    Io(#[from] std::io::Error),
    #[error("not an HTTP/1.1 request: {0}")]
    Parse(#[from] httparse::Error),
    #[error("not an HTTP/1.1 request: {0}")]
    Form(&'static str),
}

/// Answers every request that reaches `listener` with `handler`, for ever.
pub fn serve(
    listener: &TcpListener,
    handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
) {
    let handler = Arc::new(handler);
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                std::thread::sleep(ACCEPT_RETRY);
                continue;
            }
        };
        let handler = Arc::clone(&handler);
        let spawned = std::thread::Builder::new()
            .name("connection".into())
            .spawn(move || match converse(stream, &*handler) {
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "connection ended"),
            });
        if let Err(error) = spawned {
            tracing::warn!(%error, "cannot start a thread for a connection");
        }
    }
}

fn converse(
    mut stream: TcpStream,
    handler: &dyn Fn(&Request) -> Response,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let mut received = Vec::new();
    loop {
        let request = match read_request(&mut stream, &mut received) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error @ ConnectionError::Io(_)) => return Err(error),
            Err(error) => {
                write_response(&mut stream, &Response::error(400, &error), false)?;
                return Err(error);
            }
        };
        let response = handler(&request);
        write_response(&mut stream, &response, request.keep_alive)?;
        if !request.keep_alive {
            return Ok(());
        }
    }
}

/// The next request, or `None` when the peer closed between two requests. What was received beyond
/// the request stays in `received`.
fn read_request(
    stream: &mut TcpStream,
    received: &mut Vec<u8>,
) -> Result<Option<Request>, ConnectionError> {
    let mut chunk = [0; 8192];
    loop {
        if let Some((request, length)) = parse(received)? {
            received.drain(..length);
            return Ok(Some(request));
        }
        if received.len() > MAX_REQUEST_BYTES {
            return Err(ConnectionError::Form("too long"));
        }
        match stream.read(&mut chunk)? {
            0 if received.is_empty() => return Ok(None),
            0 => {
                return Err(ConnectionError::Io(
                    std::io::ErrorKind::UnexpectedEof.into(),
                ));
            }
            read => received.extend_from_slice(&chunk[..read]),
        }
    }
}

/// The request at the start of `bytes` and its length, or `None` when more bytes are needed.
fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, ConnectionError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head_length) = head.parse(bytes)? else {
        return Ok(None);
    };
    let mut request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: head.path.unwrap_or_default().to_owned(),
        headers: Vec::with_capacity(head.headers.len()),
        body: Vec::new(),
        keep_alive: false,
    };
    for header in head.headers.iter() {
        let value = String::from_utf8_lossy(header.value).trim().to_owned();
        request
            .headers
            .push((header.name.to_ascii_lowercase(), value));
    }
    if request.header("transfer-encoding").is_some() {
        return Err(ConnectionError::Form("chunked bodies are not accepted"));
    }
    let body_length = match request.header("content-length").map(str::parse::<usize>) {
        None => 0,
        Some(Ok(length)) if length <= MAX_REQUEST_BYTES => length,
        Some(_) => return Err(ConnectionError::Form("Content-Length")),
    };
    let Some(body) = bytes.get(head_length..head_length + body_length) else {
        return Ok(None);
    };
    request.body = body.to_vec();
    request.keep_alive = head.version == Some(1)
        && !request
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(Some((request, head_length + body_length)))
}

fn write_response(
    stream: &mut TcpStream,
    response: &Response,
    keep_alive: bool,
) -> std::io::Result<()> {
    let body = response.body.to_string();
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let message = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: {connection}\r\n\r\n{body}",
        response.status,
        reason(response.status),
        body.len(),
    );
    stream.write_all(message.as_bytes())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        502 => "Bad Gateway",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_complete_only_with_its_body() {
        let bytes = b"POST /orders HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcdGET /";
        assert!(parse(&bytes[..30]).unwrap().is_none());
        assert!(parse(&bytes[..bytes.len() - 6]).unwrap().is_none());
        let (request, length) = parse(bytes).unwrap().unwrap();
        assert_eq!(
            (request.body.as_slice(), request.keep_alive),
            (&b"abcd"[..], true)
        );
        assert_eq!(&bytes[length..], b"GET /");
    }

    #[test]
    fn refuses_what_it_cannot_delimit() {
        assert!(parse(b"GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n").is_err());
        assert!(parse(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"\x16\x03\x01 hello").is_err());
    }

    #[test]
    fn close_is_honoured() {
        let (request, _) = parse(b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\n")
            .unwrap()
            .unwrap();
        assert!(!request.keep_alive);
    }
}
