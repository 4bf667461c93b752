use opentelemetry_proto::tonic::common::v1::any_value::Value as Otlp;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as OtlpKind;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};

use super::*;
use crate::export::AttributeLimits;
use crate::export::samples::{MS, UNIX_OFFSET, affected, of_state, span_context, under};

const SAMPLED_SPAN: u8 = 1;

fn limits() -> Limits {
    let attributes = AttributeLimits::default();
    Limits {
        log: attributes,
        span: attributes,
        links: 128,
    }
}

struct Story(Assembler);

impl Story {
    fn new(per_minute: u32) -> Self {
        Story(Assembler::new(limits(), per_minute))
    }

    fn reports(&mut self, published: &[Published]) -> Vec<Span> {
        for p in published {
            match &p.report {
                Report::Diagnosis(d) => self.0.on_diagnosis(p, d),
                Report::Affected(call) => self.0.on_affected(p, call),
            }
        }
        self.drain()
    }

    /// As they go on the wire.
    fn drain(&mut self) -> Vec<Span> {
        let ready = self.0.drain().into_iter();
        ready.map(|item| Span::from(item.span)).collect()
    }

    fn tick(&mut self, ms: u64) -> Vec<Span> {
        self.0.tick(ms * MS);
        self.drain()
    }
}

fn suspected() -> Published {
    of_state(IncidentState::Suspected, 1_050)
}

fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a Otlp> {
    let found = span.attributes.iter().find(|kv| kv.key == key)?;
    found.value.as_ref()?.value.as_ref()
}

fn unix(ms: u64) -> u64 {
    UNIX_OFFSET as u64 + ms * MS
}

#[test]
fn an_affected_request_is_a_child_of_its_sampled_parent() {
    let mut story = Story::new(30);
    let call = affected(1_000, 1_004, under(span_context(7, SAMPLED_SPAN)));
    assert!(story.reports(&[suspected(), call]).is_empty());
    let spans = story.tick(3_100);
    let [span] = spans.as_slice() else {
        panic!("{spans:#?}")
    };
    assert_eq!(span.name, "stethos.fault dependency.refused");
    assert_eq!(
        (&span.trace_id, &span.parent_span_id),
        (&vec![7; 16], &vec![7; 8])
    );
    assert_eq!(span.flags, 0x301);
    assert_eq!(span.kind, OtlpKind::Internal as i32);
    assert_eq!(
        (span.start_time_unix_nano, span.end_time_unix_nano),
        (unix(1_000), unix(1_004))
    );
    let status = span.status.as_ref().unwrap();
    assert_eq!(status.code, StatusCode::Error as i32);
    assert!(status.message.contains("6379"));
    assert!(span.links.is_empty());
    assert_eq!(
        attribute(span, "stethos.fault"),
        Some(&Otlp::BoolValue(true))
    );
    assert_eq!(
        attribute(span, "error.type"),
        Some(&Otlp::StringValue("dependency.refused".into()))
    );
    assert_eq!(
        attribute(span, "stethos.trace.parent"),
        Some(&Otlp::StringValue("own".into()))
    );
    assert!(matches!(
        attribute(span, "stethos.fault.evidence"),
        Some(Otlp::ArrayValue(_))
    ));
}

#[test]
fn calls_of_one_request_are_one_span() {
    let mut story = Story::new(30);
    let context = under(span_context(7, SAMPLED_SPAN));
    let calls = [
        suspected(),
        affected(1_000, 1_004, context.clone()),
        affected(1_900, 1_950, context.clone()),
        affected(1_001, 1_001, under(span_context(8, SAMPLED_SPAN))),
    ];
    assert!(story.reports(&calls).is_empty());
    let spans = story.tick(4_000);
    assert_eq!(spans.len(), 2);
    assert_eq!(
        (spans[0].start_time_unix_nano, spans[0].end_time_unix_nano),
        (unix(1_000), unix(1_950))
    );
    assert!(story.reports(&[affected(4_100, 4_101, context)]).is_empty());
    assert!(story.tick(9_000).is_empty());
    assert_eq!(story.0.withheld(), 0);
}

#[test]
fn an_unsampled_or_ambiguous_context_gives_a_root_with_links() {
    let mut story = Story::new(30);
    let ambiguous = Context {
        links: vec![span_context(1, 1), span_context(2, 1)],
        source: crate::trace::Source::IncomingTraceparent,
        ..Context::default()
    };
    let unsampled = under(span_context(9, 0));
    story.reports(&[
        suspected(),
        affected(1_000, 1_001, ambiguous),
        affected(1_000, 1_002, unsampled),
    ]);
    let spans = story.tick(9_000);
    assert_eq!(spans.len(), 2);
    for span in &spans {
        assert!(span.parent_span_id.is_empty());
        assert_eq!(
            (span.trace_id.len(), span.span_id.len(), span.flags),
            (16, 8, 0x101)
        );
        assert!(
            span.links
                .iter()
                .all(|l| l.trace_id != span.trace_id && l.flags & 0x300 == 0x300)
        );
    }
    assert_eq!((spans[0].links.len(), spans[1].links.len()), (2, 1));
    assert_eq!(spans[1].links[0].flags, 0x300);
    assert_ne!(spans[0].trace_id, spans[1].trace_id);
}

