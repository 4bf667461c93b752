//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::capture::targets::Target;
use crate::config::{Flag, LogLevel};
use crate::import::{Arch, Format};

/// Watches the system calls of the containers beside it, learns what they normally do, and says
/// what broke when they stop doing it.
#[derive(Debug, Parser)]
#[command(name = "stethos", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Default, Args)]
pub struct CommonArgs {
    /// Configuration file (YAML); otherwise the one that STETHOS_CONFIG names
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Least severe messages on standard error [default: log.level of the configuration]
    #[arg(long, global = true, value_enum, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch, learn and diagnose: the sidecar
    Run(RunArgs),
    /// Capture for the sidecars of this node: the broker
    Node(NodeArgs),
    /// Say what works here, what does not, and why; exit with 0 (all), 1 (degraded) or 2 (cannot
    /// capture)
    Doctor(DoctorArgs),
    /// Write what capture sees to a recording
    Record(RecordArgs),
    /// Print the diagnoses that a recording gives
    Replay(ReplayArgs),
    /// Make a recording from what other tools recorded: strace, LID-DS, plain call numbers
    Import(ImportArgs),
    /// Say that an incident is normal: the running sidecar closes it, and opens none for the same again
    Accept(AcceptArgs),
    /// Say nothing about an incident, nor about others of the same cause, for a while
    Mute(MuteArgs),
    /// Make a model bundle from recordings
    Train(TrainArgs),
    /// Say how strange each sequence of a recording is to a bundle; higher is stranger
    Score(ScoreArgs),
    /// Work with plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Work with the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Clone, Debug, Default, Args)]
pub struct TargetArgs {
    /// What to watch: self-pod, cgroup=PATH or pid=N; may be given several times
    #[arg(long = "target", value_name = "TARGET")]
    pub targets: Vec<Target>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Directory of learned models and of diagnoses that wait for the collector
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Print every diagnosis as a line of JSON on standard output, too
    #[arg(long)]
    pub json: bool,
    /// Write everything that is captured to a recording, too
    #[arg(long, value_name = "RECORDING")]
    pub record: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct NodeArgs {
    /// Where sidecars connect [default: node.socket of the configuration]
    #[arg(long, value_name = "SOCKET")]
    pub socket: Option<PathBuf>,
    /// Directory with one socket per pod: for every file NAME.cgroup, listen at NAME/node.sock
    #[arg(long, value_name = "DIR")]
    pub socket_dir: Option<PathBuf>,
    /// Let sidecars watch any cgroup and process, not only those of their own pod: for labs
    #[arg(long)]
    pub allow_any_target: bool,
    /// Detach and remove what brokers left pinned, and end
    #[arg(long)]
    pub unload: bool,
}

#[derive(Clone, Debug, Default, Args)]
pub struct DoctorArgs {
    /// The directory that `run` would be given
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// Recording to write
    #[arg(short, long, value_name = "RECORDING")]
    pub output: PathBuf,
    #[command(flatten)]
    pub target: TargetArgs,
    /// Stop after this time (30s, 10m); otherwise at an interrupt
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
}

#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    #[arg(required = true, value_name = "RECORDING")]
    pub recordings: Vec<PathBuf>,
    /// Model bundle of a container; may be given several times
    #[arg(long = "bundle", value_name = "BUNDLE")]
    pub bundles: Vec<PathBuf>,
    /// Print one JSON object a diagnosis
    #[arg(long)]
    pub json: bool,
    /// With --json: print also one for every affected call, with what is known of its trace
    #[arg(long, requires = "json")]
    pub calls: bool,
}

#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// Text to read; several make one recording
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Recording to write
    #[arg(short, long, value_name = "RECORDING")]
    pub output: PathBuf,
    /// What the inputs are [default: guessed from the first]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// What call numbers mean [default: i386 for numbers, otherwise x86_64]
    #[arg(long, value_enum, value_name = "ARCH")]
    pub arch: Option<Arch>,
    /// What the container is called; recordings that are learned from together have the same
    #[arg(long, value_name = "NAME", default_value = "imported")]
    pub container: String,
}

