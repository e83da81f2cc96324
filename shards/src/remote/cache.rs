//! What was downloaded, kept in a directory that all processes of a machine may share.
//!
//! ```text
//! CACHE/objects/ab/cdef…   contents, by a hash of what they are
//! CACHE/locks/abc          held by who is downloading something whose name begins so
//! CACHE/fresh/             contents on their way in
//! CACHE/size, size.lock    bytes below objects/, and who is changing them
//! ```
//!
//! Contents appear by rename, so a killed process leaves nothing that is read; locks are the kernel's and die with their
//! holder. Each read renews a file's time of modification, by which the least recently used goes first.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind::{AlreadyExists, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::error::{ShardError, io_error};
use crate::manifest;

/// The name of a content: a hash of what identifies it, so nothing in a manifest can name another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CacheKey(String);

/// Keeps contents below a limit.
#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    limit: u64,
    /// Whether the last content could be stored; what cannot be stored is not worth fetching ahead.
    stores: AtomicBool,
}

/// Holds back others who want the same content, until dropped.
#[derive(Debug)]
pub(super) struct Turn(#[allow(dead_code, reason = "dropping it is what it is for")] Option<File>);

/// Backups leave folders with this file out (<https://bford.info/cachedir/>).
const TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n";
/// A cache is emptied to this share of its limit, so that it is not searched at every new content.
const KEPT: (u64, u64) = (9, 10);
/// What a killed process left in `fresh/` is removed after this.
const STALE: Duration = Duration::from_hours(1);
/// How often a waiting reader looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// After this a reader fetches for itself: whoever has its turn may have been stopped.
const PATIENCE: Duration = Duration::from_mins(1);

impl CacheKey {
    /// From the parts of an identity: each must stand for one content for ever.
    pub(super) fn of(parts: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        Self(hasher.finalize().to_hex().to_string())
    }
}

impl Cache {
    /// Makes the directory if need be.
    ///
    /// # Errors
    /// When it cannot be made, or holds a dataset.
    pub(super) fn open(dir: &Path, limit: u64) -> Result<Self, ShardError> {
        if dir.join(manifest::FILE_NAME).exists() {
            let problem = "is a dataset and cannot be a cache as well; give another --cache".to_owned();
            return Err(ShardError::Output { dir: dir.to_path_buf(), problem });
        }
        for folder in ["objects", "locks", "fresh"] {
            let path = dir.join(folder);
            fs::create_dir_all(&path).map_err(io_error("create the cache", &path))?;
        }
        let cache = Self { dir: dir.to_path_buf(), limit, stores: AtomicBool::new(true) };
        match cache.tag().and_then(|()| cache.fit()) {
            // Another user's cache, or a full disk: what is there can be read all the same.
            Err(e)
                if matches!(
                    e.kind(),
                    PermissionDenied | ReadOnlyFilesystem | StorageFull | QuotaExceeded
                ) =>
            {
                cache.stores.store(false, Ordering::Relaxed);
            }
            made => made.map_err(io_error("search the cache", dir))?,
        }
        Ok(cache)
    }

    fn tag(&self) -> io::Result<()> {
        let path = self.dir.join("CACHEDIR.TAG");
        match File::create_new(path).map(|mut tag| tag.write_all(TAG)) {
            Err(e) if e.kind() == AlreadyExists => Ok(()),
            made => made?,
        }
    }

    /// A file that is locked, never written to.
    fn lock_file(&self, name: &str) -> io::Result<File> {
        File::options().write(true).create(true).truncate(false).open(self.dir.join(name))
    }

    /// A content, if it is there.
    pub(super) fn get(&self, key: &CacheKey) -> Option<Vec<u8>> {
        let mut file = File::open(self.path(key)).ok()?;
        let mut content = Vec::with_capacity(file.metadata().ok()?.len() as usize);
        file.read_to_end(&mut content).ok()?;
        renew(&file);
        Some(content)
    }

    /// Whether a content is there; if so it counts as used.
    pub(super) fn has(&self, key: &CacheKey) -> bool {
        File::open(self.path(key)).is_ok_and(|file| {
            renew(&file);
            true
        })
    }

    /// Forgets a content that proved to be damaged.
    pub(super) fn remove(&self, key: &CacheKey) {
        // It may be gone already; the size that is noted then errs on the safe side.
        let _ = fs::remove_file(self.path(key));
    }

    /// Whether contents can be stored.
    pub(super) fn stores(&self) -> bool {
        self.stores.load(Ordering::Relaxed)
    }

    /// Stores a content, making room for it. A content larger than the limit is not stored.
    pub(super) fn put(&self, key: &CacheKey, content: &[u8]) -> io::Result<()> {
        self.store(key, content, false)
    }

    /// Stores a content in place of an older one of the same name.
    pub(super) fn replace(&self, key: &CacheKey, content: &[u8]) -> io::Result<()> {
        self.store(key, content, true)
    }

    fn store(&self, key: &CacheKey, content: &[u8], anew: bool) -> io::Result<()> {
        let stored = self.try_put(key, content, anew);
        self.stores.store(matches!(stored, Ok(true)), Ordering::Relaxed);
        stored.map(|_| ())
    }

    fn try_put(&self, key: &CacheKey, content: &[u8], anew: bool) -> io::Result<bool> {
        let size = content.len() as u64;
        if size > self.limit {
            return Ok(false);
        }
        let path = self.path(key);
        let fresh = self.fresh();
        fs::write(&fresh, content)?;
        let placed = self.place(&fresh, &path, size, anew);
        if placed.is_err() {
            let _ = fs::remove_file(&fresh);
        }
        placed.map(|()| true)
    }

    fn place(&self, fresh: &Path, path: &Path, size: u64, anew: bool) -> io::Result<()> {
        let changing = self.lock_file("size.lock")?;
        // Where the file system knows no locks the limit is kept less exactly, and nothing else suffers.
        let _ = changing.lock();
        if path.exists() && !anew {
            return fs::remove_file(fresh);
        }
        let mut used = self.noted().map_or_else(|| self.measure(), Ok)?;
        if used.saturating_add(size) > self.limit {
            let keep = (self.limit - size)
                .min((u128::from(self.limit) * u128::from(KEPT.0) / u128::from(KEPT.1)) as u64);
            used = self.evict(keep)?;
        }
        // Noted before it is true: a process killed in between makes the cache seem larger, until it is measured again.
        self.note(used + size)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::rename(fresh, path)
    }

    /// Keeps a limit that is smaller than the last one.
    fn fit(&self) -> io::Result<()> {
        let changing = self.lock_file("size.lock")?;
        let _ = changing.lock();
        if self.noted().is_some_and(|used| used > self.limit) {
            self.note(self.evict(self.limit)?)?;
        }
        Ok(())
    }

    /// Waits until no one else is fetching the content. `None`: `cancelled` was set meanwhile.
    pub(super) fn turn(&self, key: &CacheKey, cancelled: &AtomicBool) -> Option<Turn> {
        // File systems without locks let several processes fetch the same: slower, not wrong.
        let Ok(file) = self.lock_file(&format!("locks/{}", &key.0[..3])) else {
            return Some(Turn(None));
        };
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Some(Turn(Some(file))),
                Err(TryLockError::Error(_)) => return Some(Turn(None)),
                Err(TryLockError::WouldBlock) if cancelled.load(Ordering::Relaxed) => return None,
                Err(TryLockError::WouldBlock) if since.elapsed() > PATIENCE => return Some(Turn(None)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }

    fn path(&self, key: &CacheKey) -> PathBuf {
        self.dir.join("objects").join(&key.0[..2]).join(&key.0[2..])
    }

    /// A name that no other thread or process uses.
    fn fresh(&self) -> PathBuf {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_nanos());
        self.dir.join("fresh").join(format!("{}-{count}-{since:x}", std::process::id()))
    }

    /// Bytes of all contents as last noted; `None` where that cannot be read.
    fn noted(&self) -> Option<u64> {
        fs::read_to_string(self.dir.join("size")).ok()?.strip_suffix('\n')?.parse().ok()
    }

    fn note(&self, bytes: u64) -> io::Result<()> {
        let fresh = self.fresh();
        fs::write(&fresh, format!("{bytes}\n"))?;
        fs::rename(fresh, self.dir.join("size"))
    }

    fn measure(&self) -> io::Result<u64> {
        Ok(self.contents()?.iter().map(|(_, size, _)| size).sum())
    }

    /// Removes the least recently used until at most `keep` bytes are left; returns how many are.
    fn evict(&self, keep: u64) -> io::Result<u64> {
        let mut contents = self.contents()?;
        contents.sort();
        let mut used: u64 = contents.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in contents {
            if used <= keep {
                break;
            }
            if fs::remove_file(&path).is_ok() || !path.exists() {
                used -= size;
            }
        }
        self.sweep();
        Ok(used)
    }

    /// Time of last use, size and path of each content.
    fn contents(&self) -> io::Result<Vec<(SystemTime, u64, PathBuf)>> {
        let mut contents = Vec::new();
        for folder in fs::read_dir(self.dir.join("objects"))? {
            // Other processes remove files meanwhile.
            for entry in fs::read_dir(folder?.path()).into_iter().flatten().flatten() {
                let ours = entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| name.len() == 62 && name.bytes().all(|b| b.is_ascii_hexdigit()));
                if let Some(about) = entry.metadata().ok().filter(|about| ours && about.is_file()) {
                    contents.push((about.modified()?, about.len(), entry.path()));
                }
            }
        }
        Ok(contents)
    }

    /// Removes what killed processes left behind.
    fn sweep(&self) {
        for entry in fs::read_dir(self.dir.join("fresh")).into_iter().flatten().flatten() {
            let age = entry.metadata().and_then(|about| about.modified()).map(|at| at.elapsed());
            if matches!(age, Ok(Ok(age)) if age > STALE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Marks a content as used just now. Another user's file cannot be marked, and then goes earlier.
fn renew(file: &File) {
    let _ = file.set_modified(SystemTime::now());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> CacheKey {
        CacheKey::of(&[name])
    }

    fn stored(cache: &Cache) -> u64 {
        cache.measure().unwrap()
    }

    #[test]
    fn identities_do_not_run_together() {
        assert_ne!(CacheKey::of(&["ab", "c"]), CacheKey::of(&["a", "bc"]));
        assert_ne!(CacheKey::of(&["ab"]), CacheKey::of(&["ab", ""]));
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), 1000).unwrap();
        for name in ["a", "b", "c"] {
            cache.put(&key(name), &[7; 300]).unwrap();
        }
        assert_eq!(cache.get(&key("a")).unwrap(), [7; 300]);
        cache.put(&key("d"), &[8; 300]).unwrap();
        let there: Vec<bool> = ["a", "b", "c", "d"].iter().map(|n| cache.get(&key(n)).is_some()).collect();
        assert_eq!(there, [true, false, true, true]);
        assert_eq!(stored(&cache), 900);
        assert_eq!(cache.noted(), Some(900));
    }

    #[test]
    fn the_limit_holds_for_many_threads() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for t in 0..4 {
                let path = dir.path();
                scope.spawn(move || {
                    // Each with a handle of its own, as processes have.
                    let cache = Cache::open(path, 10_000).unwrap();
                    for k in 0..60 {
                        cache.put(&key(&format!("{t} {k}")), &vec![t; 100 + k]).unwrap();
                        assert!(stored(&cache) <= 10_000);
                    }
                });
            }
        });
        let cache = Cache::open(dir.path(), 10_000).unwrap();
        assert_eq!(cache.noted(), Some(stored(&cache)));
        assert!(stored(&cache) > 8_000);
        assert_eq!(fs::read_dir(dir.path().join("fresh")).unwrap().count(), 0);
    }

    #[test]
    fn what_is_too_large_is_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), 100).unwrap();
        cache.put(&key("a"), &[1; 101]).unwrap();
        assert!(cache.get(&key("a")).is_none() && !cache.stores());
        cache.put(&key("b"), &[1; 100]).unwrap();
        assert!(cache.has(&key("b")) && cache.stores());
    }

    #[test]
    fn a_lost_size_is_measured_again_and_strangers_stay() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), 1000).unwrap();
        cache.put(&key("a"), &[1; 600]).unwrap();
        fs::write(dir.path().join("size"), "60").unwrap();
        fs::create_dir_all(dir.path().join("objects/zz")).unwrap();
        fs::write(dir.path().join("objects/zz/notes.txt"), [0; 5000]).unwrap();
        cache.put(&key("b"), &[2; 600]).unwrap();
        assert!(cache.get(&key("a")).is_none() && cache.get(&key("b")).is_some());
        assert!(dir.path().join("objects/zz/notes.txt").exists());
    }

    #[test]
    fn a_smaller_limit_holds_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), 1000).unwrap();
        for name in ["a", "b", "c"] {
            cache.put(&key(name), &[7; 300]).unwrap();
        }
        let cache = Cache::open(dir.path(), 700).unwrap();
        assert_eq!((stored(&cache), cache.noted()), (600, Some(600)));
        assert!(!cache.has(&key("a")) && cache.has(&key("c")));
    }

    #[test]
    fn a_dataset_is_no_cache() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("manifest.json"), "{}").unwrap();
        assert!(Cache::open(dir.path(), 1).unwrap_err().to_string().contains("is a dataset"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn turns_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), 1).unwrap();
        let (going, gone) = (AtomicBool::new(false), AtomicBool::new(true));
        let turn = cache.turn(&key("a"), &going).unwrap();
        assert!(cache.turn(&key("a"), &gone).is_none());
        drop(turn);
        assert!(cache.turn(&key("a"), &gone).is_some());
    }
}
