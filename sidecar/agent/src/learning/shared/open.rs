//! A shared store from its configuration.

use std::{str::FromStr, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, ObjectStore, ObjectStoreScheme, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    local::LocalFileSystem,
    path::Path,
};
use url::Url;

use super::{Limits, OpenError, SharedStore, seal::Keys};
use crate::config::StoreConfig;

/// A request that failed is tried again after this long, then twice as long each time.
const FIRST_RETRY: Duration = Duration::from_millis(200);

impl SharedStore {
    /// The store that a configuration names; none where it names none. `variables`: where
    /// credentials, endpoints and the like come from.
    ///
    /// # Errors
    /// A URL, a variable or a key file that cannot be used. The store itself is not asked yet.
    pub fn open(
        config: &StoreConfig,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Option<Arc<Self>>, OpenError> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let (store, prefix) =
            connect(config, &variables.collect::<Vec<_>>()).map_err(|reason| OpenError::Url {
                url: config.url.clone(),
                reason,
            })?;
        let sign_key = Some(config.sign_key.as_path()).filter(|path| !path.as_os_str().is_empty());
        let keys = Keys::read(sign_key, &config.trusted_keys)?;
        let limits = Limits {
            time: config.time_limit,
            wait: config.retry_interval,
        };
        let replicas = config.replicas as usize;
        let store = SharedStore::new(store, prefix, keys, limits);
        Ok(Some(Arc::new(store.needing(replicas))))
    }
}

fn connect(
    config: &StoreConfig,
    variables: &[(String, String)],
) -> Result<(Arc<dyn ObjectStore>, Path), String> {
    // Another part of the process may have installed one already: either serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let retry = RetryConfig {
        max_retries: config.retries as usize,
        retry_timeout: config.time_limit,
        backoff: BackoffConfig {
            init_backoff: FIRST_RETRY,
            ..BackoffConfig::default()
        },
    };
    let url = Url::parse(&config.url).map_err(|error| error.to_string())?;
    let text = url.to_string();
    let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|error| error.to_string())?;
    let built: object_store::Result<Arc<dyn ObjectStore>> = match scheme {
        ObjectStoreScheme::Local => Ok(Arc::new(LocalFileSystem::new())),
        ObjectStoreScheme::AmazonS3 => named::<AmazonS3ConfigKey>("AWS_", variables)
            .fold(AmazonS3Builder::new(), |builder, (key, value)| {
                builder.with_config(key, value)
            })
            .with_url(text)
            .with_retry(retry)
            .build()
            .map(|store| Arc::new(store) as _),
        ObjectStoreScheme::GoogleCloudStorage => named::<GoogleConfigKey>("GOOGLE_", variables)
            .fold(GoogleCloudStorageBuilder::new(), |builder, (key, value)| {
                builder.with_config(key, value)
            })
            .with_url(text)
            .with_retry(retry)
            .build()
            .map(|store| Arc::new(store) as _),
        ObjectStoreScheme::MicrosoftAzure => named::<AzureConfigKey>("AZURE_", variables)
            .fold(MicrosoftAzureBuilder::new(), |builder, (key, value)| {
                builder.with_config(key, value)
            })
            .with_url(text)
            .with_retry(retry)
            .build()
            .map(|store| Arc::new(store) as _),
        _ => return Err("none of file://, s3://, gs://, az://".to_owned()),
    };
    let store = built.map_err(|error| error.to_string())?;
    Ok((store, prefix))
}

/// The variables that begin with `prefix` and mean something to a store. One of another name, such
/// as `AWS_PROFILE`, means nothing to it.
fn named<'a, K: FromStr>(
    prefix: &'a str,
    variables: &'a [(String, String)],
) -> impl Iterator<Item = (K, String)> + 'a {
    variables.iter().filter_map(move |(name, value)| {
        let key = name
            .starts_with(prefix)
            .then(|| name.to_ascii_lowercase())?;
        Some((key.parse().ok()?, value.clone()))
    })
}

#[cfg(test)]
mod tests {
    use stethos_bundle::sample::bundle;

    use super::super::tests::{KeyFiles, place, stamped};
    use super::super::{Found, Saved};
    use super::*;

    fn opened(url: &str, variables: &[(&str, &str)]) -> Result<Option<Arc<SharedStore>>, String> {
        let config = StoreConfig {
            url: url.to_owned(),
            ..StoreConfig::default()
        };
        let own = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        let opened = SharedStore::open(&config, variables.iter().map(own));
        opened.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_folder_is_a_store() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/shared/models", folder.path().display());
        let store = opened(&url, &[]).unwrap().unwrap();
        let saved = store.save(&place(), stamped(1)).await;
        assert!(matches!(saved, Saved::Saved), "{saved:?}");
        let place_of_file = place().path(&Path::default());
        let file = folder
            .path()
            .join("shared/models")
            .join(place_of_file.as_ref());
        assert_eq!(std::fs::read(file).unwrap(), stamped(1));
        let found = store.find(&place(), true).await;
        assert!(
            matches!(&found, Found::Exact(taken) if taken.bundle.card.seed == bundle(1).card.seed)
        );
    }

    #[test]
    fn every_kind_of_store_is_known_and_nothing_else() {
        assert!(opened("", &[]).unwrap().is_none());
        let s3 = [("AWS_REGION", "eu-central-1"), ("AWS_PROFILE", "x")];
        assert!(opened("s3://bucket/models", &s3).unwrap().is_some());
        assert!(opened("gs://bucket/models", &[]).unwrap().is_some());
        let azure = [("AZURE_STORAGE_ACCOUNT_NAME", "models")];
        assert!(opened("az://container/models", &azure).unwrap().is_some());
        for (url, reason) in [
            ("models", "relative URL"),
            ("https://example.com/models", "none of"),
            ("memory:///models", "none of"),
            ("ftp://example.com", "ftp"),
        ] {
            let error = opened(url, &[]).err().unwrap();
            assert!(error.contains(url) && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_key_that_cannot_be_read_is_an_error() {
        let files = KeyFiles::new();
        let config = StoreConfig {
            url: "file:///models".to_owned(),
            trusted_keys: vec![files.private[0].clone()],
            ..StoreConfig::default()
        };
        let error = SharedStore::open(&config, std::iter::empty())
            .err()
            .unwrap();
        assert!(error.to_string().contains("private-0.pem"), "{error}");
    }
}
