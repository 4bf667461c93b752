//! Spans that the application sent itself.

use super::*;
use crate::record::OwnSpan;

/// A span of the application's that answered span `caller` from `start` to `end`, and came at `at`.
fn own_span(n: u8, caller: u8, (start, end, at): (u64, u64, u64)) -> OwnSpan {
    let ids = span(caller);
    OwnSpan {
        at_ns: at * MS,
        span: SpanContext {
            span_id: [n; 8],
            ..ids
        },
        parent: Some(ids.span_id),
        serves: true,
        start_ns: start * MS,
        end_ns: end * MS,
    }
}

#[test]
fn the_span_that_the_application_sent_stands_for_its_callers() {
    let mut story = Story::new().reads(1_000, 1, 5, Some(7));
    let caller = story.at(1_010, 9);
    assert_eq!(caller.source, Source::IncomingTraceparent);
    story
        .0
        .on_record(&Record::Span(own_span(2, 7, (990, 1_100, 6_000))));
    let own = story.at(1_010, 9);
    let parent = own.parent.unwrap();
    assert_eq!((parent.trace_id, parent.span_id), ([7; 16], [2; 8]));
    assert_eq!(
        (own.kind, own.source),
        (Some(ParentKind::Own), Source::OtlpPassthrough)
    );
    assert_eq!(own.confidence, caller.confidence);
}

#[test]
fn own_spans_are_waited_for_only_while_they_come() {
    let end_ns = 1_011 * MS;
    let mut story = Story::new().reads(1_000, 1, 5, Some(7));
    let caller = story.at(1_010, 9);
    let until = |story: &Story, context: &Context, now: u64| {
        story.0.may_be_own_until(context, end_ns, now * MS)
    };
    assert_eq!(until(&story, &caller, 1_100), None, "none came yet");
    story
        .0
        .on_record(&Record::Span(own_span(3, 8, (100, 200, 900))));
    assert_eq!(until(&story, &caller, 1_100), Some(end_ns + SENT_WITHIN));
    assert_eq!(until(&story, &caller, 100_000), None, "none came for long");
    assert_eq!(until(&story, &Context::none(""), 1_100), None);
}
