//! Which trials are run, and in what order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::spec::{App, Applied, Fault, Setting, USUAL};

/// All that can be tried.
pub(super) struct Catalogue {
    pub(super) apps: BTreeMap<String, Arc<App>>,
    pub(super) faults: BTreeMap<String, Arc<Fault>>,
    pub(super) changes: BTreeMap<String, Arc<Fault>>,
    /// Faults and changes outside of the given folders: known, not run.
    pub(super) left_out: BTreeSet<String>,
}

/// One fault, or one normal change, of one application.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    pub(super) app: Arc<App>,
    pub(super) variant: String,
    /// Requests per second.
    pub(super) rate: f64,
    pub(super) fault: Arc<Fault>,
    pub(super) applied: Applied,
    pub(super) setting: Setting,
    pub(super) seed: u64,
}

impl Trial {
    /// Tells it from every other trial.
    pub(super) fn id(&self) -> String {
        let target = self.applied.target.as_deref();
        let target = target.map_or_else(String::new, |target| format!("@{target}"));
        format!(
            "{}/{}/{}{target}/{}/{}",
            self.app.name, self.variant, self.fault.name, self.setting.name, self.seed
        )
    }

    /// For what chance decides in it.
    pub(super) fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(fnv(&self.id()))
    }
}

/// FNV-1a, which stays the same from build to build.
pub(super) fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Catalogue {
    /// Every fault and change of every application, each seed with the next of its settings, that
    /// `only` names: applications, faults, changes or classes; all without.
    ///
    /// # Errors
    /// When a file names what is not there, or `only` does.
    pub(super) fn trials(&self, only: &[String], seeds: &[u64]) -> Result<Vec<Trial>> {
        let only = self.only(only)?;
        let mut trials = Vec::new();
        for app in self.apps.values().filter(|app| only.has_app(&app.name)) {
            for (applied, fault) in self.applied(app)? {
                if !only.has_fault(&fault) {
                    continue;
                }
                let settings: Vec<&Setting> = fault
                    .settings
                    .iter()
                    .filter(|one| {
                        applied.settings.is_empty() || applied.settings.contains(&one.name)
                    })
                    .collect();
                for variant in &applied.variants {
                    let rate = app.rate(variant).context("no such variant")?;
                    // Not every trial begins with the same setting.
                    let first = fnv(&format!("{} {variant} {}", app.name, fault.name));
                    for &seed in seeds {
                        let turn = first.wrapping_add(seed) % settings.len().max(1) as u64;
                        let Some(&setting) = settings.get(turn as usize) else {
                            continue;
                        };
                        trials.push(Trial {
                            app: Arc::clone(app),
                            variant: variant.clone(),
                            rate,
                            fault: Arc::clone(&fault),
                            applied: applied.clone(),
                            setting: setting.clone(),
                            seed,
                        });
                    }
                }
            }
        }
        Ok(in_turn(trials))
    }

    /// What is applied to an application, by its own file and by those of faults.
    fn applied(&self, app: &App) -> Result<Vec<(Applied, Arc<Fault>)>> {
        let mut all = Vec::new();
        for (named, known, what) in [
            (&app.faults, &self.faults, "fault"),
            (&app.changes, &self.changes, "normal change"),
        ] {
            for applied in named {
                match known.get(&applied.name) {
                    Some(fault) => all.push((applied.clone(), Arc::clone(fault))),
                    None if self.left_out.contains(&applied.name) => {}
                    None => bail!(
                        "{}: no folder of a {what} is called {}",
                        app.folder.join(super::spec::APP_FILE).display(),
                        applied.name
                    ),
                }
            }
        }
        for fault in self.faults.values().chain(self.changes.values()) {
            for applied in &fault.applies {
                if applied.app.as_deref() == Some(app.name.as_str()) {
                    all.push((applied.clone(), Arc::clone(fault)));
                }
            }
        }
        for (applied, fault) in &all {
            let check = app.check_applied(applied).and(fault.check_applied(applied));
            check.with_context(|| app.folder.display().to_string())?;
        }
        Ok(all)
    }

    /// Normal changes of an application.
    pub(super) fn changes_of(&self, app: &App) -> Result<Vec<(Applied, Arc<Fault>)>> {
        let mut all = self.applied(app)?;
        all.retain(|(_, fault)| fault.class.is_none());
        Ok(all)
    }

    fn only(&self, words: &[String]) -> Result<Only> {
        let mut only = Only::default();
        for word in words {
            let word = word.as_str();
            if self.apps.contains_key(word) {
                only.apps.insert(word.to_owned());
                continue;
            }
            let all = || self.faults.values().chain(self.changes.values());
            let named = all().filter(|fault| {
                fault.name == word
                    || fault.class.as_deref() == Some(word)
                    || (word == "normal" && fault.class.is_none())
            });
            let named: Vec<String> = named.map(|fault| fault.name.clone()).collect();
            if named.is_empty() {
                let apps: Vec<&str> = self.apps.keys().map(String::as_str).collect();
                let faults: Vec<&str> = all().map(|fault| fault.name.as_str()).collect();
                bail!(
                    "--only {word}: neither an application ({}) nor a fault or change ({})",
                    apps.join(", "),
                    faults.join(", ")
                );
            }
            only.faults.extend(named);
        }
        Ok(only)
    }
}

