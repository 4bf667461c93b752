//! The api that customers talk to.
//!
//! `GET /products`, `GET /products/{id}` (redis first, then the catalog) and `POST /orders`.
//! Prices and settings are files, read anew for every request, so that a changed price list or
//! setting holds from the next request on.

mod cache;

use std::fs;
use std::io;
use std::path::PathBuf;

use opentelemetry::KeyValue;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use ureq::SendBody;

use crate::http::{Request, Response};
use crate::{DEPENDENCY_TIMEOUT, telemetry};
use cache::Cache;

pub struct Api {
    /// Holds `prices.json` and `settings.json`.
    config: PathBuf,
    /// Base URL, `http://127.0.0.1:8081`.
    catalog: String,
    agent: ureq::Agent,
    cache: Cache,
}

/// `settings.json`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Settings {
    /// Reuse connections to redis and the catalog.
    pub keep_alive: bool,
    /// How long an answer of the catalog stays in redis.
    pub cache_seconds: u64,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Refused(String),
    #[error("no such product")]
    NoSuchProduct,
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    #[error("catalog: {0}")]
    Catalog(#[from] ureq::Error),
    #[error("catalog: status {status}: {body}")]
    CatalogStatus { status: u16, body: Value },
}

impl Failure {
    fn status(&self) -> u16 {
        match self {
            Self::Refused(_) => 400,
            Self::NoSuchProduct => 404,
            Self::File { .. } => 500,
            Self::CatalogStatus { status: 507, .. } => 507,
            Self::Redis(_) | Self::Catalog(_) | Self::CatalogStatus { .. } => 502,
        }
    }
}

impl Api {
    /// # Errors
    /// When `redis` is not an address that the client takes.
    pub fn new(
        config: PathBuf,
        redis: std::net::SocketAddr,
        catalog: std::net::SocketAddr,
    ) -> redis::RedisResult<Self> {
        // With a limit on the whole call, ureq would connect without blocking and resolve on
        // another thread.
        let agent = ureq::Agent::config_builder()
            .timeout_per_read(Some(DEPENDENCY_TIMEOUT))
            .timeout_per_write(Some(DEPENDENCY_TIMEOUT))
            .http_status_as_error(false)
            .build()
            .new_agent();
        Ok(Self {
            config,
            catalog: format!("http://{catalog}"),
            agent,
            cache: Cache::new(redis)?,
        })
    }

    pub fn handle(&self, request: &Request) -> Response {
        let product = request.path.strip_prefix("/products/");
        match (request.method.as_str(), request.path.as_str(), product) {
            ("GET", "/products", _) => {
                telemetry::serve(request, "/products", || answer(self.products()))
            }
            ("GET", _, Some(id)) => {
                telemetry::serve(request, "/products/{id}", || answer(self.product(id)))
            }
            ("POST", "/orders", _) => {
                telemetry::serve(request, "/orders", || answer(self.order(&request.body)))
            }
            _ => Response::error(404, "no such route"),
        }
    }

    fn products(&self) -> Result<Response, Failure> {
        let prices = self.prices()?;
        let ids = self.cached("products", "/items")?;
        let ids = ids.as_array().into_iter().flatten();
        let list: Vec<Value> = ids
            .map(|id| json!({ "id": id, "price": prices.get(&id.to_string()) }))
            .collect();
        Ok(Response::new(200, json!(list)))
    }

    fn product(&self, id: &str) -> Result<Response, Failure> {
        if id.parse::<u32>().is_err() {
            return Err(Failure::Refused("a product's id is a number".into()));
        }
        let prices = self.prices()?;
        let mut product = self.cached(&format!("product:{id}"), &format!("/items/{id}"))?;
        product["price"] = json!(prices.get(id));
        Ok(Response::new(200, product))
    }

    fn order(&self, body: &[u8]) -> Result<Response, Failure> {
        let mut order: Value =
            serde_json::from_slice(body).map_err(|error| Failure::Refused(error.to_string()))?;
        let prices = self.prices()?;
        let price = prices.get(&order["product"].to_string());
        order["price"] = price.cloned().ok_or(Failure::NoSuchProduct)?;
        let settings = self.settings()?;
        self.ask_catalog("/orders", Some(&order), settings.keep_alive)?;
        Ok(Response::new(201, order))
    }

    fn prices(&self) -> Result<Map<String, Value>, Failure> {
        self.read("prices.json")
    }

    fn settings(&self) -> Result<Settings, Failure> {
        self.read("settings.json")
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<T, Failure> {
        let path = self.config.join(name);
        let read = fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        read.map_err(|source| Failure::File { path, source })
    }

    /// What redis has under `key`, else what the catalog says at `path`, which is then kept.
    fn cached(&self, key: &str, path: &str) -> Result<Value, Failure> {
        let settings = self.settings()?;
        let found = self.cache.get(key, settings)?;
        if let Some(value) = found.and_then(|text| serde_json::from_str(&text).ok()) {
            return Ok(value);
        }
        let value = self.ask_catalog(path, None, settings.keep_alive)?;
        self.cache.set(key, &value.to_string(), settings)?;
        Ok(value)
    }

    fn ask_catalog(
        &self,
        path: &str,
        order: Option<&Value>,
        keep_alive: bool,
    ) -> Result<Value, Failure> {
        let method = if order.is_some() { "POST" } else { "GET" };
        let attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("url.full", format!("{}{path}", self.catalog)),
            KeyValue::new("peer.service", "shop-catalog"),
        ];
        telemetry::call(method.to_owned(), attributes, || {
            let uri = format!("{}{path}", self.catalog);
            let mut request = ureq::http::Request::builder().method(method).uri(uri);
            for (name, value) in telemetry::outgoing_headers() {
                request = request.header(name, value);
            }
            if !keep_alive {
                request = request.header("connection", "close");
            }
            let body = match order {
                Some(order) => SendBody::from_json(order)?,
                None => SendBody::none(),
            };
            let request = request.body(body).map_err(ureq::Error::from)?;
            let mut response = self.agent.run(request)?;
            let status = response.status().as_u16();
            let body = response.body_mut().read_json()?;
            match status {
                200..300 => Ok(body),
                404 => Err(Failure::NoSuchProduct),
                _ => Err(Failure::CatalogStatus { status, body }),
            }
        })
    }
}

fn answer(result: Result<Response, Failure>) -> Response {
    result.unwrap_or_else(|failure| {
        if failure.status() >= 500 {
            tracing::warn!(%failure, "request failed");
        }
        Response::error(failure.status(), failure)
    })
}
