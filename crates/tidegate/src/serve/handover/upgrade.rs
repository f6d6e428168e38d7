//! SIGUSR2: this process starts the program that lies where its own did, and that one takes over.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::process::Command;

pub(in super::super) struct Upgrade {
    /// Found before anybody replaced it.
    program: PathBuf,
    running: Arc<AtomicBool>,
}

impl Upgrade {
    pub(in super::super) fn new() -> Self {
        let program = std::env::current_exe().unwrap_or_else(|_| std::env::args_os().next().unwrap_or_default().into());
        Self { program, running: Arc::default() }
    }

    /// With the arguments and the environment of this process. Its end is told only if it comes before it took over: after
    /// that this process ends first.
    pub(in super::super) fn start(&self) {
        if self.running.swap(true, Ordering::AcqRel) {
            return tracing::warn!("another program is starting to take over already");
        }
        let mut command = Command::new(&self.program);
        let beside = ["--take-over", "--exit-with-parent"];
        command.args(std::env::args_os().skip(1).filter(|word| beside.iter().all(|it| word != it)));
        command.arg("--take-over");
        let program = self.program.display().to_string();
        match command.spawn() {
            Ok(mut child) => {
                tracing::info!(pid = child.id(), %program, "started to take over");
                let running = Arc::clone(&self.running);
                tokio::spawn(async move {
                    let ended = child.wait().await;
                    running.store(false, Ordering::Release);
                    let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                    tracing::error!(%program, %how, "the program that was to take over has ended");
                });
            }
            Err(error) => {
                self.running.store(false, Ordering::Release);
                tracing::error!(%error, %program, "the program that was to take over cannot be started");
            }
        }
    }
}
