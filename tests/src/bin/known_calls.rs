//! Makes known system calls: `known-calls WORK THREADS ROUNDS [headless]`.
//!
//! Says `ready`, then at every line on standard input starts its threads, waits for them, and
//! says `done`; ends at end of file. A headless one's first thread ends at the first line.
//!
//! `known-calls in CGROUP WORK …` waits for a line, moves into the cgroup and executes the rest.

use std::{
    env, fs,
    io::{self, BufRead as _, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
    sync::{
        Arc, Barrier,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [word, cgroup, rest @ ..] = &arguments[..]
        && word == "in"
    {
        io::stdin().read_line(&mut String::new())?;
        fs::write(Path::new(cgroup).join("cgroup.procs"), "0")?;
        return Err(Command::new(env::current_exe()?).args(rest).exec());
    }
    let number = |at: usize| {
        arguments
            .get(at)
            .and_then(|text| text.parse().ok())
            .unwrap_or(1u64)
    };
    let work: fn(u64) = match arguments.first().map(String::as_str) {
        Some("sequence") => sequence,
        Some("flood") => flood,
        Some("paced") => paced,
        Some("bursts") => bursts,
        Some("sleep") => sleep,
        Some("hold") => hold,
        Some("mixed") => mixed,
        Some("threads") => threads,
        Some("processes") => processes,
        Some("grow") => grow,
        Some("starve") => starve,
        Some("talk") => talk,
        Some("signals") => signals,
        Some("refused") => refused,
        _ => {
            return Err(io::Error::other(
                "sequence | flood | paced | bursts | sleep | hold | mixed | threads | processes | grow | starve | talk | signals | refused THREADS ROUNDS",
            ));
        }
    };
    let (workers, rounds) = (number(1), number(2));
    if arguments.get(3).is_none_or(|word| word != "headless") {
        return steps(work, workers, rounds, || ());
    }
    let first = std::thread::current();
    std::thread::spawn(move || steps(work, workers, rounds, || first.unpark()));
    std::thread::park();
    // SAFETY: ends this thread, whose stack nobody else uses.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    Ok(())
}

/// `line` is called at every line.
fn steps(work: fn(u64), workers: u64, rounds: u64, line: impl Fn()) -> io::Result<()> {
    say("ready")?;
    for read in io::stdin().lock().lines() {
        read?;
        line();
        let together = Arc::new(Barrier::new(workers as usize));
        let running: Vec<_> = (0..workers)
            .map(|_| {
                let together = together.clone();
                std::thread::spawn(move || {
                    together.wait();
                    work(rounds);
                })
            })
            .collect();
        for thread in running {
            thread
                .join()
                .map_err(|_| io::Error::other("a thread failed"))?;
        }
        say("done")?;
    }
    Ok(())
}

fn say(word: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{word}")?;
    out.flush()
}

/// `getppid`, `getuid`, a `close` that fails, an `openat` that fails, a `connect` that fails.
fn sequence(rounds: u64) {
    let path = c"/no/such/file/of/stethos";
    for _ in 0..rounds {
        // SAFETY: calls without memory arguments, a valid path, a valid address.
        unsafe {
            libc::getppid();
            libc::getuid();
            libc::close(-1);
            libc::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY);
            let address = loopback(1);
            libc::connect(-1, (&raw const address).cast(), 16);
        }
    }
}

fn loopback(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes([127, 0, 0, 1]),
        },
        sin_zero: [0; 8],
    }
}

fn flood(rounds: u64) {
    for _ in 0..rounds {
        // SAFETY: no arguments.
        unsafe { libc::getppid() };
    }
}

/// 250 000 calls a second, in bursts with sleeps between them.
fn paced(rounds: u64) {
    const BURST: u64 = 250;
    let began = Instant::now();
    for (burst, left) in (1..).zip((0..rounds).step_by(BURST as usize)) {
        flood(BURST.min(rounds - left));
        std::thread::sleep((Duration::from_millis(1) * burst).saturating_sub(began.elapsed()));
    }
}

/// Half of the rounds, two seconds of silence, the other half.
fn bursts(rounds: u64) {
    flood(rounds / 2);
    std::thread::sleep(Duration::from_secs(2));
    flood(rounds - rounds / 2);
}

fn sleep(_rounds: u64) {
    // SAFETY: no arguments.
    unsafe { libc::getppid() };
    std::thread::sleep(Duration::from_secs(3600));
}

/// Calls that wait for different times, some that fail, and now and then an unusual one.
fn mixed(rounds: u64) {
    let path = c"/no/such/file/of/stethos";
    let mut byte = [0u8];
    for round in 0..rounds {
        // SAFETY: valid path and room for one byte.
        unsafe {
            libc::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY);
            libc::getppid();
            libc::read(-1, byte.as_mut_ptr().cast(), 1);
        }
        std::thread::sleep(Duration::from_micros(20 << (round % 7)));
        if round % 50 == 49 {
            // SAFETY: no arguments.
            unsafe { libc::getuid() };
        }
    }
}

