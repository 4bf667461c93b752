//! Heads of HTTP/2 messages (gRPC's too), from the first bytes of a read or write.
//!
//! Only what stands in those bytes is known: neither the frames before them nor the table of earlier
//! headers (RFC 7541, section 2.3.2). So a head is read as far as it needs no table: a `traceparent` is
//! a value of its own nearly always, since every request has another one. Where its name is one of the
//! table's, the value's form tells it; one that is in the table as a whole is not known.

use httlib_huffman::DecoderSpeed;

use crate::record::{Http2Head, Http2Message, TraceParent};

use super::http::parse_traceparent;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
/// Frames of one buffer that are looked at.
const FRAMES: usize = 32;
/// Entries of the static table (RFC 7541, appendix A).
const STATIC: u64 = 61;

/// The heads in a buffer that starts with a frame or the preface; what follows trailers or cannot be told is
/// left out.
pub fn heads(bytes: &[u8]) -> Vec<Http2Head> {
    let mut rest = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
    let mut heads = Vec::new();
    for _ in 0..FRAMES {
        let Some(frame) = Frame::first(rest) else {
            break;
        };
        if frame.kind == HEADERS
            && let Some(message) = frame.block().and_then(message)
        {
            heads.push(Http2Head {
                stream: frame.stream,
                message,
            });
        }
        let Some(next) = rest.get(FRAME_HEAD + frame.length..) else {
            break;
        };
        rest = next;
    }
    heads
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    /// As it says; `payload` may be cut off.
    length: usize,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<FRAME_HEAD>()?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *head;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
            length,
            payload: &rest[..rest.len().min(length)],
        })
    }

    /// The headers of the frame, without what may stand around them.
    fn block(&self) -> Option<&'a [u8]> {
        let mut block = self.payload;
        let mut padding = 0;
        if self.flags & PADDED != 0 {
            let (length, rest) = block.split_first()?;
            (padding, block) = (usize::from(*length), rest);
        }
        if self.flags & PRIORITY != 0 {
            block = block.get(5..)?;
        }
        // Padding that was cut off cannot be taken for headers.
        let whole = self.payload.len() == self.length;
        match whole {
            true => block.get(..block.len().checked_sub(padding)?),
            false => Some(block),
        }
    }
}

/// None for trailers, and where nothing tells a request from a response.
fn message(block: &[u8]) -> Option<Http2Message> {
    let mut is_request = None;
    let mut found = Vec::new();
    for field in (Fields { rest: block }) {
        match field {
            Field::Request => is_request = is_request.or(Some(true)),
            Field::Response => is_request = is_request.or(Some(false)),
            Field::TraceParent(value) => found.push(value),
            Field::Other => {}
        }
    }
    Some(match is_request? {
        // As W3C asks, more than one is none.
        true => Http2Message::Request {
            traceparent: match found[..] {
                [one] => one,
                _ => None,
            },
        },
        false => Http2Message::Response,
    })
}

/// What one field says.
enum Field {
    /// A pseudo-header of requests.
    Request,
    Response,
    TraceParent(Option<TraceParent>),
    Other,
}

/// Fields of a block (RFC 7541, section 6), up to where it is cut off or is none.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Iterator for Fields<'_> {
    type Item = Field;

    fn next(&mut self) -> Option<Field> {
        let first = *self.rest.first()?;
        if first & 0x80 != 0 {
            return of_index(self.integer(7)?);
        }
        if first & 0xe0 == 0x20 {
            self.integer(5)?;
            return Some(Field::Other);
        }
        let bits = if first & 0x40 != 0 { 6 } else { 4 };
        let index = self.integer(bits)?;
        let is_traceparent = match index {
            0 => self.string()? == b"traceparent",
            _ => false,
        };
        let value = self.string()?;
        if is_traceparent {
            return Some(Field::TraceParent(parse_traceparent(&value)));
        }
        match index {
            0 => Some(Field::Other),
            index if index <= STATIC => of_index(index),
            _ => Some(match parse_traceparent(&value) {
                Some(value) => Field::TraceParent(Some(value)),
                None => Field::Other,
            }),
        }
    }
}

/// By the name of a static entry; others are not known.
fn of_index(index: u64) -> Option<Field> {
    match index {
        0 => None,
        // `:authority`, `:method`, `:path`, `:scheme`
        1..=7 => Some(Field::Request),
        // `:status`
        8..=14 => Some(Field::Response),
        _ => Some(Field::Other),
    }
}

