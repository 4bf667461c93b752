use proptest::prelude::*;

use super::*;
use crate::similarity::lcs_similarity;

const READ: [u32; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const WRITE: [u32; 8] = [11, 12, 13, 14, 15, 16, 17, 18];

/// SplitMix64, for windows with noise.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((z ^ (z >> 27)) >> 11) % bound
    }
}

/// `base` with about a quarter of its tokens left out or doubled, and sometimes a foreign one.
fn noisy(base: &[u32], random: &mut Random) -> Vec<u32> {
    let mut window = Vec::new();
    for code in base {
        match random.below(8) {
            0 => {}
            1 => window.extend([*code, *code]),
            _ => window.push(*code),
        }
    }
    if random.below(3) == 0 {
        window.push(900 + random.below(4) as u32);
    }
    window
}

fn kinds() -> Vec<Vec<u32>> {
    (0..5u32)
        .map(|kind| (0..16).map(|n| kind * 100 + n).collect())
        .collect()
}

#[test]
fn kinds_of_work_become_patterns() {
    let mut clusters = OnlineClusters::new(ClusterConfig::default());
    let (kinds, mut random) = (kinds(), Random(1));
    let mut patterns_of_kind: Vec<Vec<u32>> = vec![Vec::new(); kinds.len()];
    for step in 0..5000 {
        let kind = random.below(kinds.len() as u64) as usize;
        let assignment = clusters.assign(&noisy(&kinds[kind], &mut random));
        if step > 1000 {
            patterns_of_kind[kind].push(assignment.pattern);
        }
    }
    // No pattern serves two kinds, and one pattern serves nearly all of a kind.
    let mut main = Vec::new();
    for ids in &patterns_of_kind {
        let most = ids
            .iter()
            .max_by_key(|id| ids.iter().filter(|other| other == id).count());
        let most = *most.unwrap();
        let share = ids.iter().filter(|id| **id == most).count() as f64 / ids.len() as f64;
        assert!(share > 0.95, "{share}");
        assert!(!main.contains(&most));
        main.push(most);
    }
    let quality = clusters.quality(0.6);
    assert!(quality.coverage > 0.98, "{quality:?}");
    assert!(quality.mean_similarity > 0.8, "{quality:?}");
    assert!(quality.silhouette > 0.7, "{quality:?}");
}

#[test]
fn a_strange_window_founds_a_pattern_and_a_familiar_one_joins() {
    let mut clusters = OnlineClusters::new(ClusterConfig::default());
    let first = clusters.assign(&READ);
    assert_eq!((first.born, first.similarity), (true, 1.0));
    let second = clusters.assign(&WRITE);
    assert!(second.born && second.pattern != first.pattern);
    let again = clusters.assign(&READ);
    assert_eq!(
        again,
        Assignment {
            pattern: first.pattern,
            similarity: 1.0,
            born: false
        }
    );
    let near = clusters.assign(&READ[1..]);
    assert_eq!((near.pattern, near.born), (first.pattern, false));
    assert_eq!(near.similarity, lcs_similarity(&READ, &READ[1..]));
    assert_eq!(clusters.pattern(first.pattern).unwrap().windows(), 3);
    assert_eq!(clusters.windows(), 4);
}

#[test]
fn the_medoid_moves_to_the_middle_and_is_a_real_window() {
    let mut clusters = OnlineClusters::new(ClusterConfig::default());
    // The first window is an outlier of its kind.
    let outlier = [1, 2, 3, 4, 5, 6, 50, 51, 52, 53];
    let mut windows = vec![outlier.to_vec()];
    windows.extend((0..10u32).map(|n| vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 60 + n]));
    windows.iter().for_each(|window| {
        clusters.assign(window);
    });
    assert_eq!(clusters.patterns().len(), 1);
    let medoid = clusters.patterns()[0].medoid();
    assert_ne!(medoid, outlier);
    assert!(windows.iter().any(|window| window == medoid));
    // What was remembered of windows near the old one no longer holds.
    let expected = lcs_similarity(medoid, &outlier);
    assert_eq!(clusters.assign(&outlier).similarity, expected);
}

