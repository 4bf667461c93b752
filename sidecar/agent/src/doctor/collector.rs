//! Whether the OTLP endpoints can be reached.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

use serde::Serialize;

/// For the name look-up and the connection together.
const TIME_OUT: Duration = Duration::from_secs(2);

/// An endpoint, and how an attempt to connect to it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// What is sent there: `logs, traces`.
    pub signals: String,
    pub url: String,
    /// None when the connection was made.
    pub failure: Option<String>,
}

/// Connects to each endpoint, signal and URL, and hangs up. Signals with one URL are one.
pub(super) fn probe(endpoints: &[(String, String)]) -> Vec<Endpoint> {
    let mut found: Vec<Endpoint> = Vec::new();
    for (signal, url) in endpoints {
        match found.iter_mut().find(|endpoint| endpoint.url == *url) {
            Some(known) => known.signals = format!("{}, {signal}", known.signals),
            None => found.push(Endpoint {
                signals: signal.clone(),
                url: url.clone(),
                failure: failure_of(url),
            }),
        }
    }
    found
}

fn failure_of(url: &str) -> Option<String> {
    let Some((host, port)) = authority(url) else {
        return Some("not a URL".to_string());
    };
    let (sender, result) = mpsc::channel();
    // A name look-up has no time-out of its own; one that hangs is left behind.
    std::thread::spawn(move || {
        // Nobody listens any more after the time-out.
        let _ = sender.send(connect(&host, port));
    });
    match result.recv_timeout(TIME_OUT) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {TIME_OUT:?}")),
    }
}

fn connect(host: &str, port: u16) -> io::Result<()> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIME_OUT) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Host and port of `http(s)://host[:port][/path]`.
fn authority(url: &str) -> Option<(String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let default = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let authority = rest.split(['/', '?']).next()?;
    let authority = authority.rsplit('@').next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, default),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_string(), port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn hosts_and_ports_are_found_in_urls() {
        let found = |url| authority(url).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(
            found("http://collector:4317").as_deref(),
            Some("collector 4317")
        );
        assert_eq!(
            found("https://u:p@otel.example/v1?x=1").as_deref(),
            Some("otel.example 443")
        );
        assert_eq!(
            found("http://[::1]:4318/v1/logs").as_deref(),
            Some("::1 4318")
        );
        assert_eq!(found("http://[::1]").as_deref(), Some("::1 80"));
        for url in [
            "collector:4317",
            "http://",
            "http://a:port",
            "unix:///run/x",
        ] {
            assert_eq!(found(url), None, "{url}");
        }
    }

    #[test]
    fn who_listens_is_reached_and_who_does_not_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let given = [
            ("logs".to_string(), url.clone()),
            ("traces".to_string(), url.clone()),
        ];
        let reached = Endpoint {
            signals: "logs, traces".into(),
            url,
            failure: None,
        };
        assert_eq!(probe(&given), [reached]);
        drop(listener);
        assert!(
            probe(&given)[0]
                .failure
                .as_ref()
                .unwrap()
                .contains("refused")
        );
        let nonsense = [("logs".to_string(), "collector".to_string())];
        assert_eq!(probe(&nonsense)[0].failure.as_deref(), Some("not a URL"));
    }
}
