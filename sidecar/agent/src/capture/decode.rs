//! Bytes of the rings into records.

use stethos_events::{
    CallRecord, EVENT_HEAD, Event, Polled, TraceContext, WINDOW_CALLS, WindowHeader, class,
    context_source, end, ended, flag, kind, role, run_state,
};
use stethos_patterns::{Outcome, Role, descriptors::Exchange};
use thiserror::Error;

use super::{classes, reduction::ContextTokens};
use crate::{
    record::{
        Call, CallWindow, ConnectionClosed, ContainerIndex, Detail, Direction, Http2Heads,
        HttpHead, InsideCall, Lifecycle, LifecycleEvent, Record, RunState, SpanSource, Subject,
        ThreadSpan, ThreadState, TimedExchange, TraceParent, WindowEnd,
    },
    trace::{http, http2},
};

#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("a window of {got} bytes is too short for its {calls} calls")]
    ShortWindow { got: usize, calls: usize },
    #[error("a window of {0} calls is longer than {WINDOW_CALLS}")]
    LongWindow(usize),
    #[error("an event of {0} bytes is too short")]
    ShortEvent(usize),
    #[error("event kind {0} is not known")]
    UnknownEvent(u32),
}

/// A window as it came through the ring.
pub struct RawWindow {
    pub header: WindowHeader,
    pub calls: Vec<CallRecord>,
}

pub fn window(bytes: &[u8]) -> Result<RawWindow, DecodeError> {
    let short = |calls| DecodeError::ShortWindow {
        got: bytes.len(),
        calls,
    };
    let (head, rest) = bytes
        .split_at_checked(size_of::<WindowHeader>())
        .ok_or(short(0))?;
    let header: WindowHeader = bytemuck::pod_read_unaligned(head);
    let count = header.count as usize;
    if count > WINDOW_CALLS {
        return Err(DecodeError::LongWindow(count));
    }
    let size = size_of::<CallRecord>();
    let calls = rest.get(..count * size).ok_or(short(count))?;
    let calls = calls
        .chunks_exact(size)
        .map(bytemuck::pod_read_unaligned)
        .collect();
    Ok(RawWindow { header, calls })
}

/// The record of a window whose first `skip` calls were handed on before.
pub fn call_window(
    container: ContainerIndex,
    header: &WindowHeader,
    calls: &[CallRecord],
    skip: usize,
) -> CallWindow {
    CallWindow {
        container,
        pid: header.pid,
        tid: header.tid,
        sequence: header.sequence,
        lost_before: if skip == 0 { header.lost_before } else { 0 },
        counted_before: if skip == 0 { header.counted_before } else { 0 },
        weight: header.weight.max(1),
        context: calls
            .iter()
            .take(skip)
            .fold(ContextTokens(header.context), |context, call| {
                context.after(call.nr, call.ret)
            })
            .0,
        calls: calls.iter().skip(skip).map(call).collect(),
        end: match header.end {
            end::WAIT => WindowEnd::Wait,
            end::FULL => WindowEnd::Full,
            end::THREAD_EXIT => WindowEnd::ThreadExit,
            _ => WindowEnd::Peeked,
        },
    }
}

pub fn call(record: &CallRecord) -> Call {
    Call {
        nr: record.nr,
        fd: if record.flags & flag::DESCRIPTOR != 0 {
            record.fd
        } else {
            -1
        },
        ret: record.ret,
        enter_ns: record.exit_ns.saturating_sub(record.waited_ns),
        duration_ns: record.waited_ns,
        no_return: record.flags & flag::NO_RETURN != 0,
        counted: record.flags & flag::COUNTED != 0,
    }
}

/// What a thread is doing, as last polled. None for one that is gone.
pub fn thread(
    container: ContainerIndex,
    header: &WindowHeader,
    last: &CallRecord,
    seen: u64,
    polled: &Polled,
) -> Option<ThreadState> {
    let state = match polled.state {
        run_state::SLEEPING => RunState::Sleeping,
        run_state::BLOCKED => RunState::Blocked,
        run_state::STOPPED => RunState::Stopped,
        run_state::FROZEN => RunState::Frozen,
        run_state::GONE if polled.at_ns != 0 => return None,
        _ => RunState::Running,
    };
    let asleep = matches!(state, RunState::Sleeping | RunState::Blocked);
    // A call that returned since then is over; a negative number is no call but a page fault.
    let nr = u16::try_from(polled.nr)
        .ok()
        .filter(|_| polled.seen == seen);
    let inside = nr.filter(|_| asleep).map(|nr| InsideCall {
        nr,
        fd: if classes::of_number(nr) & class::DESCRIPTOR != 0 {
            polled.arg_0 as i32
        } else {
            -1
        },
        enter_ns: polled.since_ns,
    });
    Some(ThreadState {
        container,
        pid: header.pid,
        tid: header.tid,
        state,
        inside,
        last: (seen != 0).then(|| call(last)),
    })
}

