//! What set-up asks of a machine; tests answer with made-up ones.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) trait Machine {
    fn exists(&self, path: &Path) -> bool;
    /// Names in a folder; none where there is no such folder.
    fn list(&self, folder: &Path) -> Vec<String>;
    fn read(&self, path: &Path) -> Option<String>;
    /// Standard output of a command that ran and ended well.
    fn output(&self, program: &Path, arguments: &[&str]) -> Option<String>;
    fn variable(&self, name: &str) -> Option<String>;
    fn is_root(&self) -> bool;
    fn is_x86_64(&self) -> bool;

    /// The first file called `program` in the folders of `PATH`.
    fn on_path(&self, program: &str) -> Option<PathBuf> {
        let path = self.variable("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join(program))
            .find(|file| self.exists(file))
    }

    fn cargo_home(&self) -> PathBuf {
        match self.variable("CARGO_HOME") {
            Some(folder) => PathBuf::from(folder),
            None => self.home().join(".cargo"),
        }
    }

    fn rustup_home(&self) -> PathBuf {
        match self.variable("RUSTUP_HOME") {
            Some(folder) => PathBuf::from(folder),
            None => self.home().join(".rustup"),
        }
    }

    fn home(&self) -> PathBuf {
        PathBuf::from(self.variable("HOME").unwrap_or_else(|| "/root".to_owned()))
    }
}

/// The machine this program runs on.
pub(crate) struct ThisMachine;

impl Machine for ThisMachine {
    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn list(&self, folder: &Path) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn read(&self, path: &Path) -> Option<String> {
        std::fs::read_to_string(path).ok()
    }

    fn output(&self, program: &Path, arguments: &[&str]) -> Option<String> {
        let output = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn is_root(&self) -> bool {
        nix::unistd::geteuid().is_root()
    }

    fn is_x86_64(&self) -> bool {
        std::env::consts::ARCH == "x86_64"
    }
}
