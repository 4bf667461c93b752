//! `stethos accept` and `stethos mute`: what an operator says to the running sidecar.

use std::io::{self, Write as _};

use anyhow::bail;

use super::args::{AcceptArgs, MuteArgs};
use crate::{
    config::Config,
    control::{self, Answer, Request},
};

pub(super) fn accept(config: &Config, args: &AcceptArgs) -> anyhow::Result<()> {
    ask(
        config,
        &Request::Accept {
            id: args.id.clone(),
        },
    )
}

pub(super) fn mute(config: &Config, args: &MuteArgs) -> anyhow::Result<()> {
    let request = Request::Mute {
        id: args.id.clone(),
        seconds: args.lasts.as_secs(),
    };
    ask(config, &request)
}

fn ask(config: &Config, request: &Request) -> anyhow::Result<()> {
    match control::ask(&config.state_dir, request)? {
        Answer::Done(sentence) => {
            writeln!(io::stdout(), "{sentence}")?;
            Ok(())
        }
        Answer::Refused(reason) => bail!("{reason}"),
    }
}