impl Fields<'_> {
    /// An integer whose first byte has `bits` bits of it (RFC 7541, section 5.1).
    fn integer(&mut self, bits: u32) -> Option<u64> {
        let most = (1_u64 << bits) - 1;
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        let mut value = u64::from(*first) & most;
        if value < most {
            return Some(value);
        }
        for shift in (0..28).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A string (section 5.2), decoded.
    fn string(&mut self) -> Option<Vec<u8>> {
        let huffman = *self.rest.first()? & 0x80 != 0;
        let length = usize::try_from(self.integer(7)?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        if !huffman {
            return Some(bytes.to_vec());
        }
        let mut decoded = Vec::new();
        httlib_huffman::decode(bytes, &mut decoded, DecoderSpeed::FiveBits).ok()?;
        Some(decoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn string(bytes: &[u8], huffman: bool) -> Vec<u8> {
        let mut coded = Vec::new();
        match huffman {
            true => httlib_huffman::encode(bytes, &mut coded).unwrap(),
            false => coded.extend(bytes),
        }
        let mut string = vec![u8::from(huffman) << 7 | coded.len() as u8];
        string.extend(coded);
        string
    }

    /// A literal field, with its name or an index of it.
    fn literal(index: u8, name: &[u8], value: &[u8], huffman: bool) -> Vec<u8> {
        let mut field = vec![0x40 | index];
        if index == 0 {
            field.extend(string(name, huffman));
        }
        field.extend(string(value, huffman));
        field
    }

    fn request(fields: &[Vec<u8>]) -> Vec<u8> {
        // `:method: POST`, `:scheme: http`
        let mut block = vec![0x83, 0x86];
        block.extend(literal(4, b"", b"/shop.Shop/Order", true));
        block.extend(fields.concat());
        block
    }

    fn traced(stream: u32) -> Http2Head {
        Http2Head {
            stream,
            message: Http2Message::Request {
                traceparent: parse_traceparent(VALUE),
            },
        }
    }

    fn untraced(stream: u32) -> Http2Head {
        Http2Head {
            stream,
            message: Http2Message::Request { traceparent: None },
        }
    }

    #[test]
    fn a_request_is_read_with_its_traceparent() {
        for huffman in [false, true] {
            for field in [
                literal(0, b"traceparent", VALUE, huffman),
                // Its name is one of the table of earlier headers.
                literal(62, b"", VALUE, huffman),
            ] {
                let block = request(&[field, literal(0, b"te", b"trailers", huffman)]);
                assert_eq!(heads(&frame(HEADERS, 4, 5, &block)), [traced(5)]);
            }
        }
    }

    #[test]
    fn several_frames_of_one_buffer_are_read() {
        let block = request(&[literal(0, b"traceparent", VALUE, true)]);
        let mut padded = vec![3, 0, 0, 0, 0, 16];
        padded.extend(&block);
        padded.extend([0; 3]);
        let buffer = [
            PREFACE.to_vec(),
            frame(4, 0, 0, &[0; 6]),
            frame(HEADERS, PADDED | PRIORITY | 4, 1, &padded),
            frame(0, 1, 1, b"data"),
            frame(HEADERS, 4, 3, &block),
        ];
        assert_eq!(heads(&buffer.concat()), [traced(1), traced(3)]);
    }

    #[test]
    fn responses_are_told_from_requests_and_trailers() {
        let status = frame(HEADERS, 4, 7, &[0x88]);
        let other = frame(HEADERS, 4, 9, &literal(8, b"", b"299", false));
        let trailers = frame(HEADERS, 5, 7, &literal(0, b"grpc-status", b"0", true));
        let response = |stream| Http2Head {
            stream,
            message: Http2Message::Response,
        };
        let buffer = [status, other, trailers].concat();
        assert_eq!(heads(&buffer), [response(7), response(9)]);
    }

    #[test]
    fn what_is_not_certain_is_no_traceparent() {
        let once = literal(0, b"traceparent", VALUE, true);
        let block = request(&[once.clone(), once.clone()]);
        assert_eq!(heads(&frame(HEADERS, 4, 1, &block)), [untraced(1)]);
        // Its whole is one of the table of earlier headers.
        assert_eq!(
            heads(&frame(HEADERS, 4, 1, &request(&[vec![0xbe]]))),
            [untraced(1)]
        );
        let other = literal(0, b"x-parent", VALUE, true);
        assert_eq!(
            heads(&frame(HEADERS, 4, 1, &request(&[other]))),
            [untraced(1)]
        );
        let cut = frame(HEADERS, 4, 1, &request(&[once]));
        assert_eq!(heads(&cut[..cut.len() - 1]), [untraced(1)]);
    }

    #[test]
    fn any_bytes_are_read() {
        let block = request(&[literal(0, b"traceparent", VALUE, true)]);
        let whole = frame(HEADERS, PADDED | PRIORITY, 1, &block);
        for at in 0..whole.len() {
            for byte in [0, 0x3f, 0x7f, 0x80, 0xff] {
                let mut broken = whole.clone();
                broken[at] = byte;
                let _ = heads(&broken);
                let _ = heads(&broken[..at]);
            }
        }
    }
}
