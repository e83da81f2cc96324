//! Which rank of how many this process is, from what its launcher left in the environment.

use super::error::DistributedError;
use super::nodelist::first_host;

/// How a program is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Launch {
    /// By itself.
    Alone,
    /// As one rank of several.
    Rank(Place),
    /// By starting this many ranks on this machine.
    Spawn(u32),
}

/// One process of a run of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// This rank, from 0.
    pub rank: u32,
    /// All ranks.
    pub ranks: u32,
    /// Its number on its machine, from 0.
    pub local_rank: u32,
    /// Where the ranks meet.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether this rank serves the store there (otherwise rank 0, or the launcher).
    pub serves: bool,
    /// Which attempt of the launcher this is; attempts must not see each other's keys.
    pub attempt: String,
    /// Threads that fit beside the other ranks of this machine; `None` where the launcher has seen to it.
    pub threads: Option<u32>,
}

type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Launch {
    /// Looks at `--ranks` and at the variables of torchrun and srun.
    pub fn detect(ranks: Option<u32>) -> Result<Self, DistributedError> {
        #[allow(clippy::disallowed_methods, reason = "the one place where launchers' variables are read")]
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        Self::from_variables(&read, ranks, cores)
    }

    fn from_variables(read: Variables, ranks: Option<u32>, cores: u32) -> Result<Self, DistributedError> {
        let place = if read("RANK").is_some() && read("WORLD_SIZE").is_some() {
            Some(torchrun(read, cores)?)
        } else if read("SLURM_PROCID").is_some() && is_slurm_task(read, ranks) {
            Some(slurm(read)?)
        } else {
            None
        };
        match (place, ranks) {
            (Some(place), Some(ranks)) if place.ranks != ranks => Err(DistributedError::Launch(format!(
                "--ranks {ranks}: the launcher has started {} ranks; leave --ranks out under torchrun and srun",
                place.ranks
            ))),
            (Some(place), _) if place.ranks > 1 => Ok(Self::Rank(place)),
            (None, Some(ranks)) if ranks > 1 => Ok(Self::Spawn(ranks)),
            _ => Ok(Self::Alone),
        }
    }
}

/// The variables that torchrun sets, and `jmp-train` for the ranks it starts.
fn torchrun(read: Variables, cores: u32) -> Result<Place, DistributedError> {
    let rank = number(read, "RANK", "the number of this rank")?;
    let ranks = number(read, "WORLD_SIZE", "the number of ranks")?;
    let local_rank = optional(read, "LOCAL_RANK", "the number of this rank on its machine")?.unwrap_or(rank);
    let local_ranks = optional(read, "LOCAL_WORLD_SIZE", "ranks of this machine")?.unwrap_or(1).max(1);
    check_rank("RANK", rank, ranks)?;
    let agent = read("TORCHELASTIC_USE_AGENT_STORE").as_deref() == Some("True");
    let threads = read("OMP_NUM_THREADS").is_none().then(|| (cores / local_ranks).max(1));
    let address = "the address of rank 0's machine, as torchrun sets it";
    let host = read("MASTER_ADDR").ok_or_else(|| absent("MASTER_ADDR", address))?;
    let port = port(read)?.ok_or_else(|| absent("MASTER_PORT", "a port of rank 0's machine"))?;
    let attempt = read("TORCHELASTIC_RESTART_COUNT").unwrap_or_else(|| "0".into());
    Ok(Place { rank, ranks, local_rank, host, port, serves: rank == 0 && !agent, attempt, threads })
}

/// The variables that srun sets; MASTER_ADDR and MASTER_PORT win where a script sets them.
fn slurm(read: Variables) -> Result<Place, DistributedError> {
    let rank = number(read, "SLURM_PROCID", "the number of this task")?;
    let ranks = match optional(read, "SLURM_STEP_NUM_TASKS", "the number of tasks")? {
        Some(tasks) => tasks,
        None => number(read, "SLURM_NTASKS", "the number of tasks")?,
    };
    let local_rank = optional(read, "SLURM_LOCALID", "the number of this task on its node")?.unwrap_or(rank);
    check_rank("SLURM_PROCID", rank, ranks)?;
    let nodes = read("SLURM_STEP_NODELIST").or_else(|| read("SLURM_JOB_NODELIST")).unwrap_or_default();
    let host = read("MASTER_ADDR").or_else(|| first_host(&nodes)).ok_or(DistributedError::Variable {
        variable: "SLURM_JOB_NODELIST",
        expected: "host names such as gpu[01-04], or MASTER_ADDR beside it",
        found: format!("\"{nodes}\""),
    })?;
    // Below the ports that systems give away by themselves; jobs of one machine get different ones.
    let job = optional(read, "SLURM_JOB_ID", "the number of the job")?.unwrap_or(0);
    let port = port(read)?.unwrap_or(20_000 + (job % 12_000) as u16);
    let attempt = read("SLURM_RESTART_COUNT").unwrap_or_else(|| "0".into());
    let threads = match read("OMP_NUM_THREADS") {
        Some(_) => None,
        None => optional(read, "SLURM_CPUS_PER_TASK", "processors of a task")?,
    };
    Ok(Place { rank, ranks, local_rank, host, port, serves: rank == 0, attempt, threads })
}

/// Whether srun started this process. In a batch script itself, which looks like task 0, `--ranks` says otherwise.
fn is_slurm_task(read: Variables, ranks: Option<u32>) -> bool {
    read("SLURM_STEP_NUM_TASKS").is_some() || (ranks.is_none() && read("SLURM_NTASKS").is_some())
}