#[test]
fn patterns_that_grow_together_become_one() {
    let config = ClusterConfig {
        merge_at: 0.7,
        birth_below: 0.61,
        ..ClusterConfig::default()
    };
    let mut clusters = OnlineClusters::new(config);
    // Two outliers to either side of what they have in common found the patterns.
    let a = clusters
        .assign(&(0..12).chain(500..508).collect::<Vec<u32>>())
        .pattern;
    let b = clusters
        .assign(&(0..12).chain(600..608).collect::<Vec<u32>>())
        .pattern;
    assert_ne!(a, b);
    // The windows that follow are nearer to the middle, and so are the medoids then.
    for n in 0..40u32 {
        let side = if n % 2 == 0 { 500..504 } else { 600..604 };
        clusters.assign(&(0..14).chain(side).chain([700 + n]).collect::<Vec<u32>>());
    }
    assert!(clusters.merged() > 0, "{:?}", clusters.freeze());
    let medoids: Vec<&[u32]> = clusters.patterns().iter().map(Pattern::medoid).collect();
    for (index, medoid) in medoids.iter().enumerate() {
        for other in &medoids[index + 1..] {
            assert!(lcs_similarity(medoid, other) <= 0.7);
        }
    }
    let windows: u64 = clusters.patterns().iter().map(Pattern::windows).sum();
    assert_eq!(windows, 42);
}

#[test]
fn a_forgotten_pattern_makes_room_and_its_id_is_not_reused() {
    let config = ClusterConfig {
        max_patterns: 2,
        half_life: 10,
        ..ClusterConfig::default()
    };
    let mut clusters = OnlineClusters::new(config);
    let old = clusters.assign(&WRITE).pattern;
    for _ in 0..200 {
        clusters.assign(&READ);
    }
    let third = clusters.assign(&[70, 71, 72, 73]);
    assert!(third.born);
    assert!(clusters.pattern(old).is_none());
    assert_eq!((clusters.retired(), clusters.patterns().len()), (1, 2));
    // Both are in use now: the next stranger joins the nearest.
    let fourth = clusters.assign(&[80, 81, 82, 83]);
    assert!(!fourth.born);
    assert_eq!(fourth.similarity, 0.0);
    // What comes back after retirement is a new pattern.
    for _ in 0..200 {
        clusters.assign(&READ);
    }
    let back = clusters.assign(&WRITE);
    assert!(back.born && back.pattern > third.pattern);
}

#[test]
fn frequent_windows_stay_sampled_among_many_rare_ones() {
    let config = ClusterConfig {
        max_sample: 8,
        cache: 16,
        ..ClusterConfig::default()
    };
    let mut clusters = OnlineClusters::new(config);
    let base: Vec<u32> = (0..20).collect();
    let twin: Vec<u32> = (0..18).chain([500, 501]).collect();
    let mut random = Random(3);
    for _ in 0..3000 {
        clusters.assign(&base);
        clusters.assign(&twin);
        let mut rare = base.clone();
        rare[random.below(20) as usize] = 1000 + random.below(100_000) as u32;
        clusters.assign(&rare);
    }
    assert_eq!(clusters.patterns().len(), 1);
    let pattern = &clusters.patterns()[0];
    assert_eq!(pattern.medoid(), base);
    assert_eq!(pattern.sample().count(), 8);
    for frequent in [&base, &twin] {
        assert!(
            pattern
                .sample()
                .any(|(codes, count)| codes == frequent && count > 2900)
        );
    }
}