/// Those at the usual rate of applications that speak HTTP, with requests that come so many at once.
pub(super) fn in_crowds(trials: &mut Vec<Trial>, crowd: u32) {
    let speaks_http = |app: &App| app.load.command.iter().any(|word| word == "http");
    trials.retain(|trial| trial.variant == USUAL && speaks_http(&trial.app));
    for trial in trials {
        trial.variant = format!("crowd-{crowd}");
    }
}

/// Seed by seed, one of each application in turn, its usual rate first: what was run of a part is a fair sample, and
/// applications are learned side by side.
fn in_turn(trials: Vec<Trial>) -> Vec<Trial> {
    let mut counts: BTreeMap<(u64, String), usize> = BTreeMap::new();
    let mut ranked: Vec<(u64, usize, Trial)> = Vec::new();
    let (usual, others): (Vec<Trial>, Vec<Trial>) =
        trials.into_iter().partition(|trial| trial.variant == USUAL);
    for trial in usual.into_iter().chain(others) {
        let count = counts
            .entry((trial.seed, trial.app.name.clone()))
            .or_default();
        ranked.push((trial.seed, *count, trial));
        *count += 1;
    }
    ranked.sort_by_key(|(seed, rank, _)| (*seed, *rank));
    ranked.into_iter().map(|(_, _, trial)| trial).collect()
}

#[derive(Default)]
struct Only {
    apps: BTreeSet<String>,
    faults: BTreeSet<String>,
}

impl Only {
    fn has_app(&self, name: &str) -> bool {
        self.apps.is_empty() || self.apps.contains(name)
    }

    fn has_fault(&self, fault: &Fault) -> bool {
        self.faults.is_empty() || self.faults.contains(&fault.name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec;
    use super::*;

    fn catalogue() -> Catalogue {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let app = |fault: &str| {
            format!(
                "about = 'a'\nport = 1\n[[container]]\nname = 'c'\ncommand = ['x']\n\
                 [load]\ncommand = ['l']\nrate = 5\n[[fault]]\nname = '{fault}'\n"
            )
        };
        write("apps/web/app.toml", &app("moved"));
        write("apps/db/app.toml", &app("elsewhere"));
        write(
            "faults/moved/fault.toml",
            "about = 'm'\nclass = 'file.missing'\nbound = 'i'\nseconds = 1\n\
             [[setting]]\nname = 'a'\n[[setting]]\nname = 'b'\n\
             [[applies]]\napp = 'db'\nname = 'moved'\n",
        );
        write("faults/moved/inject.sh", "");
        let arcs = |faults: BTreeMap<String, Fault>| {
            let arc = |(name, fault)| (name, Arc::new(fault));
            faults.into_iter().map(arc).collect()
        };
        let apps = spec::apps(&root.path().join("apps")).unwrap();
        Catalogue {
            apps: apps
                .into_iter()
                .map(|(name, app)| (name, Arc::new(app)))
                .collect(),
            faults: arcs(spec::faults(&root.path().join("faults")).unwrap()),
            changes: BTreeMap::new(),
            left_out: BTreeSet::from(["elsewhere".to_owned()]),
        }
    }

    fn ids(trials: &[Trial]) -> Vec<String> {
        trials.iter().map(Trial::id).collect()
    }

    #[test]
    fn every_application_meets_its_faults_and_those_that_name_it() {
        let trials = catalogue().trials(&[], &[7]).unwrap();
        let apps: Vec<&str> = trials.iter().map(|trial| trial.app.name.as_str()).collect();
        assert_eq!(apps, ["db", "web"]);
    }

    #[test]
    fn seeds_take_turns_with_settings() {
        let two = catalogue().trials(&["web".into()], &[1, 2]).unwrap();
        assert_ne!(two[0].setting.name, two[1].setting.name);
        let again = catalogue().trials(&["web".into()], &[1, 2]).unwrap();
        assert_eq!(ids(&two), ids(&again));
    }

    #[test]
    fn applications_take_turns_and_seeds_come_one_after_another() {
        let ids = ids(&catalogue().trials(&[], &[1, 2]).unwrap());
        let of = |id: &String| (id.split('/').next().unwrap().to_owned(), id.clone().pop());
        let order: Vec<(String, Option<char>)> = ids.iter().map(of).collect();
        let expected = [("db", '1'), ("web", '1'), ("db", '2'), ("web", '2')];
        assert_eq!(
            order,
            expected.map(|(app, seed)| (app.to_owned(), Some(seed)))
        );
    }

    #[test]
    fn a_name_that_nothing_has_is_refused() {
        let catalogue = catalogue();
        let class = catalogue.trials(&["file.missing".into(), "db".into()], &[1]);
        assert_eq!(class.unwrap().len(), 1);
        let said = catalogue
            .trials(&["nginx".into()], &[1])
            .unwrap_err()
            .to_string();
        assert!(said.contains("nginx") && said.contains("web"), "{said}");
    }

    #[test]
    fn a_fault_that_is_nowhere_is_refused() {
        let mut catalogue = catalogue();
        catalogue.left_out.clear();
        let said = catalogue.trials(&[], &[1]).unwrap_err().to_string();
        assert!(
            said.contains("elsewhere") && said.contains("db/app.toml"),
            "{said}"
        );
    }
}
