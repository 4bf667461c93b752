//! What other tools wrote down of system calls, as records.
//!
//! | module | what |
//! | --- | --- |
//! | [`guess`] | which format a text is in |
//! | [`strace`], [`lid_ds`], [`numbers`] | the formats: text in, events out |
//! | [`assembly`] | events of all inputs, as the records of one recording |
//! | [`sequences`] | what a sequence of such a recording is called |
//!
//! Nothing here reads a file, a clock or the machine that it runs on.

pub mod assembly;
mod calls;
mod error;
mod guess;
mod lid_ds;
mod numbers;
pub mod sequences;
mod strace;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use clap::ValueEnum;

pub use error::{ImportError, LineError};
pub use guess::guess;

use crate::record::{Call, Nanos, Subject};

/// `Header::capture_mode` of what was imported.
pub const CAPTURE_MODE: &str = "import";
/// Longest line that is looked at, and longest word of plain numbers.
pub const MAX_LINE: usize = 1 << 20;
/// Most calls of one recording: they are held in memory until they are in order.
pub const MAX_CALLS: usize = 1 << 24;
/// From one call to the next where the text has no times. 64 such calls are far from the silence
/// that ends a unit of work.
pub const STEP_NS: Nanos = 100_000;

/// The formats that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// What `strace -f -ttt -T` prints
    Strace,
    /// LID-DS recordings, and other lines that sysdig prints
    LidDs,
    /// Call numbers between white space, as in ADFA-LD
    Numbers,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Format::Strace => "strace",
            Format::LidDs => "lid-ds",
            Format::Numbers => "numbers",
        }
    }

    /// What most texts of this format were recorded on.
    pub fn usual_arch(self) -> Arch {
        match self {
            Format::Strace | Format::LidDs => Arch::X86_64,
            Format::Numbers => Arch::I386,
        }
    }

    /// A piece that is parsed at a time is a line; otherwise it is a word, because all numbers of a
    /// sequence may stand in one line.
    pub fn is_in_lines(self) -> bool {
        self != Format::Numbers
    }
}

/// What call numbers mean, and which numbers call names have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    #[value(name = "i386")]
    I386,
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "aarch64")]
    Aarch64,
}

impl Arch {
    pub fn name(self) -> &'static str {
        match self {
            Arch::I386 => "i386",
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }
}

/// Something that a thread did.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// None where the text does not number threads.
    pub tid: Option<u32>,
    /// When it was over.
    pub at_ns: Nanos,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Call(Call),
    /// What an argument of the call before pointed at.
    Subject {
        nr: u16,
        fd: i32,
        ret: i64,
        subject: Subject,
    },
    /// A new thread of the same process, or a new process.
    Started {
        child: u32,
        thread: bool,
    },
    Executed(String),
    /// The thread ended; the code is that of `wait(2)`.
    Ended {
        code: i32,
    },
    /// The text shows the start of a call and not its end.
    Lost,
}

impl Event {
    /// When it began.
    fn start_ns(&self) -> Nanos {
        match &self.what {
            What::Call(call) => call.enter_ns.min(self.at_ns),
            _ => self.at_ns,
        }
    }

    /// Moves it in time; `by` wraps.
    fn shift(&mut self, by: Nanos) {
        self.at_ns = self.at_ns.wrapping_add(by);
        if let What::Call(call) = &mut self.what {
            call.enter_ns = call.enter_ns.wrapping_add(by);
        }
    }
}

/// What one input holds: events, those of each thread in order.
#[derive(Debug, Default)]
pub struct Trace {
    pub events: Vec<Event>,
    /// Times are Unix times: inputs stand side by side. Otherwise they only order this input.
    pub dated: bool,
    /// Processes of threads, where they are told.
    pub processes: HashMap<u32, Option<u32>>,
    pub counts: Counts,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub calls: u64,
    /// Of these, calls without a name or a number on the architecture.
    pub unknown: u64,
    /// The first of their names or numbers.
    pub first_unknown: Vec<String>,
    /// Calls that had not returned where the text ends.
    pub unfinished: u64,
    /// Calls whose end is missing.
    pub lost: u64,
}

/// Takes the pieces of one text (see [`Format::is_in_lines`]).
pub struct Parser(Kind);

enum Kind {
    Strace(Box<strace::Strace>),
    LidDs(Box<lid_ds::LidDs>),
    Numbers(Box<numbers::Numbers>),
}

impl Parser {
    pub fn new(format: Format, arch: Arch) -> Self {
        let names = calls::Names::new(arch);
        Parser(match format {
            Format::Strace => Kind::Strace(Box::new(strace::Strace::new(names))),
            Format::LidDs => Kind::LidDs(Box::new(lid_ds::LidDs::new(names))),
            Format::Numbers => Kind::Numbers(Box::new(numbers::Numbers::new(names))),
        })
    }

    /// Takes one piece; a faulty one changes nothing.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), LineError> {
        let text = String::from_utf8_lossy(piece);
        let text = text.trim_start_matches('\u{feff}').trim_end();
        if text.is_empty() {
            return Ok(());
        }
        match &mut self.0 {
            Kind::Strace(parser) => parser.take(text),
            Kind::LidDs(parser) => parser.take(text),
            Kind::Numbers(parser) => parser.take(text),
        }
    }

    /// Events and open calls in memory.
    pub fn held(&self) -> usize {
        match &self.0 {
            Kind::Strace(parser) => parser.held(),
            Kind::LidDs(parser) => parser.held(),
            Kind::Numbers(parser) => parser.held(),
        }
    }

    pub fn finish(self) -> Trace {
        match self.0 {
            Kind::Strace(parser) => parser.finish(),
            Kind::LidDs(parser) => parser.finish(),
            Kind::Numbers(parser) => parser.finish(),
        }
    }
}