fn check_rank(variable: &'static str, rank: u32, ranks: u32) -> Result<(), DistributedError> {
    if rank < ranks {
        return Ok(());
    }
    let found = format!("{rank} of {ranks}");
    Err(DistributedError::Variable { variable, expected: "a number below the number of ranks", found })
}

fn port(read: Variables) -> Result<Option<u16>, DistributedError> {
    let Some(text) = read("MASTER_PORT") else { return Ok(None) };
    let wrong = |_| DistributedError::Variable {
        variable: "MASTER_PORT",
        expected: "a port from 1 to 65535",
        found: format!("\"{text}\""),
    };
    text.trim().parse().map(Some).map_err(wrong)
}

fn optional(
    read: Variables,
    variable: &'static str,
    expected: &'static str,
) -> Result<Option<u32>, DistributedError> {
    let Some(text) = read(variable) else { return Ok(None) };
    let wrong = |_| DistributedError::Variable { variable, expected, found: format!("\"{text}\"") };
    text.trim().parse().map(Some).map_err(wrong)
}

fn number(read: Variables, variable: &'static str, expected: &'static str) -> Result<u32, DistributedError> {
    optional(read, variable, expected)?.ok_or_else(|| absent(variable, expected))
}

fn absent(variable: &'static str, expected: &'static str) -> DistributedError {
    DistributedError::Variable { variable, expected, found: "nothing".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(variables: &[(&str, &str)], ranks: Option<u32>) -> Result<Launch, String> {
        let read =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Launch::from_variables(&read, ranks, 8).map_err(|e| e.to_string())
    }

    const TORCHRUN: [(&str, &str); 6] = [
        ("RANK", "5"),
        ("WORLD_SIZE", "8"),
        ("LOCAL_RANK", "1"),
        ("LOCAL_WORLD_SIZE", "4"),
        ("MASTER_ADDR", "node7"),
        ("MASTER_PORT", "29400"),
    ];

    #[test]
    fn torchrun_says_everything() {
        let place = Place {
            rank: 5,
            ranks: 8,
            local_rank: 1,
            host: "node7".into(),
            port: 29_400,
            serves: false,
            attempt: "0".into(),
            threads: Some(2),
        };
        assert_eq!(detect(&TORCHRUN, None), Ok(Launch::Rank(place.clone())));
        let mut first = TORCHRUN.to_vec();
        first[0].1 = "0";
        let serves = |launch| matches!(launch, Ok(Launch::Rank(Place { serves: true, .. })));
        assert!(serves(detect(&first, None)));
        let agent = [("TORCHELASTIC_USE_AGENT_STORE", "True"), ("TORCHELASTIC_RESTART_COUNT", "3")];
        first.extend(agent);
        let Ok(Launch::Rank(restarted)) = detect(&first, Some(8)) else { panic!("not a rank") };
        assert_eq!((restarted.serves, restarted.attempt.as_str()), (false, "3"));
        first.push(("OMP_NUM_THREADS", "1"));
        let Ok(Launch::Rank(bound)) = detect(&first, None) else { panic!("not a rank") };
        assert_eq!(bound.threads, None);
    }

    #[test]
    fn srun_says_enough() {
        let mut variables = vec![
            ("SLURM_PROCID", "3"),
            ("SLURM_NTASKS", "4"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_JOB_NODELIST", "gpu[07-08]"),
            ("SLURM_JOB_ID", "123456"),
        ];
        let Ok(Launch::Rank(place)) = detect(&variables, None) else { panic!("not a rank") };
        assert_eq!((place.rank, place.ranks, place.local_rank), (3, 4, 1));
        assert_eq!((place.host.as_str(), place.port), ("gpu07", 20_000 + 3456));
        variables.extend([
            ("MASTER_ADDR", "10.0.0.1"),
            ("MASTER_PORT", "4000"),
            ("SLURM_CPUS_PER_TASK", "6"),
        ]);
        let Ok(Launch::Rank(place)) = detect(&variables, None) else { panic!("not a rank") };
        assert_eq!((place.host.as_str(), place.port, place.threads), ("10.0.0.1", 4000, Some(6)));
        // A batch script on its own node may start its ranks itself.
        assert_eq!(detect(&variables, Some(2)), Ok(Launch::Spawn(2)));
        variables.push(("SLURM_STEP_NUM_TASKS", "4"));
        assert!(
            detect(&variables, Some(2))
                .unwrap_err()
                .starts_with("--ranks 2: the launcher has started 4 ranks")
        );
    }

    #[test]
    fn without_a_launcher_the_command_line_decides() {
        assert_eq!(detect(&[], None), Ok(Launch::Alone));
        assert_eq!(detect(&[], Some(1)), Ok(Launch::Alone));
        assert_eq!(detect(&[], Some(3)), Ok(Launch::Spawn(3)));
        assert_eq!(
            detect(&[("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "x"), ("MASTER_PORT", "1")], None),
            Ok(Launch::Alone)
        );
    }

    #[test]
    fn nonsense_is_named() {
        let mut variables = TORCHRUN.to_vec();
        variables[0].1 = "eight";
        assert_eq!(
            detect(&variables, None).unwrap_err(),
            "RANK: expected the number of this rank, found \"eight\""
        );
        variables[0].1 = "8";
        assert!(detect(&variables, None).unwrap_err().contains("found 8 of 8"));
        variables[0].1 = "7";
        variables.remove(4);
        assert!(detect(&variables, None).unwrap_err().starts_with("MASTER_ADDR: expected the address"));
        let slurm = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "2"), ("SLURM_JOB_NODELIST", "gpu[")];
        assert!(detect(&slurm, None).unwrap_err().starts_with("SLURM_JOB_NODELIST: expected host names"));
    }
}
