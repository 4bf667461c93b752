//! What an operator asks the running sidecar for.

use std::time::Duration;

use super::Sidecar;
use crate::{
    control::{Answer, Command, Control, Request},
    pipeline::Outcome,
};

/// What an operator asks for; nothing where nobody can.
pub(super) async fn next(control: &mut Option<Control>) -> Option<Command> {
    match control {
        Some(control) => control.next().await,
        None => std::future::pending().await,
    }
}

impl Sidecar {
    pub(super) async fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        let mut outcome = Outcome::default();
        let result = match &command.request {
            Request::Accept { id } => self.pipeline.accept(id, &mut outcome).await,
            Request::Mute { id, seconds } => self.pipeline.mute(id, Duration::from_secs(*seconds)),
        };
        let answer = match result {
            Ok(sentence) => {
                tracing::info!("an operator: {sentence}");
                Answer::Done(sentence)
            }
            Err(error) => {
                tracing::info!(%error, request = ?command.request, "refused to an operator");
                Answer::Refused(error.to_string())
            }
        };
        // Whoever asked may be gone.
        let _ = command.answer.send(answer);
        self.tell(outcome)
    }
}