#[derive(Clone, Debug, Args)]
pub struct AcceptArgs {
    /// Id of the incident, or its beginning
    #[arg(value_name = "ID")]
    pub id: String,
    /// The sidecar's state directory [default: state_dir of the configuration]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct MuteArgs {
    /// Id of the incident, or its beginning
    #[arg(value_name = "ID")]
    pub id: String,
    /// How long (30m, 2h), at most a week
    #[arg(long = "for", value_name = "TIME", value_parser = mute_time)]
    pub lasts: Duration,
    /// The sidecar's state directory [default: state_dir of the configuration]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct TrainArgs {
    #[arg(required = true, value_name = "RECORDING")]
    pub recordings: Vec<PathBuf>,
    /// Model bundle to write; `-` is standard output
    #[arg(short, long, value_name = "BUNDLE")]
    pub output: PathBuf,
    /// The container to learn, where recordings hold several
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// Share of calls in contexts not seen before, when the learner knows it; otherwise it is
    /// worked out from the recordings
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub unseen_mass: Option<f64>,
    /// Learning was cut short: give the bundle widened thresholds
    #[arg(long)]
    pub widened: bool,
    /// A time of which nothing is learned, in ns of the recordings' clock; may be given several
    /// times
    #[arg(long = "leave-out", value_name = "FROM..TO", value_parser = span)]
    pub left_out: Vec<(u64, u64)>,
    /// Stop improving the models after this time (60s)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub time_limit: Option<Duration>,
    /// Seed of everything random; the same input and seed give the same bundle
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Clone, Debug, Args)]
pub struct ScoreArgs {
    #[arg(long, value_name = "BUNDLE")]
    pub bundle: PathBuf,
    #[arg(required = true, value_name = "RECORDING")]
    pub recordings: Vec<PathBuf>,
    /// Print one JSON object a sequence
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub enum PluginCommand {
    /// Compile a component (the built-in ones without FILE), as `run` does when it first meets it
    Compile {
        #[arg(value_name = "COMPONENT")]
        file: Option<PathBuf>,
        /// The folder that keeps compiled components
        #[arg(long, value_name = "DIR")]
        into: PathBuf,
    },
    /// Say how well every plugin's application type fits what a container does in recordings
    Fit {
        #[arg(required = true, value_name = "RECORDING")]
        recordings: Vec<PathBuf>,
        /// The container, where recordings hold several
        #[arg(long, value_name = "NAME")]
        container: Option<String>,
        /// A component that is asked beside the built-in ones; may be given several times
        #[arg(long = "plugin", value_name = "COMPONENT")]
        plugins: Vec<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show contract version, name and type of a component
    Inspect {
        #[arg(value_name = "COMPONENT")]
        file: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the reference file: every key with its default
    Reference,
    /// Read configuration file and variables as `run` would, and say everything that is wrong
    Check,
}

impl Cli {
    /// The values that the command line puts over the configuration.
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        let mut set = |name, key, words: Vec<String>| flags.push(Flag { name, key, words });
        if let Some(level) = self.common.log_level {
            set("--log-level", "log.level", vec![level.name().to_string()]);
        }
        let (targets, state_dir, json) = match &self.command {
            Command::Run(args) => (&args.target.targets[..], &args.state_dir, args.json),
            Command::Record(args) => (&args.target.targets[..], &None, false),
            Command::Doctor(args) => (&[][..], &args.state_dir, false),
            Command::Accept(args) => (&[][..], &args.state_dir, false),
            Command::Mute(args) => (&[][..], &args.state_dir, false),
            _ => (&[][..], &None, false),
        };
        if !targets.is_empty() {
            set(
                "--target",
                "target",
                targets.iter().map(Target::to_string).collect(),
            );
        }
        if let Some(path) = state_dir {
            set("--state-dir", "state_dir", vec![path.display().to_string()]);
        }
        if let Command::Node(args) = &self.command {
            let paths = [
                ("--socket", "node.socket", &args.socket),
                ("--socket-dir", "node.socket_dir", &args.socket_dir),
            ];
            for (name, key, path) in paths {
                if let Some(path) = path {
                    set(name, key, vec![path.display().to_string()]);
                }
            }
        }
        if json {
            set("--json", "json", vec!["true".to_string()]);
        }
        flags
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = humantime_serde::re::humantime::parse_duration(text);
    parsed.map_err(|error| error.to_string())
}

fn mute_time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    let allowed = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
    match allowed.contains(&time) {
        true => Ok(time),
        false => Err("allowed is 1s to 7days".to_string()),
    }
}

fn span(text: &str) -> Result<(u64, u64), String> {
    let span = text.split_once("..");
    let span = span.and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    span.filter(|(from, to)| from <= to)
        .ok_or_else(|| "not FROM..TO in ns".to_string())
}

fn share(text: &str) -> Result<f64, String> {
    let parsed = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    parsed.ok_or_else(|| "not a number from 0 to 1".to_string())
}

#[cfg(test)]
mod tests;
