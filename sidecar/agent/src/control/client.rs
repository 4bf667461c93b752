//! The asking side.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::{Answer, ControlError, LONGEST_ANSWER, Request, WAITED_FOR, socket};

/// Asks the sidecar with this state directory.
pub fn ask(state_dir: &Path, request: &Request) -> Result<Answer, ControlError> {
    ask_within(state_dir, request, WAITED_FOR)
}

pub(super) fn ask_within(
    state_dir: &Path,
    request: &Request,
    limit: Duration,
) -> Result<Answer, ControlError> {
    let path = socket(state_dir);
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ControlError::Nobody(path.clone()),
        io::ErrorKind::ConnectionRefused => ControlError::Gone(path.clone()),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            ControlError::Late(path.clone(), limit)
        }
        _ => ControlError::Io {
            path: path.clone(),
            source,
        },
    };
    let foreign = |reason: String| ControlError::Foreign {
        path: path.clone(),
        reason,
    };
    let mut stream = UnixStream::connect(&path).map_err(failed)?;
    stream.set_read_timeout(Some(limit)).map_err(failed)?;
    stream.set_write_timeout(Some(limit)).map_err(failed)?;
    let mut line = serde_json::to_vec(request).map_err(|error| foreign(error.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream.take(LONGEST_ANSWER as u64))
        .read_line(&mut answer)
        .map_err(failed)?;
    if answer.is_empty() {
        return Err(foreign("it closed the connection".to_owned()));
    }
    serde_json::from_str(&answer).map_err(|error| foreign(error.to_string()))
}
