//! A text in pieces, none of which takes more memory than it may.

use std::io::{self, BufRead};

/// One piece, and the line that it begins in, from 1.
pub(super) struct Piece<'a> {
    pub(super) line: u64,
    /// None for a piece that is too long.
    pub(super) bytes: Option<&'a [u8]>,
}

pub(super) struct Pieces<R> {
    input: R,
    ends: fn(u8) -> bool,
    longest: usize,
    line: u64,
    piece: Vec<u8>,
}

impl<R: BufRead> Pieces<R> {
    /// `ends` says which byte ends a piece; `longest` in bytes.
    pub(super) fn new(input: R, ends: fn(u8) -> bool, longest: usize) -> Self {
        Pieces {
            input,
            ends,
            longest,
            line: 1,
            piece: Vec::new(),
        }
    }

    /// The next piece, without the byte that ended it; none at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Piece<'_>>> {
        self.piece.clear();
        let line = self.line;
        let mut length = 0;
        loop {
            let available = match self.input.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if available.is_empty() && length == 0 {
                return Ok(None);
            }
            let end = available.iter().position(|byte| (self.ends)(*byte));
            let part = &available[..end.unwrap_or(available.len())];
            let room = self.longest.saturating_sub(self.piece.len());
            self.piece.extend_from_slice(&part[..part.len().min(room)]);
            length += part.len();
            let last = end.is_some() || available.is_empty();
            if let Some(end) = end {
                length += 1;
                self.line += u64::from(available[end] == b'\n');
            }
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if last {
                let text = length - usize::from(end.is_some());
                let whole = text <= self.longest;
                let bytes = whole.then_some(&self.piece[..]);
                return Ok(Some(Piece { line, bytes }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// Lines and pieces, read through a buffer of few bytes.
    fn read(text: &[u8], ends: fn(u8) -> bool, longest: usize) -> Vec<(u64, Option<String>)> {
        let mut pieces = Pieces::new(BufReader::with_capacity(3, text), ends, longest);
        let mut found = Vec::new();
        while let Some(piece) = pieces.next().unwrap() {
            let text = piece
                .bytes
                .map(|bytes| String::from_utf8_lossy(bytes).into());
            found.push((piece.line, text));
        }
        found
    }

    #[test]
    fn lines_have_their_numbers() {
        let found = read(b"ab\n\ncdefgh\r\ni", |byte| byte == b'\n', 9);
        let expected = [(1, "ab"), (2, ""), (3, "cdefgh\r"), (4, "i")];
        assert_eq!(
            found,
            expected.map(|(line, text)| (line, Some(text.to_owned())))
        );
        assert!(read(b"", |byte| byte == b'\n', 9).is_empty());
    }

    #[test]
    fn words_have_the_line_that_they_stand_in() {
        let found = read(b"6 63\n\n120", |byte| byte.is_ascii_whitespace(), 9);
        let words: Vec<(u64, String)> = found
            .into_iter()
            .filter_map(|(line, text)| Some((line, text.filter(|text| !text.is_empty())?)))
            .collect();
        let expected = [(1, "6"), (1, "63"), (3, "120")];
        assert_eq!(words, expected.map(|(line, word)| (line, word.to_owned())));
    }

    #[test]
    fn what_is_too_long_is_passed_over() {
        let found = read(b"abcd\nabcde\nx", |byte| byte == b'\n', 4);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(found, [(1, text("abcd")), (2, None), (3, text("x"))]);
    }
}
