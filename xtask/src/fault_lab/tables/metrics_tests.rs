use super::super::super::record::{FalseAlarm, Judged};
use super::*;

fn trial(class: &str, said: Option<&str>, delay: f64) -> Record {
    let outcome = match said {
        None => Outcome::Missed,
        Some(said) if said == class => Outcome::Right,
        Some(_) => Outcome::Wrong,
    };
    Record {
        class: Some(class.to_owned()),
        right_classes: vec![class.to_owned()],
        bound_seconds: Some(5.0),
        judged: Judged {
            outcome,
            class: said.map(str::to_owned),
            confidence: said.map(|_| 0.97),
            hypotheses: said
                .map(str::to_owned)
                .into_iter()
                .chain(["a".to_owned()])
                .collect(),
            delay_seconds: said.map(|_| delay),
            right_at_last: outcome == Outcome::Right,
            incidents: 1,
            normal_seconds: 1800.0,
            ..Judged::default()
        },
        ..Record::default()
    }
}

fn four() -> Vec<Record> {
    vec![
        trial("a", Some("a"), 1.0),
        trial("a", Some("b"), 2.0),
        trial("b", Some("b"), 9.0),
        trial("b", None, 0.0),
    ]
}

fn four_and_an_alarm() -> Vec<Record> {
    let mut records = four();
    records[0].judged.false_alarms.push(FalseAlarm {
        at: 1.0,
        class: "b".to_owned(),
        confidence: Some(0.6),
        message: String::new(),
        machine_waits: None,
    });
    records
}

#[test]
fn faults_are_counted() {
    let summary = Summary::of(&four());
    assert_eq!((summary.trials, summary.detected, summary.top1), (4, 3, 2));
    // The second trial has its class as the second hypothesis.
    assert_eq!((summary.top3, summary.in_time), (3, 2));
    assert_eq!(
        (summary.delay(0.5), summary.delay(0.95)),
        (Some(2.0), Some(9.0))
    );
    assert_eq!(Summary::default().delay(0.5), None);
}

#[test]
fn a_trial_that_was_not_run_counts_for_nothing() {
    let mut records = four();
    records[3].error = Some("no port".to_owned());
    assert_eq!(Summary::of(&records).trials, 3);
    assert_eq!(Normal::of(&records).hours, 1.5);
}

#[test]
fn macro_f1_is_the_mean_of_the_classes() {
    // a: 1 right, 1 called b. b: 1 right, 1 missed, 1 wrongly called b.
    let f1 = macro_f1(&confusion(&four())).unwrap();
    let (a, b) = (2.0 / 3.0, 2.0 / 4.0);
    assert!((f1 - (a + b) / 2.0).abs() < 1e-12, "{f1}");
    assert_eq!(macro_f1(&BTreeMap::new()), None);
}

#[test]
fn a_class_that_is_right_as_well_is_no_confusion() {
    let mut record = trial("a", Some("a2"), 1.0);
    record.judged.outcome = Outcome::Right;
    let counts = confusion(&[record]);
    assert_eq!(counts[&("a".to_owned(), "a".to_owned())], 1);
}

#[test]
fn poisson_bounds_are_those_of_the_books() {
    for (count, bound) in [(0, 2.996), (1, 4.744), (10, 16.96)] {
        let found = poisson_upper(count, 0.95);
        assert!((found - bound).abs() < 0.005, "{count}: {found}");
    }
}

#[test]
fn false_alarms_are_counted_per_pod_day() {
    let records = four_and_an_alarm();
    let normal = Normal::of(&records);
    assert_eq!(
        (normal.hours, normal.alarms, normal.per_day()),
        (2.0, 1, 12.0)
    );
    assert!(normal.per_day_at_most() > 50.0);
}

#[test]
fn contention_of_the_machine_is_counted_apart() {
    let mut records = four_and_an_alarm();
    records[0].judged.false_alarms[0].class = "cpu.contention".to_owned();
    records[0].judged.false_alarms[0].machine_waits = Some(0.8);
    records[0].judged.short_seconds = 360.0;
    let normal = Normal::of(&records);
    assert_eq!((normal.alarms, normal.of_machine), (0, 1));
    assert_eq!(normal.short_hours, 0.1);
}

#[test]
fn what_is_stated_is_held_against_what_is_right() {
    let records = four_and_an_alarm();
    let bins = reliability(&records);
    let found: Vec<(f64, usize, usize)> = bins.iter().map(|b| (b.from, b.count, b.right)).collect();
    assert_eq!(found, [(0.6, 1, 0), (0.95, 3, 2)]);
}
