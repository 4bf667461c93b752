//! What is kept, and for how long; any order of heads.

use super::*;

#[test]
fn old_requests_are_forgotten_but_hanging_ones_are_remembered() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .reads(200_000, 2, 6, Some(2));
    assert_caller(&story.call("read:ok", 1, 9, 11, 200_000), 1);
    assert_nothing(&story.at(61_000, 9));
}

#[test]
fn heads_that_arrive_late_are_put_in_their_place() {
    let story = Story::new()
        .reads(30, 1, 5, Some(2))
        .reads(10, 1, 6, Some(1))
        .answers(20, 1, 6);
    assert_caller(&story.at(15, 9), 1);
    assert_caller(&story.at(31, 9), 2);
    assert!(Join::resolve_after(5) > 5);
}

#[test]
fn memory_is_bounded_in_requests_and_threads() {
    let config = JoinConfig {
        max_threads: 8,
        max_requests: 4,
        max_total: 32,
        ..JoinConfig::default()
    };
    let mut story = Story::of(config);
    for n in 0..100u32 {
        story = story
            .reads(u64::from(n), 1, 5, Some(1))
            .reads(u64::from(n), n + 2, 6, Some(1));
    }
    assert_eq!(story.0.threads.len(), 8);
    assert!(story.0.owners.len() <= 32);
    assert!(story.0.dropped_heads() > 0);
    assert_eq!(story.0.threads[&(PID, 1)].open_at(100 * MS).len(), 4);
    let late = story.reads(1_000_000, 500, 5, Some(9));
    assert_caller(&late.call("read:EIO", 500, 8, 1_000_001, 1_000_002), 9);
}

/// Whatever the order of heads, nothing panics and a parent is one that was really seen on that
/// thread's process before the call.
#[test]
fn arbitrary_streams_never_invent_context() {
    let mut seed = 7u64;
    let mut next = |bound: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    for _ in 0..200 {
        let mut story = Story::new();
        for _ in 0..60 {
            let (ms, tid, fd) = (next(1000), next(3) as u32, 5 + next(4) as i32);
            let parent = Some(next(200) as u8 + 1);
            story = match next(5) {
                0 => story.reads(ms, tid, fd, parent),
                1 => story.answers(ms, tid, fd),
                2 => story.sends(ms, tid, fd, parent),
                3 => story.receives(ms, tid, fd),
                _ => story.closes(ms, fd),
            };
        }
        for ms in 0..100 {
            let context = story.call(
                "read:EIO",
                next(3) as u32,
                5 + next(6) as i32,
                ms * 10,
                ms * 10,
            );
            assert_eq!(context.parent.is_some(), context.kind.is_some());
            assert!(context.parent.is_none() || context.links.is_empty());
            assert!((0.0..=1.0).contains(&context.confidence));
        }
    }
}
