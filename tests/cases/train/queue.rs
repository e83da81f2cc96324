//! The SLURM script puts a job back into the queue when its run was stopped by the signal, and only then. `srun` and `scontrol`
//! are stood in for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::programs::root;

/// A rank's last words, if any, and srun's exit status.
const SRUN: &str =
    "#!/bin/sh\n[ -z \"$RECORD\" ] || echo \"$RECORD\" >>\"$RUN/metrics.jsonl\"\nexit \"$STATUS\"\n";
/// The nodes of the job, and what else it is asked for.
const SCONTROL: &str = "#!/bin/sh\n[ \"$1\" = show ] && echo node1 || echo \"asked to $*\"\n";

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_job_is_requeued_after_its_signal_alone() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    fs::create_dir(&run).unwrap();
    executable(&dir.path().join("srun"), SRUN);
    executable(&dir.path().join("scontrol"), SCONTROL);
    let job = |status: i32, record: &str| {
        let mut script = Command::new("bash");
        script.arg(root().join("configs/cluster/pretrain-srun.slurm")).args([Path::new("config.toml"), &run]);
        script.env("PATH", format!("{}:/usr/bin:/bin", dir.path().display())).env("RUN", &run);
        script.env("STATUS", status.to_string()).env("RECORD", record);
        script.env("SLURM_JOB_ID", "7").env("SLURM_JOB_NODELIST", "node1");
        let ended = script.output().unwrap();
        assert_eq!(ended.status.code(), Some(status), "{ended:?}");
        String::from_utf8(ended.stdout).unwrap().contains("asked to requeue 7")
    };
    let finished = |ending: &str, minutes: u32| {
        format!("{{\"kind\":\"finished\",\"ending\":\"{ending}\",\"step\":3,\"minutes\":{minutes}}}")
    };
    assert!(!job(1, ""), "nothing was recorded");
    assert!(job(1, &finished("signal", 1)), "rank 0 was the first to end");
    assert!(job(137, &finished("signal", 2)), "srun killed a rank");
    assert!(!job(1, ""), "the record is an earlier job's: this one failed at its start");
    assert!(!job(2, "{\"kind\":\"train\",\"step\":4}"), "it failed on its way");
    assert!(!job(0, &finished("complete", 3)), "it came to its end");
}
