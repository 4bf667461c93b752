//! What scripts and commands are told: `LAB_…` variables.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Where the trial's folder is, for everything in the pod's mount namespace. The same for every
/// trial, so that what is learned of one fits the next.
pub(super) const WORK: &str = "/srv/lab";
/// Where folders of the application, of `lab.sh` and of the binaries are there, for any user.
pub(super) const APP: &str = "/srv/app";
pub(super) const LIBRARY: &str = "/srv/lib";
pub(super) const BINARIES: &str = "/srv/bin";
/// Of the pod.
pub(super) const POD_ADDRESS: &str = "10.203.0.2";
/// Of the clients.
pub(super) const CLIENT_ADDRESS: &str = "10.203.0.1";
/// Of the dependencies.
pub(super) const DEPENDENCY_ADDRESS: &str = "10.203.1.1";

#[derive(Debug, Clone, Default)]
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    pub(super) fn set(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    /// `LAB_<PREFIX><NAME>`, in capitals, with `_` for what no variable may hold.
    pub(super) fn set_of(&mut self, prefix: &str, name: &str, value: impl ToString) {
        self.set(&format!("LAB_{prefix}{}", in_capitals(name)), value);
    }

    pub(super) fn give_to<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.envs(&self.0)
    }

    /// Puts values in the place of `${NAME}`.
    ///
    /// # Errors
    /// When there is no such variable.
    pub(super) fn fill(&self, text: &str) -> Result<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, after)) = after.split_once('}') else {
                bail!("{text:?}: ${{ without }}");
            };
            let value = self.0.get(name);
            let value = value.with_context(|| {
                let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
                format!(
                    "{text:?}: no variable {name}; there are {}",
                    known.join(", ")
                )
            })?;
            filled = filled + before + value;
            rest = after;
        }
        Ok(filled + rest)
    }

    pub(super) fn fill_all(&self, texts: &[String]) -> Result<Vec<String>> {
        texts.iter().map(|text| self.fill(text)).collect()
    }
}

fn in_capitals(name: &str) -> String {
    let capital = |c: char| match c {
        c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
        _ => '_',
    };
    name.chars().map(capital).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_take_the_place_of_names() {
        let mut variables = Variables::default();
        variables.set("LAB_WORK", WORK);
        variables.set_of("PORT_", "shop-api", 80);
        let filled = variables
            .fill("-c ${LAB_WORK}/x:${LAB_PORT_SHOP_API}$")
            .unwrap();
        assert_eq!(filled, "-c /srv/lab/x:80$");
        let unknown = variables.fill("${LAB_WROK}").unwrap_err().to_string();
        assert!(
            unknown.contains("LAB_WROK") && unknown.contains("LAB_WORK"),
            "{unknown}"
        );
        assert!(variables.fill("${LAB_WORK").is_err());
    }
}