#[test]
fn frozen_patterns_find_the_nearest_within_the_floor() {
    let mut clusters = OnlineClusters::new(ClusterConfig::default());
    clusters.assign(&WRITE);
    clusters.assign(&READ);
    clusters.assign(&READ);
    let frozen = clusters.freeze();
    assert_eq!(frozen[0].medoid, READ);
    assert_eq!(frozen[0].windows, 2);
    assert_eq!(nearest(&frozen, &WRITE[2..], 0.6), Some(1));
    assert_eq!(nearest(&frozen, &[1, 2, 900, 901, 902], 0.6), None);
    assert_eq!(nearest(&frozen, &[], 0.6), None);
    assert_eq!(nearest(&[], &READ, 0.0), None);
    let json = serde_json::to_string(&frozen).unwrap();
    assert_eq!(
        serde_json::from_str::<Vec<FrozenPattern>>(&json).unwrap(),
        frozen
    );
}

#[test]
fn quality_tells_good_patterns_from_bad_ones() {
    let frozen = |medoids: &[&[u32]]| -> Vec<FrozenPattern> {
        let pattern = |medoid: &&[u32]| FrozenPattern {
            id: 0,
            medoid: medoid.to_vec(),
            windows: 1,
            distinct: 1,
            mean_similarity: 1.0,
        };
        medoids.iter().map(pattern).collect()
    };
    let windows = [(&READ[..], 3.0), (&WRITE[..], 1.0)];
    let good = quality(&frozen(&[&READ, &WRITE]), windows, 0.6);
    assert_eq!(
        (good.coverage, good.mean_similarity, good.silhouette),
        (1.0, 1.0, 1.0)
    );
    let half = quality(&frozen(&[&READ]), windows, 0.6);
    assert_eq!(
        (half.coverage, half.mean_similarity, half.silhouette),
        (0.75, 0.75, 0.0)
    );
    let doubled = quality(&frozen(&[&READ, &READ, &WRITE, &WRITE]), windows, 0.6);
    assert_eq!((doubled.coverage, doubled.silhouette), (1.0, 0.0));
    assert_eq!(quality(&[], windows, 0.6), Quality::default());
}

fn windows() -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(0..6u32, 0..12), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn bounds_hold_and_runs_repeat(windows in windows(), merge_at in 0.5..0.95f64) {
        let config = ClusterConfig {
            max_patterns: 4,
            max_sample: 5,
            retire_below: 0.05,
            half_life: 20,
            cache: 8,
            merge_at,
            ..ClusterConfig::default()
        };
        let mut once = OnlineClusters::new(config.clone());
        let mut twice = OnlineClusters::new(config.clone());
        for window in &windows {
            let assignment = once.assign(window);
            prop_assert_eq!(assignment, twice.assign(window));
            let pattern = once.pattern(assignment.pattern).unwrap();
            prop_assert_eq!(assignment.similarity, lcs_similarity(pattern.medoid(), window));
            if assignment.similarity < merge_at {
                let nearer = |p: &Pattern| lcs_similarity(p.medoid(), window) > assignment.similarity;
                prop_assert!(!once.patterns().iter().any(nearer));
            }
            prop_assert!(once.patterns().len() <= 4);
            for pattern in once.patterns() {
                prop_assert!(pattern.sample().count() <= 5);
                prop_assert!(windows.iter().any(|window| window == pattern.medoid()));
            }
        }
        prop_assert_eq!(once.freeze(), twice.freeze());
    }

    #[test]
    fn the_index_answers_as_the_plain_search(windows in windows(), medoids in windows()) {
        let mut clusters = OnlineClusters::new(ClusterConfig::default());
        medoids.iter().for_each(|window| { clusters.assign(window); });
        let frozen = clusters.freeze();
        let mut index = PatternIndex::new(&frozen, 0.5, NonZeroUsize::new(4).unwrap());
        for window in windows.iter().chain(&windows) {
            let mut expected: Option<(usize, f64)> = None;
            for (at, pattern) in frozen.iter().enumerate() {
                let similarity = lcs_similarity(&pattern.medoid, window);
                if similarity >= 0.5 && expected.is_none_or(|(_, best)| similarity > best) {
                    expected = Some((at, similarity));
                }
            }
            prop_assert_eq!(index.nearest(window), expected);
            prop_assert_eq!(nearest(&frozen, window, 0.5), expected.map(|(at, _)| at));
        }
    }
}
