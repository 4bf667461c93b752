//! Load on a server: `load PROTOCOL PORT [SCALE]`, until its standard input ends; then says how many
//! requests were answered.

use std::io::{self, Read as _, Write as _};

use anyhow::Context as _;
use stethos_tests::load::{Load, Protocol};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [protocol, port, scale @ ..] = &arguments[..] else {
        anyhow::bail!("load PROTOCOL PORT [SCALE]");
    };
    let protocol: Protocol = protocol.parse().map_err(anyhow::Error::msg)?;
    let scale = scale.first().map_or(Ok(1.0), |scale| scale.parse());
    let load = Load::start(
        protocol,
        port.parse().context("PORT")?,
        scale.context("SCALE")?,
    );
    io::stdin().read_to_end(&mut Vec::new())?;
    writeln!(io::stdout(), "{}", load.finish())?;
    Ok(())
}
