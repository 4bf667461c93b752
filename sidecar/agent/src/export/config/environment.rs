//! Single values of the environment, by the specification's types.

use std::time::Duration;

use crate::export::resource::Lookup;

/// For what is said to have no limit.
const UNLIMITED: Duration = Duration::from_millis(u32::MAX as u64);

/// The variables, and what is to be said about them.
pub(super) struct Environment<'a> {
    lookup: Lookup<'a>,
    warnings: Vec<String>,
}

impl<'a> Environment<'a> {
    pub(super) fn new(lookup: Lookup<'a>) -> Self {
        let warnings = Vec::new();
        Environment { lookup, warnings }
    }

    pub(super) fn into_warnings(self) -> Vec<String> {
        self.warnings
    }

    pub(super) fn ignored(&mut self, name: &str, value: &str, reason: &str) {
        self.warnings
            .push(format!("{name}: {value:?} {reason}; ignored"));
    }

    /// An empty value counts as unset.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name)
            .map(|v| v.trim().to_owned())
            .filter(|v| !v.is_empty())
    }

    /// The names in a list, in small letters.
    pub(super) fn names(&self, name: &str) -> Vec<String> {
        let list = self.text(name).unwrap_or_default().to_ascii_lowercase();
        let names = list.split(',').map(str::trim);
        names
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn flag(&mut self, name: &str) -> bool {
        let Some(value) = self.text(name) else {
            return false;
        };
        if !value.eq_ignore_ascii_case("true") && !value.eq_ignore_ascii_case("false") {
            self.ignored(name, &value, "is neither true nor false");
        }
        value.eq_ignore_ascii_case("true")
    }

    pub(super) fn number(&mut self, name: &str) -> Option<u32> {
        let value = self.text(name)?;
        let number = value.parse().ok();
        if number.is_none() {
            let reason = format!("is not a whole number from 0 to {}", u32::MAX);
            self.ignored(name, &value, &reason);
        }
        number
    }

    /// A number of things, of which there must be some.
    pub(super) fn size(&mut self, name: &str) -> Option<usize> {
        let number = self.number(name)?;
        if number == 0 {
            self.ignored(name, "0", "is not positive");
        }
        usize::try_from(number).ok().filter(|n| *n > 0)
    }

    pub(super) fn milliseconds(&mut self, name: &str) -> Option<Duration> {
        let number = self.number(name)?;
        Some(Duration::from_millis(number.into()))
    }

    /// As [`Environment::milliseconds`]; zero means no limit.
    pub(super) fn timeout(&mut self, name: &str) -> Option<Duration> {
        let set = self.milliseconds(name)?;
        Some(if set.is_zero() { UNLIMITED } else { set })
    }
}