#[test]
fn spans_per_minute_are_bounded_and_the_rest_is_counted() {
    let mut story = Story::new(3);
    story.reports(&[suspected()]);
    let many = |from: u8, ms: u64| -> Vec<Published> {
        let call = |n| affected(ms, ms + 1, under(span_context(n, SAMPLED_SPAN)));
        (from..from + 10).map(call).collect()
    };
    story.reports(&many(1, 2_000));
    assert_eq!(story.tick(10_000).len(), 3);
    assert_eq!(story.0.withheld(), 7);
    story.reports(&many(50, 63_000));
    assert_eq!(story.tick(70_000).len(), 3);
    let spans = story.reports(&[of_state(IncidentState::Resolved, 80_000)]);
    assert_eq!(
        attribute(&spans[0], "stethos.incident.spans_withheld"),
        Some(&Otlp::IntValue(14))
    );
}

#[test]
fn confirmation_and_close_are_roots_with_links() {
    let mut story = Story::new(30);
    let parent = span_context(7, SAMPLED_SPAN);
    story.reports(&[suspected(), affected(1_000, 1_004, under(parent))]);
    let spans = story.reports(&[of_state(IncidentState::Confirmed, 1_500)]);
    let names: Vec<_> = spans.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "stethos.fault dependency.refused",
            "stethos.fault.confirmed dependency.refused"
        ]
    );
    let confirmed = &spans[1];
    assert_eq!(confirmed.start_time_unix_nano, unix(1_500));
    assert_eq!(confirmed.end_time_unix_nano, unix(1_500) + 1);
    assert!(confirmed.parent_span_id.is_empty());
    assert_eq!(confirmed.links[0].trace_id, vec![7; 16]);
    assert!(
        story
            .reports(&[of_state(IncidentState::Confirmed, 1_600)])
            .is_empty()
    );
    let spans = story.reports(&[of_state(IncidentState::Resolved, 16_801)]);
    let [incident] = spans.as_slice() else {
        panic!("{spans:#?}")
    };
    assert_eq!(incident.name, "stethos.incident dependency.refused");
    assert_eq!(
        (incident.start_time_unix_nano, incident.end_time_unix_nano),
        (unix(1_000), unix(16_800))
    );
    assert_eq!(incident.links.len(), 1);
    assert!(
        story
            .reports(&[affected(16_900, 16_901, Context::default())])
            .is_empty()
    );
    assert_eq!(story.0.withheld(), 1);
}

#[test]
fn a_confirmation_before_any_affected_call_links_to_the_request_that_the_diagnosis_names() {
    let mut story = Story::new(30);
    let context = under(span_context(7, SAMPLED_SPAN));
    let mut confirmed = of_state(IncidentState::Confirmed, 1_500);
    confirmed.context = context.clone();
    let spans = story.reports(&[confirmed]);
    let [confirmed] = spans.as_slice() else {
        panic!("{spans:#?}")
    };
    let links = |span: &Span| -> Vec<Vec<u8>> {
        let links = span.links.iter();
        links.map(|link| link.span_id.clone()).collect()
    };
    assert_eq!(links(confirmed), [[7; 8]]);
    // The request's own affected call is no other link.
    story.reports(&[affected(1_000, 1_004, context)]);
    let spans = story.reports(&[of_state(IncidentState::Resolved, 16_801)]);
    assert_eq!(spans.last().map(links), Some(vec![vec![7; 8]]));
}

#[test]
fn links_and_incidents_are_bounded() {
    let mut story = Story::new(u32::MAX);
    story.reports(&[suspected()]);
    for n in 0..300u16 {
        let mut parent = span_context(1, SAMPLED_SPAN);
        parent.span_id[..2].copy_from_slice(&n.to_be_bytes());
        story.reports(&[affected(1_000, 1_001, under(parent))]);
    }
    let spans = story.reports(&[of_state(IncidentState::Confirmed, 1_500)]);
    assert_eq!(spans.len(), 301);
    assert_eq!(spans[300].links.len(), 128);
    for n in 0..3_000 {
        let mut published = suspected();
        if let Report::Diagnosis(d) = &mut published.report {
            d.incident_id = format!("{n:016x}");
        }
        story.reports(&[published]);
    }
    assert_eq!(story.0.incidents.len(), MAX_INCIDENTS);
    assert_eq!(story.0.order.len(), MAX_INCIDENTS);
}
