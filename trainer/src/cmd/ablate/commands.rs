//! The commands that an ablation is made of: in this process, or, where they train on several ranks, each in one of its own,
//! because `--ranks` starts the program again as it was called.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cmd::forwarded::ForwardedSignals;
use crate::cmd::{Cli, DONE, FAILED, usage};
use crate::distributed::{Launch, Place};

/// Time between looks at a command and at what has arrived for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How commands are run.
#[derive(Debug)]
pub(super) struct Commands {
    quiet: bool,
    ranks: Option<u32>,
    /// Set where commands have processes of their own.
    processes: Option<Processes>,
}

impl Commands {
    /// For training on `ranks` ranks, as `--ranks` has it.
    ///
    /// # Errors
    /// Where this process is itself one of several ranks.
    pub(super) fn new(quiet: bool, ranks: Option<u32>) -> anyhow::Result<Self> {
        let processes = match Launch::detect(ranks)? {
            Launch::Alone => None,
            Launch::Spawn(_) => Some(Processes(ForwardedSignals::listen().context("listening for signals")?)),
            Launch::Rank(Place { rank, ranks, .. }) => bail!(usage(format!(
                "ablate: expected one process, found rank {rank} of {ranks} that a launcher has started, each of which would write \
                 the same files; start it once, without the launcher, and --ranks N starts the ranks of its runs"
            ))),
        };
        Ok(Self { quiet, ranks, processes })
    }

    /// Runs `pretrain` or `finetune`; the exit code.
    pub(super) fn train(&self, mut words: Vec<String>, out: &mut dyn Write) -> anyhow::Result<u8> {
        if let Some(ranks) = self.ranks {
            words.extend(["--ranks".to_owned(), ranks.to_string()]);
        }
        self.run(words, true, out)
    }

    /// Runs `evaluate`, which leaves its report in the folder of the run.
    pub(super) fn evaluate(&self, words: Vec<String>, out: &mut dyn Write) -> anyhow::Result<()> {
        let line = words.join(" ");
        match self.run(words, false, out)? {
            DONE => Ok(()),
            code => bail!("{line}: it ended with exit code {code}"),
        }
    }

    fn run(&self, mut words: Vec<String>, saves: bool, out: &mut dyn Write) -> anyhow::Result<u8> {
        if self.quiet {
            words.push("--quiet".to_owned());
        }
        if let Some(processes) = &self.processes {
            out.flush()?;
            return processes.run(&words, saves);
        }
        let line = std::iter::once("jmp-train").chain(words.iter().map(String::as_str));
        Cli::try_parse_from(line)?.execute(out).with_context(|| words.join(" "))
    }
}

/// Processes of this program, one after the other, which get the signals that this one gets.
#[derive(Debug)]
struct Processes(ForwardedSignals);

impl Processes {
    /// Runs `jmp-train WORDS` to its end; the exit code. `saves` says that it knows what SIGUSR1 means.
    fn run(&self, words: &[String], saves: bool) -> anyhow::Result<u8> {
        if self.0.next() == Some(Signal::SIGTERM) {
            // It came between two of them.
            return Ok(FAILED);
        }
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        // A Ctrl-C goes to this process alone, which passes it on once.
        command.args(words).stdin(Stdio::null()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("starting {}", words.join(" ")))?;
        let id = Pid::from_raw(child.id() as i32);
        let mut stopped = false;
        loop {
            if let Some(status) = child.try_wait().context("waiting for a command")? {
                stopped |= self.0.next() == Some(Signal::SIGTERM);
                // One that was killed has no code; one that was at its end when it was asked to stop is none to go on after.
                return Ok(match status.code() {
                    Some(0) if !stopped => DONE,
                    Some(0) | None => FAILED,
                    Some(code) => code as u8,
                });
            }
            if let Some(signal) = self.0.next().filter(|signal| saves || *signal == Signal::SIGTERM) {
                stopped |= signal == Signal::SIGTERM;
                // One that has just ended needs none.
                let _ = kill(id, signal);
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}
