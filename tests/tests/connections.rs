//! When a connection ends on which HTTP was spoken: what its descriptor stands for next is another one's.
#![allow(clippy::unwrap_used, reason = "a step that fails ends the test")]

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use stethos::{
    capture::reader::monotonic_ns,
    record::{ConnectionClosed, HttpHead, Record},
};
use stethos_tests::{
    cgroup::Cgroup,
    join::{Application, Server},
    live::{finish, settings, start},
    skip::kernel_or_skip,
};

/// Says something on a connection of its own, and waits until the server has closed it.
fn say(address: SocketAddr, words: &str) {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.write_all(words.as_bytes()).unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    io::copy(&mut connection.take(1 << 20), &mut io::sink()).unwrap();
}

fn heads_and_ends(records: &[Record]) -> (Vec<&HttpHead>, Vec<&ConnectionClosed>) {
    let (mut heads, mut ends) = (Vec::new(), Vec::new());
    for record in records {
        match record {
            Record::Http(head) => heads.push(head),
            Record::Closed(closed) => ends.push(closed),
            _ => {}
        }
    }
    (heads, ends)
}

fn told(test: &str, reduced: bool) {
    let pod = Cgroup::new(test).unwrap();
    let server = Server::start(&pod, Application::Threads, false).unwrap();
    let address = server.address();
    let live = start(&pod, settings(4 << 20, 64, 10));
    if reduced {
        live.reducer.lock().start(1, monotonic_ns());
    }
    say(address, "GET /open/1 HTTP/1.1\r\nHost: a\r\n\r\n");
    say(address, "what is no HTTP, and long enough\r\n\r\n");
    say(address, "GET /open/2 HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(100));
    live.reducer.lock().stop(monotonic_ns());
    std::thread::sleep(Duration::from_millis(100));
    let records = finish(live);
    drop(server);

    let (heads, ends) = heads_and_ends(&records);
    // The server reads on one descriptor of a connection, and answers on another one.
    assert_eq!((heads.len(), ends.len()), (4, 4), "{heads:?} {ends:?}");
    for (head, end) in heads.iter().zip(&ends) {
        assert_eq!((head.pid, head.fd), (end.pid, end.fd));
        assert!(head.at_ns <= end.at_ns);
    }
    // The second connection has the numbers of the first.
    assert!(ends[1].at_ns <= heads[2].at_ns, "{heads:?} {ends:?}");
}

#[test]
fn a_connection_that_spoke_http_is_told_to_be_closed() {
    const TEST: &str = "a_connection_that_spoke_http_is_told_to_be_closed";
    if kernel_or_skip(TEST) {
        told("spoke", false);
    }
}

#[test]
fn it_is_told_where_calls_are_only_counted_too() {
    const TEST: &str = "it_is_told_where_calls_are_only_counted_too";
    if kernel_or_skip(TEST) {
        told("spoke-counted", true);
    }
}
