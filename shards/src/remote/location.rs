//! Where a dataset lies: a directory, or a URL below which its files are.

use std::fmt;
use std::path::{Path, PathBuf};

use object_store::path::Path as Key;

use crate::error::ShardError;

/// A place where a dataset's files are found by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A directory.
    Local(PathBuf),
    /// An object store or web server.
    Remote(RemoteUrl),
}

/// A checked URL of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteUrl {
    pub(super) service: Service,
    /// Bucket, container or `host:port`.
    pub(super) authority: String,
    /// What comes before a file's name.
    pub(super) prefix: Key,
    /// As the user wrote it, without slashes at the end.
    text: String,
}

/// Which protocol a URL speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    S3,
    Google,
    Azure,
    Https,
    Http,
}

/// What can be written before `://`.
const SCHEMES: &str =
    "s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH, https://HOST/PATH, http://HOST/PATH";

impl Location {
    /// Takes text with `://` for a URL and everything else for a path.
    ///
    /// # Errors
    /// A URL of an unknown kind, without a bucket or host, with a query, or with a password in it.
    pub fn parse(text: impl AsRef<Path>) -> Result<Self, ShardError> {
        let path = text.as_ref();
        match path.to_str().and_then(|text| text.split_once("://")) {
            Some(("file", rest)) => Ok(Self::Local(PathBuf::from(rest))),
            Some((scheme, rest)) => RemoteUrl::parse(scheme, rest).map(Self::Remote),
            None => Ok(Self::Local(path.to_path_buf())),
        }
    }

    /// The directory; for what cannot be done at a URL.
    ///
    /// # Errors
    /// When it is a URL.
    pub fn directory(&self) -> Result<&Path, ShardError> {
        match self {
            Self::Local(dir) => Ok(dir),
            Self::Remote(url) => Err(url.refuse("this needs a local directory; copy the dataset first")),
        }
    }
}

impl RemoteUrl {
    fn parse(scheme: &str, rest: &str) -> Result<Self, ShardError> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_end_matches('/');
        // A user's name and password must not reach messages and logs.
        let shown = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let text = format!("{scheme}://{shown}/{path}").trim_end_matches('/').to_owned();
        let refuse = |problem: &str| ShardError::Location { url: text.clone(), problem: problem.to_owned() };
        let service = match scheme {
            "s3" | "s3a" => Service::S3,
            "gs" => Service::Google,
            "az" => Service::Azure,
            "https" => Service::Https,
            "http" => Service::Http,
            _ => return Err(refuse(&format!("unknown kind of URL; expected {SCHEMES} or a directory"))),
        };
        if shown != authority {
            return Err(refuse("no user or password in a URL; credentials come from the environment"));
        }
        if authority.is_empty() {
            return Err(refuse(&format!("no bucket or host; expected {SCHEMES}")));
        }
        let web = matches!(service, Service::Https | Service::Http);
        if web && path.contains(['?', '#']) {
            return Err(refuse("a query cannot be part of a folder's URL"));
        }
        // Web addresses are percent-encoded, keys of object stores are written as they are.
        let prefix = if web { Key::from_url_path(path) } else { Key::parse(path) };
        let prefix = prefix.map_err(|e| refuse(&e.to_string()))?;
        Ok(Self { service, authority: authority.to_owned(), prefix, text })
    }

    /// An error about this URL.
    pub(super) fn refuse(&self, problem: impl Into<String>) -> ShardError {
        ShardError::Location { url: self.text.clone(), problem: problem.into() }
    }

    /// The URL of a file below it, for messages.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("{}/{name}", self.text))
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether an address names this machine, so that nothing travels unprotected: `HOST`, `HOST:PORT` or `http://HOST:PORT/…`.
pub(super) fn is_loopback(address: &str) -> bool {
    let address = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = address.split('/').next().unwrap_or(address);
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> RemoteUrl {
        match Location::parse(text).unwrap() {
            Location::Remote(url) => url,
            Location::Local(path) => panic!("{text} became {}", path.display()),
        }
    }

    #[test]
    fn paths_and_urls_are_told_apart() {
        for path in ["shards/ani1x", "/data/x", "C:/x", "a:b", ""] {
            assert_eq!(Location::parse(path).unwrap(), Location::Local(path.into()));
        }
        assert_eq!(Location::parse("file:///data/x").unwrap(), Location::Local("/data/x".into()));
        let url = remote("s3://bucket/a b/c%20d//");
        assert_eq!(
            (url.service, url.authority.as_str(), url.prefix.as_ref()),
            (Service::S3, "bucket", "a b/c%20d")
        );
        assert_eq!(url.file("manifest.json"), PathBuf::from("s3://bucket/a b/c%20d/manifest.json"));
        assert_eq!(remote("https://host:8443/a%20b").prefix.as_ref(), "a b");
        assert_eq!(remote("gs://bucket").prefix.as_ref(), "");
    }

    #[test]
    fn bad_urls_are_refused_without_their_passwords() {
        for (text, part) in [
            ("ftp://host/x", "unknown kind of URL"),
            ("s3:///x", "no bucket or host"),
            ("s3://bucket/a/../b", "a/../b"),
            ("https://host/x?token=secret", "a query"),
            ("https://user:secret@host/x", "credentials come from the environment"),
        ] {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let error = Location::parse("https://user:secret@host/x").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn loopback_is_known() {
        for yes in ["localhost", "127.0.0.1:5000", "http://127.0.0.1:5000/x", "[::1]:80", "http://localhost"]
        {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["localhost.example.org", "10.0.0.1", "http://127.0.0.1.example.org", "host:127"] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
