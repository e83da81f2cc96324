//! Connections: one client a URL, credentials from the environment, and the runtime that all of them share.

use std::sync::{Arc, OnceLock};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::ClientConfigKey;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{ObjectStore, RetryConfig};
use tokio::runtime::Runtime;

use super::location::{RemoteUrl, Service, is_loopback};
use crate::error::ShardError;

/// Settings of every client. How long a request may stay silent is watched by `download`; a limit on the whole of it would
/// cut large row groups off on slow lines.
const CLIENT: [(ClientConfigKey, &str); 2] =
    [(ClientConfigKey::Timeout, "7 days"), (ClientConfigKey::ConnectTimeout, "10 seconds")];

/// The one runtime of the process, started when a URL is first used. Two threads: it only moves bytes.
pub(super) fn runtime() -> Result<&'static Runtime, ShardError> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let start = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).thread_name("remote").enable_all().build().map_err(|e| e.to_string())
    };
    let started = RUNTIME.get_or_init(start).as_ref();
    started.map_err(|e| ShardError::Runtime { reason: e.clone() })
}

/// A client for a URL. Nothing is sent yet.
///
/// # Errors
/// When settings in the environment make no sense, or the traffic would be unencrypted without `allow_http`.
pub(super) fn connect(url: &RemoteUrl, allow_http: bool) -> Result<Arc<dyn ObjectStore>, ShardError> {
    let failed = |e: object_store::Error| url.refuse(e.to_string());
    match url.service {
        Service::S3 => Ok(Arc::new(s3(url, allow_http)?.build().map_err(failed)?)),
        Service::Google => Ok(Arc::new(google(url, allow_http)?.build().map_err(failed)?)),
        Service::Azure => Ok(Arc::new(azure(url, allow_http)?.build().map_err(failed)?)),
        Service::Https | Service::Http => {
            let scheme = if url.service == Service::Http { "http" } else { "https" };
            let address = format!("{scheme}://{}", url.authority);
            let plain = plain_http(url, Some(&address), allow_http)?;
            let mut builder = HttpBuilder::new().with_url(address).with_retry(once());
            for (key, value) in CLIENT.into_iter().chain(plain) {
                builder = builder.with_config(key, value);
            }
            Ok(Arc::new(builder.build().map_err(failed)?))
        }
    }
}

fn s3(url: &RemoteUrl, allow_http: bool) -> Result<AmazonS3Builder, ShardError> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(&url.authority).with_retry(once());
    let endpoint = builder
        .get_config_value(&AmazonS3ConfigKey::S3Endpoint)
        .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
    for (key, value) in CLIENT.into_iter().chain(plain_http(url, endpoint.as_deref(), allow_http)?) {
        builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
    }
    Ok(builder)
}

fn google(url: &RemoteUrl, allow_http: bool) -> Result<GoogleCloudStorageBuilder, ShardError> {
    let mut builder =
        GoogleCloudStorageBuilder::from_env().with_bucket_name(&url.authority).with_retry(once());
    let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl);
    for (key, value) in CLIENT.into_iter().chain(plain_http(url, endpoint.as_deref(), allow_http)?) {
        builder = builder.with_config(GoogleConfigKey::Client(key), value);
    }
    Ok(builder)
}

fn azure(url: &RemoteUrl, allow_http: bool) -> Result<MicrosoftAzureBuilder, ShardError> {
    let mut builder =
        MicrosoftAzureBuilder::from_env().with_container_name(&url.authority).with_retry(once());
    let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
    for (key, value) in CLIENT.into_iter().chain(plain_http(url, endpoint.as_deref(), allow_http)?) {
        builder = builder.with_config(AzureConfigKey::Client(key), value);
    }
    Ok(builder)
}

/// The setting that allows unencrypted requests, where they stay on this machine or are asked for.
fn plain_http(
    url: &RemoteUrl,
    endpoint: Option<&str>,
    allow_http: bool,
) -> Result<Option<(ClientConfigKey, &'static str)>, ShardError> {
    match endpoint.filter(|e| e.starts_with("http://")) {
        None => Ok(None),
        Some(endpoint) if allow_http || is_loopback(endpoint) => {
            Ok(Some((ClientConfigKey::AllowHttp, "true")))
        }
        Some(endpoint) => Err(url.refuse(format!(
            "{endpoint} is not encrypted; use https, or allow http (cache.allow_http = true, --allow-http)"
        ))),
    }
}

/// The client's own retries are off: there is one loop for everything that can fail, bodies and checksums included.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::super::location::Location;
    use super::*;

    #[test]
    fn unencrypted_requests_need_permission() {
        let connects = |text: &str, allow: bool| {
            let Location::Remote(url) = Location::parse(text).unwrap() else { panic!("{text} is no URL") };
            connect(&url, allow)
        };
        let refused = connects("http://example.org/x", false).unwrap_err().to_string();
        assert!(refused.contains("http://example.org is not encrypted"), "{refused}");
        assert!(connects("http://example.org/x", true).is_ok());
        assert!(connects("http://127.0.0.1:1/x", false).is_ok());
        assert!(connects("https://example.org/x", false).is_ok());
    }
}
