//! The shop's api. Flags and variables: `shop-api --help`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use stethos_shop::api::Api;
use stethos_shop::{http, init_logs, listen, telemetry};

/// The shop's api: products and orders, with a cache in redis and a catalog behind it.
#[derive(Parser)]
struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, env = "SHOP_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    #[arg(long, env = "SHOP_REDIS", default_value = "127.0.0.1:6379")]
    redis: SocketAddr,
    #[arg(long, env = "SHOP_CATALOG", default_value = "127.0.0.1:8081")]
    catalog: SocketAddr,
    /// Folder with `prices.json` and `settings.json`.
    #[arg(long, env = "SHOP_CONFIG")]
    config: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    init_logs();
    telemetry::init("shop-api")?;
    let api = Api::new(options.config, options.redis, options.catalog)?;
    let listener = listen("shop-api", options.listen)?;
    http::serve(&listener, move |request| api.handle(request));
    Ok(())
}
