//! Numbers for tokens, as a model sees them.

use hashbrown::HashMap;

use serde::{Deserialize, Serialize};

use crate::token::Token;

/// Tokens of one model bundle and their ids: 0 = unknown, 1 = gap, then the tokens in order
/// (id = index + 2). Serialised as the list of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Token>", into = "Vec<Token>")]
pub struct Vocabulary {
    tokens: Vec<Token>,
    ids: HashMap<Token, u16>,
}

impl Vocabulary {
    pub const UNKNOWN: u16 = 0;
    pub const GAP: u16 = 1;
    const FIRST: usize = 2;
    /// Most tokens that fit beside the two fixed ids.
    pub const MAX_TOKENS: usize = u16::MAX as usize + 1 - Self::FIRST;

    /// Repeated tokens, [`Token::GAP`] and tokens beyond [`Self::MAX_TOKENS`] are left out.
    pub fn new(tokens: impl IntoIterator<Item = Token>) -> Self {
        let mut vocabulary = Vocabulary {
            tokens: Vec::new(),
            ids: HashMap::new(),
        };
        for token in tokens {
            if vocabulary.tokens.len() == Self::MAX_TOKENS {
                break;
            }
            if token != Token::GAP && !vocabulary.ids.contains_key(&token) {
                let id = (vocabulary.tokens.len() + Self::FIRST) as u16;
                vocabulary.ids.insert(token, id);
                vocabulary.tokens.push(token);
            }
        }
        vocabulary
    }

    pub fn id(&self, token: &Token) -> u16 {
        if *token == Token::GAP {
            return Self::GAP;
        }
        self.ids.get(token).copied().unwrap_or(Self::UNKNOWN)
    }

    /// The token of an id; none for `unknown` and for ids out of range.
    pub fn token(&self, id: u16) -> Option<Token> {
        match id {
            Self::GAP => Some(Token::GAP),
            _ => self
                .tokens
                .get(usize::from(id).checked_sub(Self::FIRST)?)
                .copied(),
        }
    }

    /// Number of ids, `unknown` and `gap` included.
    pub fn len(&self) -> usize {
        self.tokens.len() + Self::FIRST
    }

    /// True when there is no token beside the two fixed ids.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The tokens in order of their ids, from id 2.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }
}

impl From<Vec<Token>> for Vocabulary {
    fn from(tokens: Vec<Token>) -> Self {
        Vocabulary::new(tokens)
    }
}

impl From<Vocabulary> for Vec<Token> {
    fn from(vocabulary: Vocabulary) -> Self {
        vocabulary.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Outcome;

    #[test]
    fn ids_start_after_unknown_and_gap() {
        let read = Token::new(0, 5);
        let refused = Token::new(42, -111);
        let vocabulary = Vocabulary::new([read, refused, read, Token::GAP]);
        assert_eq!(vocabulary.len(), 4);
        assert_eq!((vocabulary.id(&read), vocabulary.id(&refused)), (2, 3));
        assert_eq!(vocabulary.id(&Token::GAP), Vocabulary::GAP);
        assert_eq!(
            vocabulary.id(&Token {
                call: 0,
                outcome: Outcome::NoReturn
            }),
            0
        );
        assert_eq!(vocabulary.token(0), None);
        assert_eq!(vocabulary.token(1), Some(Token::GAP));
        assert_eq!(vocabulary.token(3), Some(refused));
        assert_eq!(vocabulary.token(4), None);
    }

    #[test]
    fn survives_serialisation() {
        let vocabulary = Vocabulary::new([Token::new(1, 0), Token::new(0, -11)]);
        let json = serde_json::to_string(&vocabulary).unwrap();
        assert_eq!(
            serde_json::from_str::<Vocabulary>(&json).unwrap(),
            vocabulary
        );
    }

    #[test]
    fn ids_never_wrap() {
        let all = (0..=u16::MAX).flat_map(|call| [0, -2].map(|ret| Token::new(call, ret)));
        let vocabulary = Vocabulary::new(all);
        assert_eq!(vocabulary.len(), usize::from(u16::MAX) + 1);
        assert_eq!(
            vocabulary.id(&vocabulary.tokens()[Vocabulary::MAX_TOKENS - 1]),
            u16::MAX
        );
    }
}
