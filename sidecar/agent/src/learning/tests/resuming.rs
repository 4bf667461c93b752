use super::*;
use crate::learning::training_set::tests::window;

/// Works from second `from` to second `to`.
fn work(learning: &mut Learning, from: u64, to: u64) {
    for second in from..to {
        learning.on_record(&window(second));
        tick(learning, second * SECOND);
    }
}

fn begin(learning: &mut Learning) {
    learning.on_record(&container("api"));
    learning.on_record(&process());
}

/// Calls of earlier processes that the learning goes on from.
async fn resumed(learning: &mut Learning, second: u64) -> u64 {
    for _ in 0..1000 {
        let changes = tick(learning, second * SECOND);
        let calls = changes.iter().find_map(|change| match change {
            Change::Resumed {
                container: 0,
                calls,
            } => Some(*calls),
            _ => None,
        });
        if let Some(calls) = calls {
            return calls;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not resumed");
}

fn notebooks(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).unwrap().flatten();
    let names = files.map(|file| file.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("learning-")).count()
}

#[tokio::test]
async fn a_learning_goes_on_but_not_with_the_time_of_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = learning(folder.path());
    begin(&mut first);
    work(&mut first, 1, 21);
    let trouble = Trouble {
        since_ns: 15 * SECOND - 1,
        confirmed: true,
    };
    first.on_incidents(&[(0, trouble)].into());
    work(&mut first, 21, 25);
    drop(first);
    assert_eq!(notebooks(folder.path()), 2);

    let mut second = learning(folder.path());
    begin(&mut second);
    assert_eq!(resumed(&mut second, 40).await, 14 * 64);
    let left_out = second.containers[&0].held.spans();
    assert_eq!(left_out, [(15 * SECOND - 1, 24 * SECOND)]);
    assert!(second.containers[&0].spoilt);
    let progress = second.containers.get_mut(&0).unwrap().phase.progress();
    assert_eq!(progress.unwrap().calls(), 14 * 64);
    // The process after that goes on with both.
    work(&mut second, 41, 51);
    drop(second);
    assert_eq!(notebooks(folder.path()), 4);
    let mut third = learning(folder.path());
    begin(&mut third);
    assert_eq!(resumed(&mut third, 60).await, 24 * 64);
    assert_eq!(third.containers[&0].earlier.recordings.len(), 2);

    // Once it is learned, nothing of it is left.
    third.learned(0, bundle(1)).unwrap();
    assert!(third.containers[&0].earlier.recordings.is_empty());
    drop(third);
    assert_eq!(notebooks(folder.path()), 0);
}

#[tokio::test]
async fn a_damaged_notebook_does_not_spoil_the_others() {
    let folder = tempfile::tempdir().unwrap();
    for from in [1, 11, 21] {
        let mut learning = learning(folder.path());
        begin(&mut learning);
        work(&mut learning, from, from + 5);
    }
    let second = format!("learning-{}-1.rec", std::process::id());
    std::fs::write(folder.path().join(second), "damaged").unwrap();
    assert_eq!(notebooks(folder.path()), 6);
    let mut last = learning(folder.path());
    begin(&mut last);
    assert_eq!(resumed(&mut last, 40).await, 2 * 5 * 64);
    assert_eq!(last.containers[&0].earlier.recordings.len(), 2);
    // Two that are gone on with, and its own.
    assert_eq!(notebooks(folder.path()), 6);
}

#[tokio::test]
async fn what_another_program_did_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = learning(folder.path());
    begin(&mut first);
    work(&mut first, 1, 5);
    drop(first);
    let mut second = learning(folder.path());
    second.on_record(&container("api"));
    let Record::Process(other) = process() else {
        panic!("no process");
    };
    second.on_record(&Record::Process(ProcessInfo {
        executable: "other".to_owned(),
        ..other
    }));
    assert!(second.containers[&0].earlier.recordings.is_empty());
    // It has its models: what the other did is of no use to anybody.
    second.learned(0, bundle(1)).unwrap();
    assert_eq!(notebooks(folder.path()), 0);
}
