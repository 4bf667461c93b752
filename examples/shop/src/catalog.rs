//! The catalog: items are files, orders are appended to a log.
//!
//! `GET /items` lists ids, `GET /items/{id}` gives one item, `POST /orders` keeps one order.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::http::{Request, Response};
use crate::telemetry;

/// Items that a new catalog starts with, numbered from 1.
pub const ITEMS: u32 = 60;
/// Orders between two `fsync`.
const ORDERS_PER_SYNC: u32 = 8;
/// The log is renamed to `orders.log.1` at this size.
const LOG_BYTES: u64 = 4 * 1024 * 1024;

pub struct Catalog {
    directory: PathBuf,
    /// Appended to by one thread at a time.
    orders: Mutex<OrderLog>,
}

struct OrderLog {
    file: File,
    bytes: u64,
    unsynced: u32,
}

impl Catalog {
    /// Opens the catalog in `directory`, and stocks it when it is empty.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let items = directory.join("items");
        fs::create_dir_all(&items)?;
        for id in 1..=ITEMS {
            let path = items.join(format!("{id}.json"));
            if !path.exists() {
                let words =
                    "hand made and well packed ".repeat(usize::try_from(id % 7).unwrap_or(0));
                let item = json!({ "id": id, "name": format!("Thing {id}"), "text": words });
                fs::write(path, item.to_string())?;
            }
        }
        Ok(Self {
            orders: Mutex::new(OrderLog::open(directory)?),
            directory: directory.to_owned(),
        })
    }

    pub fn handle(&self, request: &Request) -> Response {
        let item = request.path.strip_prefix("/items/");
        match (request.method.as_str(), request.path.as_str(), item) {
            ("GET", "/items", _) => telemetry::serve(request, "/items", || answer(self.items())),
            ("GET", _, Some(id)) => {
                telemetry::serve(request, "/items/{id}", || answer(self.item(id)))
            }
            ("POST", "/orders", _) => {
                telemetry::serve(request, "/orders", || answer(self.order(&request.body)))
            }
            _ => Response::error(404, "no such route"),
        }
    }

    fn items(&self) -> io::Result<Response> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.directory.join("items"))? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
            ids.extend(id.and_then(|id| id.parse::<u32>().ok()));
        }
        ids.sort_unstable();
        Ok(Response::new(200, json!(ids)))
    }

    fn item(&self, id: &str) -> io::Result<Response> {
        let Ok(id) = id.parse::<u32>() else {
            return Ok(Response::error(400, "an item's id is a number"));
        };
        let path = self.directory.join(format!("items/{id}.json"));
        match fs::read(path) {
            Ok(bytes) => Ok(Response::new(200, serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Response::error(404, "no such item"))
            }
            Err(error) => Err(error),
        }
    }

    fn order(&self, body: &[u8]) -> io::Result<Response> {
        let Ok(order) = serde_json::from_slice::<Value>(body) else {
            return Ok(Response::error(400, "an order is JSON"));
        };
        let mut orders = self
            .orders
            .lock()
            .map_err(|_| io::Error::other("the order log is in an unknown state"))?;
        orders.append(&self.directory, &format!("{order}\n"))?;
        Ok(Response::new(201, json!({ "kept": true })))
    }
}

impl OrderLog {
    fn open(directory: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(directory.join("orders.log"))?;
        Ok(Self {
            bytes: file.metadata()?.len(),
            unsynced: 0,
            file,
        })
    }

    fn append(&mut self, directory: &Path, line: &str) -> io::Result<()> {
        if self.bytes > LOG_BYTES {
            fs::rename(directory.join("orders.log"), directory.join("orders.log.1"))?;
            *self = Self::open(directory)?;
        }
        self.file.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        self.unsynced += 1;
        if self.unsynced >= ORDERS_PER_SYNC {
            self.file.sync_all()?;
            self.unsynced = 0;
        }
        Ok(())
    }
}

fn answer(result: io::Result<Response>) -> Response {
    result.unwrap_or_else(|error| {
        tracing::warn!(%error, "request failed");
        let full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        Response::error(if full { 507 } else { 500 }, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_orders_and_serves_items() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(directory.path()).unwrap();
        assert_eq!(
            catalog.items().unwrap().body.as_array().unwrap().len(),
            ITEMS as usize
        );
        assert_eq!(catalog.item("7").unwrap().body["id"], 7);
        assert_eq!(catalog.item("700").unwrap().status, 404);
        assert_eq!(catalog.item("../orders").unwrap().status, 400);
        assert_eq!(catalog.order(b"{\"product\":7}").unwrap().status, 201);
        let log = fs::read_to_string(directory.path().join("orders.log")).unwrap();
        assert_eq!(log, "{\"product\":7}\n");
    }

    #[test]
    fn a_full_log_is_rotated() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = OrderLog::open(directory.path()).unwrap();
        log.bytes = LOG_BYTES + 1;
        log.append(directory.path(), "a\n").unwrap();
        assert!(directory.path().join("orders.log.1").exists());
        assert_eq!(
            fs::read(directory.path().join("orders.log")).unwrap(),
            b"a\n"
        );
    }

    #[test]
    fn a_full_disk_is_507() {
        let full = Err(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(answer(full).status, 507);
        assert_eq!(answer(Err(io::Error::other("x"))).status, 500);
    }
}
