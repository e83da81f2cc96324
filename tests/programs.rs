//! Runs the programs and looks at what they said.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// No run on a fixture takes this long; a hung program fails its test instead of CI's limit.
const LIMIT: Duration = Duration::from_mins(15);

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A file below tests/fixtures.
pub(crate) fn fixture(path: &str) -> PathBuf {
    let path = root().join("tests/fixtures").join(path);
    assert!(path.exists(), "no fixture {}", path.display());
    path
}

/// `JMP_REAL_DATA` if it is set; otherwise says that the test was skipped.
#[allow(clippy::disallowed_methods, reason = "the one switch of tests on real samples")]
pub(crate) fn real_data(test: &str) -> Option<PathBuf> {
    let path = std::env::var("JMP_REAL_DATA").ok().map(PathBuf::from);
    if path.is_none() {
        eprintln!("{test}: skipped: JMP_REAL_DATA is not set");
    }
    path
}

/// Where the programs lie, built if needed: once for all cases, and a matter of milliseconds after `cargo build`.
/// `JMP_PROGRAMS` names a folder of finished ones instead, an installed copy for example.
#[allow(clippy::disallowed_methods, reason = "the one place where tests are told of other programs")]
pub(crate) fn program_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        if let Ok(given) = std::env::var("JMP_PROGRAMS") {
            return PathBuf::from(given);
        }
        // This test's own path is TARGET/PROFILE/deps/end_to_end-HASH.
        let test = std::env::current_exe().unwrap();
        let dir = test.parent().and_then(Path::parent).unwrap().to_path_buf();
        let mut build = Command::new(env!("CARGO"));
        build.current_dir(root()).args(["build", "--quiet", "--workspace", "--bins"]);
        if dir.file_name() == Some(OsStr::new("release")) {
            build.arg("--release");
        }
        build.arg("--target-dir").arg(dir.parent().unwrap());
        // What `cargo test` adds to the environment would make build scripts think that they must run again.
        let added = |name: &str| {
            let ours = ["CARGO", "CARGO_MANIFEST", "CARGO_PKG", "CARGO_CRATE", "CARGO_BIN", "CARGO_PRIMARY"];
            let stem = name.splitn(3, '_').take(2).collect::<Vec<_>>().join("_");
            ours.contains(&stem.as_str()) || name == "LD_LIBRARY_PATH"
        };
        for (name, _) in std::env::vars().filter(|(name, _)| added(name)) {
            build.env_remove(name);
        }
        let configured = root().join(".deps/libtorch/torch");
        if std::env::var_os("LIBTORCH").is_some_and(|given| Path::new(&given) == configured) {
            build.env_remove("LIBTORCH");
        }
        assert!(build.status().unwrap().success(), "the programs do not build");
        dir
    })
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) command: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{} failed: {self:#?}", self.command);
        self
    }

    /// Bad input or usage: exit code 2 and a message that holds all the `words`, without a panic or a backtrace.
    #[track_caller]
    pub(crate) fn refused(self, words: &[&str]) -> Self {
        self.stopped(2, words)
    }

    #[track_caller]
    pub(crate) fn stopped(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        for word in words {
            assert!(self.stderr.contains(word), "the message does not say `{word}`: {self:#?}");
        }
        for sign in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
            assert!(!self.stderr.contains(sign), "{self:#?}");
        }
        self
    }
}

/// A program that runs; killed when dropped.
pub(crate) struct Running {
    command: String,
    child: Child,
    output: TempDir,
}

impl Running {
    pub(crate) fn start(program: &str, arguments: &[&dyn AsRef<OsStr>]) -> Self {
        Self::start_in(&root(), program, arguments)
    }

    pub(crate) fn start_in(dir: &Path, program: &str, arguments: &[&dyn AsRef<OsStr>]) -> Self {
        let output = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(output.path().join(name)).unwrap();
        let mut command = Command::new(program_dir().join(program));
        command.args(arguments.iter().map(AsRef::as_ref)).current_dir(dir).stdin(Stdio::null());
        command.stdout(file("stdout")).stderr(file("stderr"));
        let child = command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"));
        Self { command: format!("{command:?}"), child, output }
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(mut self) -> Ended {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < LIMIT, "still running after {LIMIT:?}: {}", self.command);
            std::thread::sleep(Duration::from_millis(5));
        };
        let read = |name: &str| {
            String::from_utf8_lossy(&fs::read(self.output.path().join(name)).unwrap()).into_owned()
        };
        Ended {
            command: self.command.clone(),
            code: status.code(),
            stdout: read("stdout"),
            stderr: read("stderr"),
        }
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends it a signal, by the name that `kill` knows.
    pub(crate) fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success(), "{line}");
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `jmp-ingest` to its end.
pub(crate) fn ingest(arguments: &[&dyn AsRef<OsStr>]) -> Ended {
    Running::start("jmp-ingest", arguments).wait()
}

/// Every file below a directory: relative path and content, sorted.
pub(crate) fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
                found.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Fails with the names of the files that differ, not with their bytes.
#[track_caller]
pub(crate) fn assert_same_tree(a: &Path, b: &Path) {
    let (left, right) = (tree(a), tree(b));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&left), names(&right));
    let differ: Vec<_> = left.iter().zip(&right).filter(|(x, y)| x.1 != y.1).map(|(x, _)| &x.0).collect();
    assert!(differ.is_empty(), "differ: {differ:?}");
}

/// Copies a directory.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    for (name, content) in tree(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}
