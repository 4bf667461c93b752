use super::*;

#[test]
fn other_files_and_versions_are_refused() {
    let reason = |bytes: &[u8]| read(bytes).1.unwrap().reason;
    assert!(matches!(reason(b""), Reason::NotARecording));
    assert!(matches!(
        reason(b"\x7fELF\x02\x01\x01"),
        Reason::NotARecording
    ));
    let mut bytes = written(&[]);
    bytes[8] = 9;
    assert!(matches!(reason(&bytes), Reason::OtherVersion { found: 9 }));
    let text = read(&bytes).1.unwrap().to_string();
    assert_eq!(
        text,
        "a.rec: at byte 8: recording of format version 9; this program reads version 3"
    );
    let mut bytes = written(&one_of_each());
    bytes.push(0);
    assert!(matches!(
        reason(&bytes),
        Reason::Damaged {
            what: "bytes follow the end mark"
        }
    ));
}

/// A recording whose blocks carry right checksums over `payload`.
pub(super) fn with_block(kind: block::Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = RecordingWriter::new(Vec::new(), &header())
        .unwrap()
        .finish()
        .unwrap()
        .0;
    let mut end = Vec::new();
    block::write(
        &mut end,
        block::Kind::End,
        &postcard::to_stdvec(&Counts::default()).unwrap(),
    )
    .unwrap();
    bytes.truncate(bytes.len() - end.len());
    block::write(&mut bytes, kind, payload).unwrap();
    bytes
}

#[test]
fn well_framed_nonsense_is_refused() {
    let reason = |kind, payload: &[u8]| read(&with_block(kind, payload)).1.unwrap().reason;
    assert!(matches!(
        reason(block::Kind::Records, &[200, 1]),
        Reason::UnknownRecord { kind: 200 }
    ));
    // A thread snapshot that claims 2^63 threads.
    let threads = [7, 0, 255, 255, 255, 255, 255, 255, 255, 255, 127];
    assert!(matches!(
        reason(block::Kind::Records, &threads),
        Reason::Damaged { .. }
    ));
    let uneven = [3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    assert!(matches!(
        reason(block::Kind::Records, &uneven),
        Reason::Damaged {
            what: "columns of a window differ in length"
        }
    ));
    let unmarked = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 5, 0];
    assert!(matches!(
        reason(block::Kind::Records, &unmarked),
        Reason::Damaged {
            what: "a window marks a call that it does not have"
        }
    ));
    assert!(matches!(
        reason(block::Kind::Header, &[]),
        Reason::Damaged { .. }
    ));
    assert!(matches!(
        reason(block::Kind::End, &[3, 3, 3]),
        Reason::Damaged { .. }
    ));
}

#[test]
fn impossible_lengths_are_refused_before_they_are_believed() {
    let start = written(&[]).len() - with_block(block::Kind::End, &[0, 0, 0]).len();
    assert_eq!(start, 0);
    let mut bytes = with_block(block::Kind::Records, &[]);
    let head = bytes.len() - 13 - zstd::bulk::compress(&[], 3).unwrap().len();
    bytes[head + 1..head + 5].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(
        read(&bytes).1.unwrap().reason,
        Reason::Damaged {
            what: "impossible block length"
        }
    ));
}
