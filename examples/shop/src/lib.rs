//! A small shop, real enough to be watched: `shop-api` answers customers, keeps a cache in redis
//! and asks `shop-catalog`, which keeps items and orders in files. `shop-load` plays the customers.
//!
//! Every request is read, handled and answered by one thread with blocking calls, so that the
//! system calls of a thread, in order, are the story of its requests. Dependencies are connected
//! to with a blocking `connect(2)`, whose own return value says when nobody listens.
//!
//! - [`http`]: the server, one thread per connection
//! - [`api`], [`catalog`]: the two services
//! - [`telemetry`]: OpenTelemetry spans and the W3C `traceparent`, in and out

pub mod api;
pub mod catalog;
pub mod http;
pub mod telemetry;

use std::io::{IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// How long a service waits for each answer of what it depends on.
pub const DEPENDENCY_TIMEOUT: Duration = Duration::from_secs(5);

/// Binds `address` and says on standard output, in one line, where it listens: whoever started the
/// service with port 0 reads the real port there.
///
/// # Errors
/// When the address cannot be bound, or nobody reads standard output.
pub fn listen(service: &str, address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    writeln!(
        std::io::stdout(),
        "{service} listens on {}",
        listener.local_addr()?
    )?;
    Ok(listener)
}

/// Logs to standard error; `RUST_LOG` chooses what.
pub fn init_logs() {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
