//! The shop's catalog. Flags and variables: `shop-catalog --help`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use stethos_shop::catalog::Catalog;
use stethos_shop::{http, init_logs, listen, telemetry};

/// The shop's catalog: items and orders, in files.
#[derive(Parser)]
struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, env = "SHOP_LISTEN", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Folder for items and orders; an empty one is stocked.
    #[arg(long, env = "SHOP_DATA")]
    data: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    init_logs();
    telemetry::init("shop-catalog")?;
    let catalog = Catalog::open(&options.data)?;
    let listener = listen("shop-catalog", options.listen)?;
    http::serve(&listener, move |request| catalog.handle(request));
    Ok(())
}
