//! One record inside a block: a byte for its kind, then its fields in postcard. Windows, which
//! are nearly all of a recording, are stored by column, with times relative to each other.

use serde::{Deserialize, Serialize};

use crate::record::{Call, CallWindow, ContainerIndex, Nanos, Record, WindowEnd};

use super::Reason;

const CONTAINER: u8 = 1;
const PROCESS: u8 = 2;
const WINDOW: u8 = 3;
const DETAIL: u8 = 4;
const HTTP: u8 = 5;
const LIFECYCLE: u8 = 6;
const THREADS: u8 = 7;
const DESCRIPTOR: u8 = 8;
const TICK: u8 = 9;
const REDUCED: u8 = 10;
const COUNTS: u8 = 11;
const EXCHANGE: u8 = 12;
const LIFE: u8 = 13;
const NETWORK: u8 = 15;
const RESOURCES: u8 = 14;
const SPAN: u8 = 16;
const THREAD_SPAN: u8 = 17;
const RESOURCE: u8 = 18;
const HTTP2: u8 = 19;
const CLOSED: u8 = 20;

/// A [`CallWindow`] by column. `starts[0]` is relative to the clock of the block, every further
/// one to the end of the call before it; differences wrap, so that any times survive.
#[derive(Serialize, Deserialize)]
struct WindowColumns {
    container: ContainerIndex,
    pid: u32,
    tid: u32,
    sequence: u64,
    lost_before: u32,
    counted_before: u64,
    weight: u32,
    context: u64,
    end: WindowEnd,
    numbers: Vec<u16>,
    descriptors: Vec<i32>,
    returns: Vec<i64>,
    starts: Vec<i64>,
    durations: Vec<u64>,
    /// Positions of the calls that never returned.
    no_return: Vec<u32>,
    /// Positions of the calls that were counted in the kernel, too.
    counted: Vec<u32>,
}

/// The time that windows of a block are relative to: the end of the last call of the window
/// before, 0 at the start of a block. Blocks can so be read each on its own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BlockClock(Nanos);

pub(super) fn encode(record: &Record, clock: &mut BlockClock) -> postcard::Result<Vec<u8>> {
    fn put(kind: u8, fields: &impl Serialize) -> postcard::Result<Vec<u8>> {
        postcard::to_extend(fields, vec![kind])
    }
    match record {
        Record::Container(fields) => put(CONTAINER, fields),
        Record::Process(fields) => put(PROCESS, fields),
        Record::Window(window) => put(WINDOW, &to_columns(window, clock)),
        Record::Detail(fields) => put(DETAIL, fields),
        Record::Http(fields) => put(HTTP, fields),
        Record::Lifecycle(fields) => put(LIFECYCLE, fields),
        Record::Threads(fields) => put(THREADS, fields),
        Record::Descriptor(fields) => put(DESCRIPTOR, fields),
        Record::Tick(fields) => put(TICK, fields),
        Record::Reduced(fields) => put(REDUCED, fields),
        Record::Counts(fields) => put(COUNTS, fields),
        Record::Exchange(fields) => put(EXCHANGE, fields),
        Record::Life(fields) => put(LIFE, fields),
        Record::Network(fields) => put(NETWORK, fields),
        Record::Resources(fields) => put(RESOURCES, fields),
        Record::Span(fields) => put(SPAN, fields),
        Record::ThreadSpan(fields) => put(THREAD_SPAN, fields),
        Record::Resource(fields) => put(RESOURCE, fields),
        Record::Http2(fields) => put(HTTP2, fields),
        Record::Closed(fields) => put(CLOSED, fields),
    }
}

/// Takes one record off the front of `bytes`.
pub(super) fn decode(bytes: &mut &[u8], clock: &mut BlockClock) -> Result<Record, Reason> {
    fn take<'de, T: Deserialize<'de>>(bytes: &mut &'de [u8]) -> Result<T, Reason> {
        let (fields, rest) = postcard::take_from_bytes(bytes).map_err(|_| Reason::Damaged {
            what: "a record does not decode",
        })?;
        *bytes = rest;
        Ok(fields)
    }
    let kind = take(bytes)?;
    Ok(match kind {
        CONTAINER => Record::Container(take(bytes)?),
        PROCESS => Record::Process(take(bytes)?),
        WINDOW => Record::Window(from_columns(take(bytes)?, clock)?),
        DETAIL => Record::Detail(take(bytes)?),
        HTTP => Record::Http(take(bytes)?),
        LIFECYCLE => Record::Lifecycle(take(bytes)?),
        THREADS => Record::Threads(take(bytes)?),
        DESCRIPTOR => Record::Descriptor(take(bytes)?),
        TICK => Record::Tick(take(bytes)?),
        REDUCED => Record::Reduced(take(bytes)?),
        COUNTS => Record::Counts(take(bytes)?),
        EXCHANGE => Record::Exchange(take(bytes)?),
        LIFE => Record::Life(take(bytes)?),
        NETWORK => Record::Network(take(bytes)?),
        RESOURCES => Record::Resources(take(bytes)?),
        SPAN => Record::Span(take(bytes)?),
        THREAD_SPAN => Record::ThreadSpan(take(bytes)?),
        RESOURCE => Record::Resource(take(bytes)?),
        HTTP2 => Record::Http2(take(bytes)?),
        CLOSED => Record::Closed(take(bytes)?),
        kind => return Err(Reason::UnknownRecord { kind }),
    })
}

