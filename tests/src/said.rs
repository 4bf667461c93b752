//! What a child process says, line by line, within a bound.

use std::{
    io::{self, BufRead as _, BufReader},
    process::Child,
    sync::mpsc::{self, RecvTimeoutError, TryRecvError},
    time::Duration,
};

/// The longest part of a test takes less than this.
const LIMIT: Duration = Duration::from_mins(5);

/// The lines of a child's standard output.
pub struct Said(mpsc::Receiver<String>);

impl Said {
    /// # Errors
    /// When the child's standard output is not a pipe, or was taken.
    pub fn by(child: &mut Child) -> io::Result<Self> {
        let output = child.stdout.take();
        let output = output.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let (say, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self(said))
    }

    /// Whether there is no line, and one may come. A line that is there is taken.
    pub fn is_silent(&self) -> bool {
        matches!(self.0.try_recv(), Err(TryRecvError::Empty))
    }

    /// The next line.
    ///
    /// # Errors
    /// When the child ends before it, or says nothing for five minutes.
    pub fn next(&self) -> io::Result<String> {
        self.0.recv_timeout(LIMIT).map_err(|error| match error {
            RecvTimeoutError::Timeout => io::ErrorKind::TimedOut.into(),
            RecvTimeoutError::Disconnected => io::ErrorKind::UnexpectedEof.into(),
        })
    }
}
