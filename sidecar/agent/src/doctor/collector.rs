//! Whether the OTLP endpoints that the `OTEL_*` variables name can be reached.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::Duration;

use serde::Serialize;

use crate::config::Variables;

/// For the name look-up and the connection together.
const TIME_OUT: Duration = Duration::from_secs(2);

/// An endpoint, and how an attempt to connect to it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// `logs` or `traces`.
    pub signal: &'static str,
    pub url: String,
    /// The variable that names it; none for the default.
    pub variable: Option<String>,
    /// None when the connection was made.
    pub failure: Option<String>,
}

/// Endpoints with nobody asked yet (`failure` is none), as the OTLP exporter specification finds
/// them.
fn endpoints(variables: &Variables) -> Vec<Endpoint> {
    let set = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    ["logs", "traces"]
        .into_iter()
        .map(|signal| {
            let own = |what: &str| format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.to_uppercase());
            let names = [own("ENDPOINT"), "OTEL_EXPORTER_OTLP_ENDPOINT".to_string()];
            let protocol = set(&own("PROTOCOL")).or(set("OTEL_EXPORTER_OTLP_PROTOCOL"));
            let http = protocol.is_some_and(|protocol| protocol.starts_with("http"));
            let default = if http {
                "http://localhost:4318"
            } else {
                "http://localhost:4317"
            };
            let variable = names.into_iter().find(|name| set(name).is_some());
            let url = variable
                .as_deref()
                .and_then(set)
                .map_or(default, String::as_str)
                .to_string();
            Endpoint {
                signal,
                url,
                variable,
                failure: None,
            }
        })
        .collect()
}

/// Connects to each endpoint and hangs up.
pub(super) fn probe(variables: &Variables) -> Vec<Endpoint> {
    let mut endpoints = endpoints(variables);
    let mut known: Vec<(String, Option<String>)> = Vec::new();
    for endpoint in &mut endpoints {
        let asked = known.iter().find(|(url, _)| *url == endpoint.url);
        endpoint.failure = match asked {
            Some((_, failure)) => failure.clone(),
            None => failure_of(&endpoint.url),
        };
        known.push((endpoint.url.clone(), endpoint.failure.clone()));
    }
    endpoints
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

    fn variables(entries: &[(&str, &str)]) -> Variables {
        entries
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

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
    fn the_variable_of_the_signal_wins() {
        let found = endpoints(&variables(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:1"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:2"),
        ]));
        assert_eq!(
            (found[0].signal, found[0].url.as_str()),
            ("logs", "http://all:1")
        );
        assert_eq!(
            (found[1].signal, found[1].url.as_str()),
            ("traces", "http://traces:2")
        );
        assert_eq!(
            found[1].variable.as_deref(),
            Some("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        );
        let default = endpoints(&variables(&[(
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "http/protobuf",
        )]));
        assert_eq!(default[0].url, "http://localhost:4318");
        assert_eq!(endpoints(&variables(&[]))[0].url, "http://localhost:4317");
    }

    #[test]
    fn who_listens_is_reached_and_who_does_not_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let given = variables(&[("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str())]);
        assert!(
            probe(&given)
                .iter()
                .all(|endpoint| endpoint.failure.is_none())
        );
        drop(listener);
        let failures = probe(&given);
        assert!(
            failures
                .iter()
                .all(|e| e.failure.as_ref().unwrap().contains("refused"))
        );
    }
}
