//! The shop's processes, its load, and what can be broken about it.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};

use super::faults::Fault;
use crate::lab::{self, Lab, Relay, collector};

/// One cgroup each, under `pod`.
pub(super) const CONTAINERS: [&str; 3] = ["api", "catalog", "redis"];
const PRODUCTS: u32 = 60;
const DISK_BYTES: u64 = 16 * 1024 * 1024;
const SLOW: Duration = Duration::from_millis(400);
const START_LIMIT: Duration = Duration::from_secs(10);
/// The load stops by itself after this, should nobody stop it.
const LOAD_SECONDS: u32 = 24 * 3600;

pub(super) struct Shop<'a> {
    lab: &'a Lab,
    logs: PathBuf,
    redis: Child,
    redis_port: u16,
    catalog: Child,
    api: Child,
    /// Between api and catalog.
    relay: Relay,
    load: Child,
    tally: Arc<Mutex<Tally>>,
    /// Holds `prices.json` and `settings.json`.
    config: PathBuf,
    /// The catalog's disk.
    disk: PathBuf,
    descriptor_limit: u64,
}

impl<'a> Shop<'a> {
    /// Starts everything and waits until it answers.
    pub(super) fn start(
        lab: &'a Lab,
        binaries: &Path,
        logs: &Path,
        rate: u32,
        endpoint: Option<&str>,
    ) -> Result<Self> {
        let config = lab.folder("config")?;
        write_config(&config)?;
        let disk = lab.disk("catalog-disk", DISK_BYTES)?;
        lab.folder("redis")?;
        let redis_port = lab::free_port()?;
        let redis = start_redis(lab, logs, redis_port)?;

        let mut command = Command::new(binaries.join("shop-catalog"));
        command.arg("--listen=127.0.0.1:0").arg("--data").arg(&disk);
        collector(&mut command, endpoint).env("OTEL_SERVICE_NAME", "shop-catalog");
        let (catalog, catalog_address) = start_service(lab, "catalog", &mut command, logs)?;
        let relay = Relay::start(catalog_address)?;

        let mut command = Command::new(binaries.join("shop-api"));
        command
            .arg("--listen=127.0.0.1:0")
            .arg("--config")
            .arg(&config);
        command.arg(format!("--redis=127.0.0.1:{redis_port}"));
        command.arg(format!("--catalog={}", relay.address()));
        collector(&mut command, endpoint).env("OTEL_SERVICE_NAME", "shop-api");
        let (api, api_address) = start_service(lab, "api", &mut command, logs)?;

        let mut command = Command::new(binaries.join("shop-load"));
        command.args([format!("--target={api_address}"), format!("--rate={rate}")]);
        command.arg(format!("--seconds={LOAD_SECONDS}"));
        let (load, stdout) = start_logged(lab, "load", &mut command, &logs.join("load.log"))?;
        let tally = Arc::new(Mutex::new(Tally::default()));
        let counted = Arc::clone(&tally);
        thread::Builder::new()
            .name("load-lines".into())
            .spawn(move || count_requests(stdout, &counted))?;
        Ok(Self {
            lab,
            logs: logs.to_owned(),
            descriptor_limit: lab::descriptor_limit(api.id())?,
            redis,
            redis_port,
            catalog,
            api,
            relay,
            load,
            tally,
            config,
            disk,
        })
    }

    /// Says so when a part ended by itself.
    pub(super) fn check(&mut self) -> Result<()> {
        let api = ("api", &mut self.api);
        let catalog = ("catalog", &mut self.catalog);
        let others = [("redis", &mut self.redis), ("load", &mut self.load)];
        for (name, process) in [api, catalog].into_iter().chain(others) {
            if let Some(status) = process.try_wait()? {
                bail!("{name} ended by itself: {status}");
            }
        }
        Ok(())
    }

