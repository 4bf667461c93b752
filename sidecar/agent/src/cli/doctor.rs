//! `stethos doctor`: what works here, what does not, and why.

use std::{io, process::ExitCode};

use super::args::DoctorArgs;
use crate::{
    capture::{NodeSocket, PROGRAMS, broker::DEFAULT_SOCKET},
    config::Config,
    doctor::{self, Export, Setup},
    export::ExportConfig,
    plugin::GENERIC_COMPONENT,
};

pub(super) fn run(config: &Config, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let setup = Setup {
        state_dir: config.state_dir.clone(),
        export: export(config),
        node_socket: match config.capture.node() {
            NodeSocket::Own => None,
            NodeSocket::Auto => Some(DEFAULT_SOCKET.into()),
            NodeSocket::At(path) => Some(path),
        },
        kernel_programs: PROGRAMS.len(),
        generic_plugin: GENERIC_COMPONENT.len(),
    };
    Ok(ExitCode::from(doctor::run(
        &setup,
        args.json,
        &mut io::stdout(),
    )?))
}

fn export(config: &Config) -> Export {
    if !config.export.otlp {
        return Export::Off("export.otlp".to_owned());
    }
    match ExportConfig::from_environment() {
        Err(error) => Export::Unclear(error.to_string()),
        Ok(export) => {
            let endpoints = [("logs", export.logs), ("traces", export.traces)];
            let found: Vec<_> = endpoints
                .into_iter()
                .filter_map(|(signal, endpoint)| Some((signal.to_owned(), endpoint?.url)))
                .collect();
            match found.is_empty() {
                true => Export::Off("OTEL_SDK_DISABLED or OTEL_*_EXPORTER".to_owned()),
                false => Export::To(found),
            }
        }
    }
}