/// Head of an event and the bytes that came with it.
pub fn event(bytes: &[u8]) -> Result<(Event, &[u8]), DecodeError> {
    let (head, rest) = bytes
        .split_at_checked(EVENT_HEAD)
        .ok_or(DecodeError::ShortEvent(bytes.len()))?;
    let mut event: Event = bytemuck::Zeroable::zeroed();
    bytemuck::bytes_of_mut(&mut event)[..EVENT_HEAD].copy_from_slice(head);
    let payload = rest
        .get(..event.len as usize)
        .ok_or(DecodeError::ShortEvent(bytes.len()))?;
    Ok((event, payload))
}

/// Whether the event says that a process has ended.
pub fn ends_process(event: &Event) -> bool {
    event.kind == kind::EXIT && event.extra[1] == 1
}

/// The record of an event. None for an HTTP head that turned out to be something else.
pub fn record(
    container: ContainerIndex,
    event: &Event,
    payload: &[u8],
) -> Result<Option<Record>, DecodeError> {
    let (at_ns, pid, tid) = (event.at_ns, event.pid, event.tid);
    let detail = |subject| {
        Record::Detail(Detail {
            at_ns,
            container,
            pid,
            tid,
            nr: event.nr as u16,
            fd: event.fd,
            ret: event.ret,
            subject,
        })
    };
    let head = |direction| {
        if let Some(message) = http::parse_head(payload) {
            return Some(Record::Http(HttpHead {
                at_ns,
                container,
                pid,
                tid,
                fd: event.fd,
                direction,
                message,
            }));
        }
        let heads = http2::heads(payload);
        let heads = Http2Heads {
            at_ns,
            container,
            pid,
            tid,
            fd: event.fd,
            direction,
            heads,
        };
        (!heads.heads.is_empty()).then_some(Record::Http2(heads))
    };
    let lifecycle = |event| {
        Record::Lifecycle(Lifecycle {
            at_ns,
            container,
            pid,
            tid,
            event,
        })
    };
    Ok(match event.kind {
        kind::PATH => Some(detail(Subject::Path(text(payload)))),
        kind::ADDRESS => address(payload).map(|peer| detail(Subject::Peer(peer))),
        kind::HTTP_IN => head(Direction::Incoming),
        kind::HTTP_OUT => head(Direction::Outgoing),
        kind::CLOSED => Some(Record::Closed(ConnectionClosed {
            at_ns,
            container,
            pid,
            tid,
            fd: event.fd,
        })),
        kind::FORK => Some(lifecycle(LifecycleEvent::Fork {
            child_pid: event.extra[0],
            child_tid: event.extra[1],
        })),
        kind::EXEC => Some(lifecycle(LifecycleEvent::Exec {
            executable: text(payload),
        })),
        kind::EXIT => Some(lifecycle(LifecycleEvent::Exit {
            code: event.extra[0] as i32,
            group_dead: event.extra[1] == 1,
        })),
        kind::OOM_KILL => Some(lifecycle(LifecycleEvent::OomKill)),
        kind::EXCHANGE => return exchange(container, event, payload).map(Some),
        kind::CONTEXT => return thread_span(container, event, payload).map(Some),
        other => return Err(DecodeError::UnknownEvent(other)),
    })
}

