//! The shop, its redis-server and clients, in cgroups of their own.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    cgroup::Cgroup,
    collector::Collector,
    programs::binary,
    sidecar::Running,
    skip::{Need, kernel_or_skip, skip},
};

/// A collector for a test of the shop that is captured; otherwise says why `test` is skipped.
pub fn collector_or_skip(test: &str) -> Option<Collector> {
    if !kernel_or_skip(test) {
        return None;
    }
    let has_redis = Command::new("redis-server").arg("--version").output();
    if has_redis.is_err() {
        skip(Need::Tool, test, "no redis-server");
        return None;
    }
    let collector = Collector::start();
    if collector.is_none() {
        skip(Need::Tool, test, "no collector: STETHOS_ROTEL is not set");
    }
    collector
}

/// One that was free a moment ago. It is none of those that the kernel gives to connections: a client that
/// tries to connect before somebody listens there could be given it, and connect to itself.
pub fn free_port() -> io::Result<u16> {
    const PORTS: std::ops::Range<u16> = 10_000..32_000;
    const TRIES: usize = 100;
    let tries = (0..TRIES).map(|_| fastrand::u16(PORTS));
    let mut free = tries.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next()
        .ok_or_else(|| io::Error::other("no port is free"))
}

/// Starts a service of the shop; gives the address that it prints.
fn service(cgroup: &Cgroup, command: &mut Command, log: &Path) -> io::Result<(Running, String)> {
    let mut running = Running::start(cgroup, command.stdout(Stdio::piped()), log)?;
    let mut line = String::new();
    let output = running.0.stdout.take();
    let mut output = BufReader::new(output.ok_or(io::ErrorKind::BrokenPipe)?);
    output.read_line(&mut line)?;
    let address = line
        .split_whitespace()
        .last()
        .unwrap_or_default()
        .to_owned();
    if !address.contains(':') {
        return Err(io::Error::other(format!("no address: {line:?}")));
    }
    // What the service prints from now on goes nowhere, but the pipe stays open.
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    Ok((running, address))
}

pub struct Shop {
    pub redis: Running,
    pub redis_port: u16,
    pub catalog: Running,
    pub api_address: String,
    _api: Running,
    _load: Running,
}

/// A redis-server that answers.
pub fn redis(pod: &Cgroup, folder: &Path, port: u16) -> io::Result<Running> {
    let mut command = Command::new("redis-server");
    command
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
        ])
        .arg(folder)
        .stdout(Stdio::null());
    let running = Running::start(
        &pod.child("redis")?,
        &mut command,
        &folder.join("redis.log"),
    )?;
    let until = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() >= until {
            return Err(io::Error::other("redis does not answer"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(running)
}

/// Starts all of it; its spans go to `endpoint`.
pub fn shop(pod: &Cgroup, outside: &Cgroup, folder: &Path, endpoint: &str) -> io::Result<Shop> {
    shop_with(pod, outside, folder, endpoint, |_| {})
}

/// The same, with more settings of its api.
pub fn shop_with(
    pod: &Cgroup,
    outside: &Cgroup,
    folder: &Path,
    endpoint: &str,
    set: impl FnOnce(&mut Command),
) -> io::Result<Shop> {
    let config = folder.join("config");
    let data = folder.join("data");
    fs::create_dir_all(&config)?;
    fs::create_dir_all(&data)?;
    let prices: BTreeMap<String, f64> = (1..=60)
        .map(|id| (id.to_string(), f64::from(id) / 2.0))
        .collect();
    fs::write(config.join("prices.json"), serde_json::to_string(&prices)?)?;
    fs::write(
        config.join("settings.json"),
        r#"{"keep_alive": true, "cache_seconds": 5}"#,
    )?;
    let redis_port = free_port()?;
    let redis = redis(pod, folder, redis_port)?;
    let traced = |command: &mut Command, name: &str| {
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .env("OTEL_SERVICE_NAME", name);
        command.env("OTEL_BSP_SCHEDULE_DELAY", "200");
    };
    let mut command = Command::new(binary("shop-catalog"));
    command.arg("--listen=127.0.0.1:0").arg("--data").arg(&data);
    traced(&mut command, "shop-catalog");
    let (catalog, catalog_address) = service(
        &pod.child("catalog")?,
        &mut command,
        &folder.join("catalog.log"),
    )?;
    let mut command = Command::new(binary("shop-api"));
    command
        .arg("--listen=127.0.0.1:0")
        .arg("--config")
        .arg(&config);
    command.arg(format!("--redis=127.0.0.1:{redis_port}"));
    command.arg(format!("--catalog={catalog_address}"));
    traced(&mut command, "shop-api");
    set(&mut command);
    let (api, api_address) = service(&pod.child("api")?, &mut command, &folder.join("api.log"))?;
    let mut command = Command::new(binary("shop-load"));
    command
        .arg(format!("--target={api_address}"))
        .args(["--rate=60", "--seconds=1200"]);
    command.stdout(Stdio::null());
    let load = Running::start(outside, &mut command, &folder.join("load.log"))?;
    Ok(Shop {
        redis,
        redis_port,
        catalog,
        api_address,
        _api: api,
        _load: load,
    })
}