/// Takes as many bytes of memory, and uses them.
fn grow(bytes: u64) {
    let taken = vec![1u8; bytes as usize];
    std::hint::black_box(&taken);
}

/// Reads what never comes.
fn starve(_rounds: u64) {
    if let Ok((mut reader, _writer)) = io::pipe() {
        let _ = io::Read::read(&mut reader, &mut [0]);
    }
}

/// Threads, one after the other, that make one call each.
fn threads(rounds: u64) {
    for _ in 0..rounds {
        let _ = std::thread::spawn(|| flood(1)).join();
    }
}

/// Processes, one after the other, that make one call each.
fn processes(rounds: u64) {
    for _ in 0..rounds {
        // SAFETY: the child makes two calls without memory arguments and ends.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::getppid();
                libc::_exit(0);
            }
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
}

/// One `getppid`, then a read that lasts `tenths` of a second.
fn hold(tenths: u64) {
    let mut pipe = [0; 2];
    // SAFETY: room for two descriptors.
    unsafe { libc::pipe(pipe.as_mut_ptr()) };
    let [reader, writer] = pipe;
    let waker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100 * tenths));
        // SAFETY: one byte that is there.
        unsafe { libc::write(writer, b"x".as_ptr().cast(), 1) };
    });
    let mut byte = [0u8];
    // SAFETY: room for one byte.
    unsafe {
        libc::getppid();
        libc::read(reader, byte.as_mut_ptr().cast(), 1);
    }
    let _ = waker.join();
}

/// A client asks a server, both in this process, in turn through its connection and a copy of it.
/// An answer takes 2 ms from when the client's `write` has returned, which may be long after the
/// server got what was written. The server's address stays the same.
fn talk(rounds: u64) {
    static PORT: AtomicU16 = AtomicU16::new(0);
    let talk = || -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT.load(Ordering::Relaxed)))?;
        let address = listener.local_addr()?;
        PORT.store(address.port(), Ordering::Relaxed);
        let asked = Arc::new(AtomicU64::new(0));
        let seen = asked.clone();
        let server = std::thread::spawn(move || -> io::Result<()> {
            let (mut client, _) = listener.accept()?;
            let mut byte = [0];
            for round in 1.. {
                if client.read(&mut byte)? == 0 {
                    break;
                }
                while seen.load(Ordering::Acquire) < round {
                    std::thread::yield_now();
                }
                std::thread::sleep(Duration::from_millis(2));
                client.write_all(b"!")?;
            }
            Ok(())
        });
        let first = TcpStream::connect(address)?;
        let mut ways = [first.try_clone()?, first];
        for round in 0..rounds {
            let way = &mut ways[round as usize % 2];
            way.write_all(b"?")?;
            asked.store(round + 1, Ordering::Release);
            way.read_exact(&mut [0])?;
        }
        drop(ways);
        server.join().map_err(|_| io::Error::other("the server"))?
    };
    if let Err(error) = talk() {
        eprintln!("known-calls: {error}");
    }
}

/// A connect that does not wait, to where nothing listens: its socket's type, its error, and that
/// there is none any more.
fn refused(rounds: u64) {
    for _ in 0..rounds {
        // SAFETY: descriptors of its own, a valid address, room for what is handed out.
        unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
            let address = loopback(1);
            libc::connect(fd, (&raw const address).cast(), 16);
            let mut ready = libc::pollfd {
                fd,
                events: libc::POLLOUT,
                revents: 0,
            };
            libc::poll(&raw mut ready, 1, 1000);
            for name in [libc::SO_TYPE, libc::SO_ERROR, libc::SO_ERROR] {
                let (mut value, mut len) = (0, 4);
                let place = (&raw mut value).cast();
                libc::getsockopt(fd, libc::SOL_SOCKET, name, place, &raw mut len);
            }
            libc::close(fd);
        }
    }
}

/// A `close` that fails, a signal with a handler that calls `getuid`, `getppid`.
fn signals(rounds: u64) {
    extern "C" fn handler(_: libc::c_int) {
        // SAFETY: no arguments.
        unsafe { libc::getuid() };
    }
    // SAFETY: a handler that makes one system call, and calls without memory arguments.
    unsafe {
        let handler: extern "C" fn(libc::c_int) = handler;
        libc::signal(libc::SIGUSR1, handler as libc::sighandler_t);
        for _ in 0..rounds {
            libc::close(-1);
            libc::raise(libc::SIGUSR1);
            libc::getppid();
        }
    }
}
