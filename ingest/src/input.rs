//! The `--input` arguments: paths, each with or without the name of the split that its rows make up.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{IngestError, input_error, io_error};

/// A path given by the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// `train` of `train=PATH`.
    pub split: Option<String>,
    /// The file or directory.
    pub path: PathBuf,
}

impl Input {
    /// Reads `PATH` or `SPLIT=PATH`. A path that exists as it is written is a path, whatever `=` is in it.
    pub fn parse(text: &str) -> Self {
        let plain = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        match text.split_once('=') {
            Some((split, path)) if plain(split) && !Path::new(text).exists() => {
                Self { split: Some(split.to_owned()), path: PathBuf::from(path) }
            }
            _ => Self { split: None, path: PathBuf::from(text) },
        }
    }
}

/// Names that a directory of a released dataset has when it holds one split.
pub(crate) fn is_split_name(name: &str) -> bool {
    ["train", "val", "test"].iter().any(|s| name == *s || name.starts_with(&format!("{s}_")))
}

/// A file with the split it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitFile {
    /// The split's name, if the user or a directory's name tells it.
    pub split: Option<String>,
    /// The file.
    pub path: PathBuf,
}

/// The files with one of the extensions: those given, those in directories given, and those in directories below that are
/// named like splits; each directory sorted by name.
///
/// # Errors
/// When a path does not exist, or nothing is found below it.
pub fn files(inputs: &[Input], extensions: &[&str]) -> Result<Vec<SplitFile>, IngestError> {
    let mut found = Vec::new();
    for input in inputs {
        let before = found.len();
        let exists = fs::metadata(&input.path).map_err(io_error("open", &input.path))?;
        if exists.is_file() {
            found.push(SplitFile { split: input.split.clone(), path: input.path.clone() });
            continue;
        }
        let own =
            input.path.file_name().and_then(|n| n.to_str()).filter(|n| is_split_name(n)).map(str::to_owned);
        let split = input.split.clone().or(own);
        let entries = sorted_dir(&input.path)?;
        let matching = entries.iter().filter(|p| p.is_file() && has_extension(p, extensions));
        found.extend(matching.map(|p| SplitFile { split: split.clone(), path: p.clone() }));
        if found.len() == before && input.split.is_none() {
            found.extend(split_directories(&entries, extensions)?);
        }
        if found.len() == before {
            let problem = format!("no file named *.{} in this directory", extensions.join(" or *."));
            return Err(input_error(&input.path, problem));
        }
    }
    Ok(found)
}

fn split_directories(entries: &[PathBuf], extensions: &[&str]) -> Result<Vec<SplitFile>, IngestError> {
    let mut found = Vec::new();
    for dir in entries.iter().filter(|p| p.is_dir()) {
        let Some(name) = dir.file_name().and_then(|n| n.to_str()).filter(|n| is_split_name(n)) else {
            continue;
        };
        for path in sorted_dir(dir)?.into_iter().filter(|p| p.is_file() && has_extension(p, extensions)) {
            found.push(SplitFile { split: Some(name.to_owned()), path });
        }
    }
    Ok(found)
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    extensions.iter().any(|e| name.strip_suffix(e).is_some_and(|stem| stem.ends_with('.')))
}

/// A directory's entries, sorted by name.
///
/// # Errors
/// When it cannot be listed.
pub fn sorted_dir(dir: &Path) -> Result<Vec<PathBuf>, IngestError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        entries.push(entry.map_err(io_error("list", dir))?.path());
    }
    entries.sort();
    Ok(entries)
}

/// How source files are named in a manifest: below the deepest directory that they share, so that the same files in another
/// place make the same dataset.
pub fn relative_names(files: &[PathBuf]) -> Vec<String> {
    let Some(first) = files.first() else { return Vec::new() };
    let mut shared = first.parent().unwrap_or(Path::new("")).to_path_buf();
    for file in files {
        while !file.starts_with(&shared) {
            if !shared.pop() {
                break;
            }
        }
    }
    files.iter().map(|f| f.strip_prefix(&shared).unwrap_or(f).display().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_named_before_an_equals_sign() {
        let check = |text: &str, split: Option<&str>, path: &str| {
            assert_eq!(Input::parse(text), Input { split: split.map(str::to_owned), path: path.into() });
        };
        check("a/b.npz", None, "a/b.npz");
        check("test_01=a/b.npz", Some("test_01"), "a/b.npz");
        check("./x=y/b.npz", None, "./x=y/b.npz");
        check("=b", None, "=b");
    }

    #[test]
    fn directories_named_like_splits_are_found() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["val_id/b.lmdb", "train/1.lmdb", "train/0.lmdb", "train/0.txt", "logs/x.lmdb"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = files(&[Input { split: None, path: dir.path().into() }], &["lmdb"]).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|f| (f.split.clone().unwrap(), f.path.file_name().unwrap().to_str().unwrap().to_owned()))
            .collect();
        let want = [("train", "0.lmdb"), ("train", "1.lmdb"), ("val_id", "b.lmdb")];
        assert_eq!(names, want.map(|(a, b)| (a.to_owned(), b.to_owned())));
        let paths: Vec<PathBuf> = found.into_iter().map(|f| f.path).collect();
        assert_eq!(relative_names(&paths), ["train/0.lmdb", "train/1.lmdb", "val_id/b.lmdb"]);
        let error = files(&[Input { split: None, path: dir.path().join("logs") }], &["npz"]).unwrap_err();
        assert!(error.to_string().ends_with("no file named *.npz in this directory"), "{error}");
    }
}
