//! The map in which OpenTelemetry's eBPF instrumentation (OBI) has the spans of threads. That program is
//! simulated: the map is made here as OBI makes it, and pinned where OBI pins it, in a file system of the
//! test's own.
#![allow(clippy::unwrap_used, reason = "a step that fails ends the test")]

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::fd::{FromRawFd as _, OwnedFd},
    path::Path,
    time::Duration,
};

use aya::maps::{HashMap, Map, MapData};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_map_type};
use stethos::{
    record::{Record, Subject},
    trace::{Context, Join, JoinConfig, ParentKind, Source},
};
use stethos_tests::{
    broker::mount_bpf,
    cgroup::Cgroup,
    join::{Application, Server, affected, callers_span, own_span, path_of, trace_of, traceparent},
    live::{finish, settings, start},
    skip::kernel_or_skip,
};

/// Trace and span, in the order of W3C Trace Context.
type Shared = HashMap<MapData, u64, [u8; 24]>;

/// A BPF file system that only this thread and what it starts can see, with OBI's map in it.
fn shared() -> Shared {
    mount_bpf(Path::new("/sys/fs/bpf"));
    let folder = Path::new("/sys/fs/bpf/otel");
    fs::create_dir(folder).unwrap();
    let map = MapData::from_fd(made().unwrap()).unwrap();
    map.pin(folder.join("traces_ctx_v1")).unwrap();
    HashMap::try_from(Map::LruHashMap(map)).unwrap()
}

fn made() -> io::Result<OwnedFd> {
    // SAFETY: plain integers, for which 0 is a value.
    let mut attributes: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the variant of `BPF_MAP_CREATE`, all of whose bytes are set.
    let map = unsafe { &mut attributes.__bindgen_anon_1 };
    map.map_type = bpf_map_type::BPF_MAP_TYPE_LRU_HASH as u32;
    (map.key_size, map.value_size, map.max_entries) = (8, 24, 1024);
    // SAFETY: attributes of the size that is told.
    let made = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_MAP_CREATE as libc::c_long,
            &raw mut attributes,
            size_of::<bpf_attr>(),
        )
    };
    match made {
        ..0 => Err(io::Error::last_os_error()),
        // SAFETY: a descriptor that the kernel just made for this process.
        made => Ok(unsafe { OwnedFd::from_raw_fd(made as libc::c_int) }),
    }
}

/// A server with one thread for its one connection.
struct Asked {
    server: Server,
    connection: TcpStream,
    /// Process and thread, as the map has them.
    key: u64,
}

impl Asked {
    fn start(pod: &Cgroup) -> Self {
        let server = Server::start(pod, Application::Threads, false).unwrap();
        let connection = TcpStream::connect(server.address()).unwrap();
        let pid = server.child.id();
        let threads = Path::new("/proc").join(pid.to_string()).join("task");
        let tid = loop {
            let mut tids = fs::read_dir(&threads).unwrap();
            let tid = tids.find_map(|tid| {
                let tid: u32 = tid.ok()?.file_name().to_str()?.parse().ok()?;
                (tid != pid).then_some(tid)
            });
            match tid {
                Some(tid) => break tid,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        Self {
            server,
            connection,
            key: u64::from(pid) << 32 | u64::from(tid),
        }
    }

    /// Asks for what the server does not find.
    fn ask(&mut self, number: u32) {
        let request = format!(
            "GET /open/{number:x} HTTP/1.1\r\nHost: join\r\ntraceparent: {}\r\n\r\n",
            traceparent(number)
        );
        self.connection.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            let mut byte = [0];
            self.connection.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
    }
}

/// The context of the call with which request `number` failed.
fn context_of(records: &[Record], number: u32) -> Context {
    let mut join = Join::new(JoinConfig::of_arch(std::env::consts::ARCH));
    let mut call = None;
    for record in records {
        join.on_record(record);
        if let Record::Detail(detail) = record
            && detail.subject == Subject::Path(path_of(number))
        {
            call = Some(affected(detail));
        }
    }
    join.resolve(&call.unwrap())
}

#[test]
fn what_simulated_instrumentation_shares_is_the_calls_span() {
    const TEST: &str = "what_simulated_instrumentation_shares_is_the_calls_span";
    if !kernel_or_skip(TEST) {
        return;
    }
    let mut shared = shared();
    let pod = Cgroup::new("shared").unwrap();
    let mut asked = Asked::start(&pod);
    let live = start(&pod, settings(4 << 20, 64, 10));
    let (known, unknown, nothing) = (1, 2, 3);
    let entry = |trace: [u8; 16], span: [u8; 8]| -> [u8; 24] {
        [&trace[..], &span].concat().try_into().unwrap()
    };
    shared
        .insert(asked.key, entry(trace_of(known), own_span(known)), 0)
        .unwrap();
    asked.ask(known);
    // Of another trace than any request that is seen: nobody says whether it is sampled.
    let elsewhere = entry(trace_of(99), own_span(99));
    shared.insert(asked.key, elsewhere, 0).unwrap();
    asked.ask(unknown);
    shared.remove(&asked.key).unwrap();
    asked.ask(nothing);
    let records = finish(live);
    drop(asked.server);

    let own = context_of(&records, known);
    let parent = own.parent.unwrap();
    assert_eq!((own.source, own.kind), (Source::Obi, Some(ParentKind::Own)));
    assert_eq!(
        (parent.trace_id, parent.span_id),
        (trace_of(known), own_span(known))
    );
    assert!(parent.is_sampled());

    let linked = context_of(&records, unknown);
    assert_eq!((linked.source, linked.parent), (Source::Obi, None));
    assert_eq!(linked.links.len(), 1, "{linked:?}");
    assert_eq!(linked.links[0].span_id, own_span(99));

    let caller = context_of(&records, nothing);
    assert_eq!(caller.source, Source::IncomingTraceparent);
    assert_eq!(caller.parent.unwrap().span_id, callers_span(nothing));
}
