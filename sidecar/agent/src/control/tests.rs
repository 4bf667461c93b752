use std::{
    io::{Read as _, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    thread,
};

use super::{client::ask_within, *};

fn accept(id: &str) -> Request {
    Request::Accept { id: id.to_owned() }
}

async fn asked(state_dir: &Path, request: Request) -> Result<Answer, ControlError> {
    let state_dir: PathBuf = state_dir.to_owned();
    tokio::task::spawn_blocking(move || ask(&state_dir, &request))
        .await
        .unwrap()
}

/// What comes back for these bytes.
async fn sent(state_dir: &Path, bytes: Vec<u8>) -> String {
    let path = socket(state_dir);
    tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(path).unwrap();
        let _ = stream.write_all(&bytes);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_request_gets_its_answer_and_only_the_user_may_ask() {
    let folder = tempfile::tempdir().unwrap();
    let mut control = Control::listen(folder.path()).unwrap();
    let mode = std::fs::metadata(socket(folder.path()))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let serves = async {
        let command = control.next().await.unwrap();
        assert_eq!(command.request, accept("7f3a"));
        command
            .answer
            .send(Answer::Done("done".to_owned()))
            .unwrap();
    };
    let (answer, ()) = tokio::join!(asked(folder.path(), accept("7f3a")), serves);
    assert_eq!(answer.unwrap(), Answer::Done("done".to_owned()));
    drop(control);
    assert!(!socket(folder.path()).exists());
}

#[tokio::test]
async fn what_is_no_request_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _control = Control::listen(folder.path()).unwrap();
    for bytes in [
        b"junk\n".to_vec(),
        br#"{"accept":{"id":"a","more":1}}"#.iter().copied().chain(*b"\n").collect(),
        vec![b'x'; 2 * LONGEST_REQUEST],
    ] {
        let answer = sent(folder.path(), bytes).await;
        assert!(answer.contains("refused") || answer.is_empty(), "{answer}");
    }
}

#[tokio::test]
async fn a_socket_of_a_killed_run_is_replaced_and_one_of_a_living_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens any more, and the file is still there.
    drop(UnixListener::bind(socket(folder.path())).unwrap());
    let gone = asked(folder.path(), accept("a")).await.unwrap_err();
    assert!(matches!(gone, ControlError::Gone(_)), "{gone}");
    let living = Control::listen(folder.path()).unwrap();
    let taken = Control::listen(folder.path()).err().unwrap();
    assert!(matches!(taken, ControlError::Taken(_)), "{taken}");
    drop(living);
    std::fs::write(socket(folder.path()), "").unwrap();
    let other = Control::listen(folder.path()).err().unwrap();
    assert!(matches!(other, ControlError::NoSocket(_)), "{other}");
}

#[tokio::test]
async fn nobody_and_somebody_else_are_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = asked(folder.path(), accept("a")).await.unwrap_err();
    assert!(nobody.to_string().contains("control.sock"), "{nobody}");
    let foreign = UnixListener::bind(socket(folder.path())).unwrap();
    let answers = thread::spawn(move || {
        for answer in ["HTTP/1.1 400 Bad Request\r\n", ""] {
            let (mut stream, _) = foreign.accept().unwrap();
            stream.read_exact(&mut [0]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
        foreign
    });
    for _ in 0..2 {
        let error = asked(folder.path(), accept("a")).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("control.sock"), "{text}");
        assert!(!matches!(error, ControlError::Nobody(_)), "{text}");
    }
    // It takes the connection and says nothing.
    let _silent = answers.join().unwrap();
    let limit = Duration::from_millis(50);
    let late = ask_within(folder.path(), &accept("a"), limit).unwrap_err();
    assert!(matches!(late, ControlError::Late(..)), "{late}");
}