/// The record of an exchange, its peer still to be named.
fn exchange(
    container: ContainerIndex,
    event: &Event,
    payload: &[u8],
) -> Result<Record, DecodeError> {
    let short = || DecodeError::ShortEvent(EVENT_HEAD + payload.len());
    let begun = payload
        .first_chunk()
        .map(|bytes| u64::from_ne_bytes(*bytes))
        .ok_or_else(short)?;
    let failed = match event.extra[1] {
        ended::ANSWERED => None,
        ended::ABANDONED => Some(Outcome::NoReturn),
        _ => Some(Outcome::from_return(event.ret)),
    };
    Ok(Record::Exchange(TimedExchange {
        at_ns: event.at_ns,
        container,
        exchange: Exchange {
            pid: event.pid,
            tid: event.tid,
            fd: event.fd,
            role: if event.extra[0] == role::SERVER {
                Role::Server
            } else {
                Role::Client
            },
            peer: None,
            sent_ns: begun,
            received_ns: event.at_ns,
            failed,
        },
    }))
}

fn thread_span(
    container: ContainerIndex,
    event: &Event,
    payload: &[u8],
) -> Result<Record, DecodeError> {
    let bytes = payload.get(..size_of::<TraceContext>());
    let bytes = bytes.ok_or(DecodeError::ShortEvent(EVENT_HEAD + payload.len()))?;
    let context: TraceContext = bytemuck::pod_read_unaligned(bytes);
    let span = TraceParent {
        trace_id: bytemuck::cast(context.trace_id),
        span_id: context.span_id.to_ne_bytes(),
        flags: context.flags as u8,
    };
    Ok(Record::ThreadSpan(ThreadSpan {
        at_ns: event.at_ns,
        container,
        pid: event.pid,
        tid: event.tid,
        span: (context.span_id != 0).then_some(span),
        source: match context.source {
            context_source::OBI => SpanSource::Obi,
            _ => SpanSource::Thread,
        },
        continues: event.extra[1] == 1,
        lost: event.extra[0],
    }))
}

/// Hash of the peer that an exchange was with; 0 where not known.
pub fn exchange_peer(payload: &[u8]) -> u64 {
    let bytes = payload.get(8..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A `sockaddr` as a person writes it; none for families without an address of their own.
fn address(bytes: &[u8]) -> Option<String> {
    use std::net::{IpAddr, SocketAddr};
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = || Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::new(IpAddr::from(ip), port()?).to_string())
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Some(SocketAddr::new(IpAddr::from(ip).to_canonical(), port()?).to_string())
        }
        libc::AF_UNIX => match bytes.get(2..)? {
            [0, name @ ..] if !name.is_empty() => Some(format!("unix:@{}", text(name))),
            path => Some(format!("unix:{}", text(path))),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(calls: u32) -> Vec<u8> {
        let header = WindowHeader {
            count: calls,
            pid: 7,
            end: end::FULL,
            ..Default::default()
        };
        let mut bytes = bytemuck::bytes_of(&header).to_vec();
        for nr in 0..calls {
            let call = CallRecord {
                nr: nr as u16,
                ret: -2,
                ..Default::default()
            };
            bytes.extend(bytemuck::bytes_of(&call));
        }
        bytes
    }

    #[test]
    fn a_window_reads_back() {
        let raw = window(&bytes_of(3)).unwrap();
        let record = call_window(1, &raw.header, &raw.calls, 1);
        assert_eq!((record.pid, record.end), (7, WindowEnd::Full));
        assert_eq!(
            record.calls.iter().map(|call| call.nr).collect::<Vec<_>>(),
            [1, 2]
        );
    }

    #[test]
    fn cut_windows_are_refused_at_every_length() {
        let bytes = bytes_of(2);
        for length in 0..bytes.len() {
            assert!(window(&bytes[..length]).is_err(), "{length}");
        }
        let long = WindowHeader {
            count: 65,
            ..Default::default()
        };
        assert!(matches!(
            window(bytemuck::bytes_of(&long)),
            Err(DecodeError::LongWindow(65))
        ));
    }

    #[test]
    fn addresses_read_as_written() {
        let v4 = [2, 0, 0x18, 0xeb, 127, 0, 0, 1];
        assert_eq!(address(&v4).as_deref(), Some("127.0.0.1:6379"));
        let mut v6 = vec![10, 0, 0, 80, 0, 0, 0, 0];
        v6.extend([0; 15]);
        v6.push(1);
        assert_eq!(address(&v6).as_deref(), Some("[::1]:80"));
        assert_eq!(
            address(b"\x01\0/run/x\0junk").as_deref(),
            Some("unix:/run/x")
        );
        assert_eq!(address(&[2]), None);
    }
}
