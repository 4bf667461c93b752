//! The sidecar's side: a task that reads requests and hands them to whoever owns the pipeline.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixStream as StdStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{ANSWERED_WITHIN, Answer, ControlError, LONGEST_REQUEST, Request, socket};

/// Connections at a time; further ones wait.
const MOST: usize = 4;
/// Time to send a request.
const SENT_WITHIN: Duration = Duration::from_secs(2);

/// A request that waits for its answer.
pub struct Command {
    pub request: Request,
    pub answer: oneshot::Sender<Answer>,
}

/// The socket of this sidecar; removed when dropped.
pub struct Control {
    path: PathBuf,
    inode: u64,
    commands: mpsc::Receiver<Command>,
    task: AbortHandle,
}

impl Control {
    /// Listens in `state_dir`, in place of a socket that a sidecar left which is gone.
    pub fn listen(state_dir: &Path) -> Result<Self, ControlError> {
        let path = socket(state_dir);
        let failed = |source| ControlError::Io {
            path: path.clone(),
            source,
        };
        match fs::symlink_metadata(&path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(ControlError::NoSocket(path));
            }
            Ok(_) if StdStream::connect(&path).is_ok() => return Err(ControlError::Taken(path)),
            _ => {}
        }
        let listener = bind(state_dir, &path).map_err(failed)?;
        let inode = fs::symlink_metadata(&path).map_err(failed)?.ino();
        let (sender, commands) = mpsc::channel(MOST);
        let task = tokio::spawn(serve(listener, sender)).abort_handle();
        Ok(Self {
            path,
            inode,
            commands,
            task,
        })
    }

    /// The next request.
    pub async fn next(&mut self) -> Option<Command> {
        self.commands.recv().await
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        // Another sidecar may have put its own there.
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The socket is made where nobody else can open it, and moved once only its user may.
fn bind(state_dir: &Path, path: &Path) -> io::Result<UnixListener> {
    let folder = state_dir.join(format!("control.{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    DirBuilder::new().mode(0o700).create(&folder)?;
    let made = folder.join("sock");
    let listener = UnixListener::bind(&made).and_then(|listener| {
        fs::set_permissions(&made, Permissions::from_mode(0o600))?;
        fs::rename(&made, path)?;
        Ok(listener)
    });
    let _ = fs::remove_dir_all(&folder);
    listener
}

async fn serve(listener: UnixListener, commands: mpsc::Sender<Command>) {
    let room = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(seat) = room.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let commands = commands.clone();
                tokio::spawn(async move {
                    let line = answer(&stream, &commands).await;
                    let _ = timeout(SENT_WITHIN, write(&stream, &line)).await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "no connection to an operator");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(stream: &UnixStream, commands: &mpsc::Sender<Command>) -> Vec<u8> {
    let refused = |reason: &str| Answer::Refused(reason.to_owned());
    let answer = match timeout(SENT_WITHIN, read(stream)).await {
        Err(_) => refused("the request did not come in time"),
        Ok(Err(error)) => Answer::Refused(format!("the request is not understood: {error}")),
        Ok(Ok(request)) => timeout(ANSWERED_WITHIN, hand_over(request, commands))
            .await
            .ok()
            .flatten()
            .unwrap_or_else(|| refused("the sidecar is busy or ends; ask again")),
    };
    let mut line = serde_json::to_vec(&answer).unwrap_or_default();
    line.push(b'\n');
    line
}

async fn hand_over(request: Request, commands: &mpsc::Sender<Command>) -> Option<Answer> {
    let (answer, answered) = oneshot::channel();
    commands.send(Command { request, answer }).await.ok()?;
    answered.await.ok()
}

async fn read(stream: &UnixStream) -> io::Result<Request> {
    let mut line = [0; LONGEST_REQUEST];
    let mut length = 0;
    loop {
        stream.readable().await?;
        match stream.try_read(&mut line[length..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => {
                length += more;
                if let Some(end) = line[..length].iter().position(|byte| *byte == b'\n') {
                    return Ok(serde_json::from_slice(&line[..end])?);
                }
                if length == line.len() {
                    let text = format!("longer than {LONGEST_REQUEST} bytes");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write(stream: &UnixStream, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        stream.writable().await?;
        match stream.try_write(line) {
            Ok(written) => line = line.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
