//! Several ranks on this machine, started and watched by one parent that does not train.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::DistributedError;
use super::ffi;
use super::link::Failures;

/// Time between looks at the ranks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long the others have for ending by themselves after one failed; longer than they give themselves.
const GRACE: Duration = Duration::from_secs(20);
/// The same for one that writes a checkpoint.
const WRITING_GRACE: Duration = Duration::from_secs(130);
/// The same after a second signal.
const SHORT_GRACE: Duration = Duration::from_secs(5);

/// Ranks that run.
#[derive(Debug)]
pub struct Spawn {
    ranks: Vec<Rank>,
    failures: Failures,
}

#[derive(Debug)]
struct Rank {
    child: Child,
    errors: Option<JoinHandle<()>>,
    ended: Option<ExitStatus>,
}

/// What the ranks came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// 0 if every rank ended well, the exit code of the first that failed otherwise.
    pub code: u8,
    /// Which rank failed first and how, if one did.
    pub failure: Option<String>,
}

impl Spawn {
    /// Starts `ranks` processes of this program with this program's arguments.
    pub fn start(ranks: u32) -> anyhow::Result<Self> {
        let socket = TcpListener::bind("127.0.0.1:0").context("a port of this machine for its ranks")?;
        let port = socket.local_addr().context("a port of this machine for its ranks")?.port();
        ffi::serve_store(socket).map_err(anyhow::Error::msg).context("the store of the ranks")?;
        let failures =
            Failures::connect(port).map_err(anyhow::Error::msg).context("the store of the ranks")?;
        let mut started = Self { ranks: Vec::new(), failures };
        for rank in 0..ranks {
            match start_rank(rank, ranks, port) {
                Ok(rank) => started.ranks.push(rank),
                Err(error) => {
                    started.signal(Signal::SIGKILL);
                    return Err(error.into());
                }
            }
        }
        Ok(started)
    }

    /// Waits for all ranks. What `arrived` gives is passed on to them; when one rank fails, the others are ended in bounded time.
    pub fn wait(mut self, arrived: impl Fn() -> Option<Signal>) -> anyhow::Result<Outcome> {
        let mut stops = 0;
        let (mut hurried, mut first): (Option<Instant>, Option<(usize, Instant)>) = (None, None);
        while self.ranks.iter().any(|rank| rank.ended.is_none()) {
            thread::sleep(LOOK_INTERVAL);
            if let Some(signal) = arrived() {
                self.signal(signal);
                stops += u32::from(signal == Signal::SIGTERM);
                if stops > 1 {
                    hurried = Some(Instant::now());
                }
            }
            if let Some(failed) = self.look()?
                && first.is_none()
            {
                first = Some((failed, Instant::now()));
            }
            if hurried.is_some_and(|since| since.elapsed() > SHORT_GRACE)
                || first.is_some_and(|(_, since)| self.is_over(since.elapsed()))
            {
                self.signal(Signal::SIGKILL);
            }
        }
        for rank in &mut self.ranks {
            if let Some(errors) = rank.errors.take() {
                // A thread that only copies lines has nothing to say when it ends.
                drop(errors.join());
            }
        }
        Ok(self.outcome(first.map(|(rank, _)| rank), stops > 0))
    }

    /// Whether those that still run so long after one failed are to be ended.
    fn is_over(&self, since_failure: Duration) -> bool {
        let writes = |(rank, state): (u32, &Rank)| state.ended.is_none() && self.failures.is_writing(rank);
        let is_writing = || (0..).zip(&self.ranks).any(writes);
        since_failure > WRITING_GRACE || (since_failure > GRACE && !is_writing())
    }

    /// Notes which ranks have ended; the first of them that did not end well, killed ones before others.
    fn look(&mut self) -> anyhow::Result<Option<usize>> {
        let mut failed: Vec<usize> = Vec::new();
        for (index, rank) in self.ranks.iter_mut().enumerate().filter(|(_, rank)| rank.ended.is_none()) {
            rank.ended = rank.child.try_wait().with_context(|| format!("waiting for rank {index}"))?;
            if rank.ended.is_some_and(|status| !status.success()) {
                failed.push(index);
            }
        }
        let is_killed = |index: &&usize| self.ranks[**index].ended.is_some_and(|s| s.signal().is_some());
        Ok(failed.iter().find(is_killed).or(failed.first()).copied())
    }

    fn outcome(&self, first: Option<usize>, was_signalled: bool) -> Outcome {
        let Some(first) = first else { return Outcome { code: 0, failure: None } };
        let status = self.ranks[first].ended.unwrap_or_default();
        if let Some(signal) = status.signal() {
            let name = Signal::try_from(signal).map_or_else(|_| signal.to_string(), |s| s.to_string());
            return Outcome { code: 1, failure: Some(format!("rank {first} was killed by signal {name}")) };
        }
        let code = |rank: usize| self.ranks.get(rank)?.ended?.code().map(|code| code as u8);
        match self.failures.first() {
            Some((rank, message)) => Outcome {
                code: rank.parse().ok().and_then(code).filter(|code| *code != 0).unwrap_or(1),
                failure: Some(format!("rank {rank} failed: {message}")),
            },
            // Asked to stop, every rank stops with a checkpoint and code 1.
            None if was_signalled => Outcome { code: 1, failure: None },
            None => {
                let code = code(first).unwrap_or(1);
                Outcome { code, failure: Some(format!("rank {first} ended with exit code {code}")) }
            }
        }
    }

    fn signal(&self, signal: Signal) {
        for rank in self.ranks.iter().filter(|rank| rank.ended.is_none()) {
            // One that has just ended needs none.
            let _ = kill(Pid::from_raw(rank.child.id() as i32), signal);
        }
    }
}

/// Rank 0 speaks for all; what others write to standard error is marked with their number.
fn start_rank(rank: u32, ranks: u32, port: u16) -> Result<Rank, DistributedError> {
    let failed = |source| DistributedError::Process { action: format!("cannot start rank {rank}"), source };
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).stdin(Stdio::null());
    for (name, value) in
        [("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", ranks), ("LOCAL_WORLD_SIZE", ranks)]
    {
        command.env(name, value.to_string());
    }
    command.env("MASTER_ADDR", "127.0.0.1").env("MASTER_PORT", port.to_string());
    // The store is the parent's, so that it outlives every rank.
    command.env("TORCHELASTIC_USE_AGENT_STORE", "True").env("TORCHELASTIC_RESTART_COUNT", "0");
    // A Ctrl-C goes to the parent alone, which passes it on once.
    command.process_group(0);
    if rank > 0 {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
    }
    let mut child = command.spawn().map_err(failed)?;
    let errors = child.stderr.take().map(|errors| {
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                // Nobody is left to tell a closed standard error.
                drop(writeln!(std::io::stderr(), "[rank {rank}] {line}"));
            }
        })
    });
    Ok(Rank { child, errors, ended: None })
}
