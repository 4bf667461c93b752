use std::fmt;
use std::io;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File(String),
    Variable(String),
    Flag(String),
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(name) => f.write_str(name),
            Place::Variable(name) => write!(f, "variable {name}"),
            Place::Flag(name) => write!(f, "flag {name}"),
            Place::Default => f.write_str("default"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("{file}: cannot be read: {error}")]
    Read { file: String, error: io::Error },
    #[error("{file}: not YAML: {what}")]
    Parse { file: String, what: String },
    #[error("{place}: unknown key `{key}`{}", suggest(suggestion))]
    UnknownKey {
        place: Place,
        key: String,
        suggestion: Option<String>,
    },
    #[error("unknown variable {name}{}", suggest(suggestion))]
    UnknownVariable {
        name: String,
        suggestion: Option<String>,
    },
    /// `what` tells the value that was found and what was expected.
    #[error("{place}: `{key}`: {what}")]
    Invalid {
        place: Place,
        key: String,
        what: String,
    },
    #[error("{place}: `{key}` is {value}; allowed is {allowed}")]
    NotAllowed {
        place: Place,
        key: String,
        value: String,
        allowed: String,
    },
}

fn suggest(suggestion: &Option<String>) -> String {
    suggestion
        .as_ref()
        .map(|s| format!("; did you mean `{s}`?"))
        .unwrap_or_default()
}

/// Everything found wrong with a configuration; never empty.
#[derive(Debug)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
        }
    }
}

/// One problem a line.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
