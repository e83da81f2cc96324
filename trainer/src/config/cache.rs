//! `[cache]`: how datasets at URLs are read. Nothing in it changes what a run computes.

use std::io::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shards::RemoteOptions;
use shards::remote::{ByteSize, Log};

/// Where downloads are kept on this machine; its ranks share them. docs/remote.md has the whole story.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheSection {
    /// A directory on a local disk; `.cache/jmp` in the home directory when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Most that is kept, such as `"500GB"`; 64 GiB when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// Whether unencrypted requests may leave this machine.
    pub allow_http: bool,
    /// Whether only the cache is read.
    pub offline: bool,
}

impl CacheSection {
    /// Makes datasets opened from now on use these settings.
    pub fn install(&self) {
        let default = RemoteOptions::default();
        // Nothing is left to tell a closed standard error.
        let log = Log::new(|line| drop(writeln!(std::io::stderr(), "{line}")));
        RemoteOptions {
            cache: self.dir.clone(),
            cache_size: self.size.unwrap_or(default.cache_size),
            allow_http: self.allow_http,
            offline: self.offline,
            log,
            ..default
        }
        .install();
    }
}