/// When a record was made, as far as it says: what decides that a block is a second old.
pub(super) fn time_of(record: &Record) -> Option<Nanos> {
    Some(match record {
        Record::Container(r) => r.at_ns,
        Record::Process(r) => r.at_ns,
        Record::Window(r) => end_of(r.calls.last()?),
        Record::Detail(r) => r.at_ns,
        Record::Http(r) => r.at_ns,
        Record::Lifecycle(r) => r.at_ns,
        Record::Threads(r) => r.at_ns,
        Record::Descriptor(r) => r.at_ns,
        Record::Tick(r) => r.at_ns,
        Record::Reduced(r) => r.at_ns,
        Record::Counts(r) => r.at_ns,
        Record::Exchange(r) => r.at_ns,
        Record::Life(r) => r.since_ns,
        Record::Network(r) => r.at_ns,
        Record::Resources(r) => r.at_ns,
        Record::Span(r) => r.at_ns,
        Record::ThreadSpan(r) => r.at_ns,
        Record::Resource(r) => r.at_ns,
        Record::Http2(r) => r.at_ns,
        Record::Closed(r) => r.at_ns,
    })
}

fn end_of(call: &Call) -> Nanos {
    call.enter_ns.wrapping_add(call.duration_ns)
}

fn to_columns(window: &CallWindow, clock: &mut BlockClock) -> WindowColumns {
    let calls = &window.calls;
    let starts = calls.iter().map(|call| {
        let start = call.enter_ns.wrapping_sub(clock.0) as i64;
        clock.0 = end_of(call);
        start
    });
    let positions = |of: fn(&Call) -> bool| {
        let marked = (0u32..).zip(calls).filter(move |(_, call)| of(call));
        marked.map(|(position, _)| position).collect()
    };
    WindowColumns {
        container: window.container,
        pid: window.pid,
        tid: window.tid,
        sequence: window.sequence,
        lost_before: window.lost_before,
        counted_before: window.counted_before,
        weight: window.weight,
        context: window.context,
        end: window.end,
        starts: starts.collect(),
        numbers: calls.iter().map(|call| call.nr).collect(),
        descriptors: calls.iter().map(|call| call.fd).collect(),
        returns: calls.iter().map(|call| call.ret).collect(),
        durations: calls.iter().map(|call| call.duration_ns).collect(),
        no_return: positions(|call| call.no_return),
        counted: positions(|call| call.counted),
    }
}

fn from_columns(columns: WindowColumns, clock: &mut BlockClock) -> Result<CallWindow, Reason> {
    let WindowColumns {
        numbers,
        descriptors,
        returns,
        starts,
        durations,
        no_return,
        counted,
        ..
    } = columns;
    let length = numbers.len();
    if [
        descriptors.len(),
        returns.len(),
        starts.len(),
        durations.len(),
    ] != [length; 4]
    {
        return Err(Reason::Damaged {
            what: "columns of a window differ in length",
        });
    }
    let mut calls: Vec<Call> = (0..length)
        .map(|i| {
            let call = Call {
                nr: numbers[i],
                fd: descriptors[i],
                ret: returns[i],
                enter_ns: clock.0.wrapping_add(starts[i] as u64),
                duration_ns: durations[i],
                no_return: false,
                counted: false,
            };
            clock.0 = end_of(&call);
            call
        })
        .collect();
    let mut mark = |positions: Vec<u32>, set: fn(&mut Call)| {
        positions.into_iter().try_for_each(|position| {
            calls
                .get_mut(position as usize)
                .map(set)
                .ok_or(Reason::Damaged {
                    what: "a window marks a call that it does not have",
                })
        })
    };
    mark(no_return, |call| call.no_return = true)?;
    mark(counted, |call| call.counted = true)?;
    Ok(CallWindow {
        container: columns.container,
        pid: columns.pid,
        tid: columns.tid,
        sequence: columns.sequence,
        lost_before: columns.lost_before,
        counted_before: columns.counted_before,
        weight: columns.weight,
        context: columns.context,
        calls,
        end: columns.end,
    })
}