    /// What became of the requests since the last call.
    pub(super) fn take_tally(&self) -> Tally {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *tally)
    }

    pub(super) fn inject(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::RedisStopped => {
                lab::send_signal(&self.redis, Signal::SIGTERM)?;
                self.redis.wait()?;
            }
            Fault::RedisFrozen => lab::send_signal(&self.redis, Signal::SIGSTOP)?,
            Fault::DiskFull => lab::fill_disk(&self.filler())?,
            Fault::PriceListMoved => fs::rename(self.prices(), self.moved_prices())?,
            Fault::DescriptorsExhausted => {
                let open = lab::lowest_free_descriptor(self.api.id())?;
                lab::set_descriptor_limit(self.api.id(), open)?;
            }
            Fault::CatalogSlow => self.relay.set_delay(SLOW),
            Fault::KeepAliveOff => write_settings(&self.config, false)?,
            Fault::PriceListFolder => {
                fs::rename(self.prices(), self.moved_prices())?;
                fs::create_dir(self.prices())?;
            }
        }
        Ok(())
    }

    pub(super) fn restore(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::RedisStopped => self.redis = start_redis(self.lab, &self.logs, self.redis_port)?,
            Fault::RedisFrozen => lab::send_signal(&self.redis, Signal::SIGCONT)?,
            Fault::DiskFull => fs::remove_file(self.filler())?,
            Fault::PriceListMoved => fs::rename(self.moved_prices(), self.prices())?,
            Fault::DescriptorsExhausted => {
                lab::set_descriptor_limit(self.api.id(), self.descriptor_limit)?;
            }
            Fault::CatalogSlow => self.relay.set_delay(Duration::ZERO),
            Fault::KeepAliveOff => write_settings(&self.config, true)?,
            Fault::PriceListFolder => {
                fs::remove_dir(self.prices())?;
                fs::rename(self.moved_prices(), self.prices())?;
            }
        }
        Ok(())
    }

    /// What a person can break, and how.
    pub(super) fn by_hand(&self) -> String {
        let (api, catalog, redis) = (self.api.id(), self.catalog.id(), self.redis.id());
        let (disk, prices) = (self.disk.display(), self.prices());
        let prices = prices.display();
        format!(
            "running until Ctrl-C; break something in another terminal:\n  \
             kill -STOP {redis}   # freeze redis; -CONT thaws it; the api is {api}, the catalog {catalog}\n  \
             redis-cli -p {0} shutdown nosave   # stop redis; redis-server --port {0} is another\n  \
             head -c 20M /dev/zero >{disk}/filler   # fill the catalog's disk; rm {disk}/filler\n  \
             mv {prices} {prices}.away   # take the price list away\n  \
             prlimit --pid {api} --nofile=8:   # no more descriptors; then --nofile={1}:",
            self.redis_port, self.descriptor_limit
        )
    }

    fn filler(&self) -> PathBuf {
        self.disk.join("filler")
    }

    fn prices(&self) -> PathBuf {
        self.config.join("prices.json")
    }

    fn moved_prices(&self) -> PathBuf {
        self.config.join("prices.json.away")
    }
}

/// Requests answered below 500, and others, late ones included.
#[derive(Debug, Default)]
pub(super) struct Tally {
    ok: u64,
    failed: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} requests ok, {} failed", self.ok, self.failed)
    }
}

fn count_requests(lines: BufReader<ChildStdout>, tally: &Mutex<Tally>) {
    for line in lines.lines().map_while(Result::ok) {
        let second: Value = serde_json::from_str(&line).unwrap_or_default();
        let count = |key: &str| second[key].as_u64().unwrap_or_default();
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.ok += count("ok");
        tally.failed += count("failed") + count("late");
    }
}

fn write_config(config: &Path) -> Result<()> {
    let price = |id: u32| (id.to_string(), json!(f64::from(100 + 75 * id) / 100.0));
    let prices: Map<String, Value> = (1..=PRODUCTS).map(price).collect();
    fs::write(config.join("prices.json"), Value::from(prices).to_string())?;
    write_settings(config, true)
}

/// In place of the old file at once, as an editor does: the api never reads half of it.
fn write_settings(config: &Path, keep_alive: bool) -> Result<()> {
    let settings = json!({ "keep_alive": keep_alive, "cache_seconds": 5 });
    let new = config.join("settings.json.new");
    fs::write(&new, settings.to_string())?;
    fs::rename(&new, config.join("settings.json"))?;
    Ok(())
}

fn start_redis(lab: &Lab, logs: &Path, port: u16) -> Result<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.args(["--port", &port.to_string()]);
    command.stdin(Stdio::null());
    command.stdout(
        File::options()
            .create(true)
            .append(true)
            .open(logs.join("redis.log"))?,
    );
    let mut redis = lab.spawn("pod/redis", &mut command)?;
    let listens = lab::wait_for_listener(port, START_LIMIT, || match redis.try_wait()? {
        Some(status) => bail!("it ended: {status}"),
        None => Ok(()),
    });
    listens.context("redis-server")?;
    Ok(redis)
}

/// Starts a service and reads where it listens from its first line.
fn start_service(
    lab: &Lab,
    name: &str,
    command: &mut Command,
    logs: &Path,
) -> Result<(Child, SocketAddr)> {
    let log = logs.join(format!("{name}.log"));
    let (process, mut stdout) = start_logged(lab, &format!("pod/{name}"), command, &log)?;
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    let address = line
        .split_whitespace()
        .last()
        .and_then(|word| word.parse().ok());
    let address = address
        .with_context(|| format!("{name} did not say where it listens; see {}", log.display()))?;
    Ok((process, address))
}

fn start_logged(
    lab: &Lab,
    group: &str,
    command: &mut Command,
    log: &Path,
) -> Result<(Child, BufReader<ChildStdout>)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(File::create(log).with_context(|| log.display().to_string())?);
    let mut process = lab.spawn(group, command)?;
    let stdout = process.stdout.take().context("no standard output")?;
    Ok((process, BufReader::new(stdout)))
}
