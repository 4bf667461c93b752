//! The cache in redis: a few connections, each used by one request at a time.

use std::net::SocketAddr;
use std::sync::Mutex;

use opentelemetry::KeyValue;
use redis::{Client, Cmd, Connection, ConnectionInfo, FromRedisValue, RedisResult};

use super::Settings;
use crate::{DEPENDENCY_TIMEOUT, telemetry};

pub(super) struct Cache {
    client: Client,
    address: SocketAddr,
    idle: Mutex<Vec<Connection>>,
}

impl Cache {
    pub(super) fn new(address: SocketAddr) -> RedisResult<Self> {
        let info: ConnectionInfo = format!("redis://{address}").parse()?;
        // The first thing sent on a connection is then the request's own command, under its time-out.
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        Ok(Self {
            client: Client::open(info.set_redis_settings(settings))?,
            address,
            idle: Mutex::default(),
        })
    }

    pub(super) fn get(&self, key: &str, settings: Settings) -> RedisResult<Option<String>> {
        self.run("GET", &Cmd::get(key), settings)
    }

    pub(super) fn set(&self, key: &str, value: &str, settings: Settings) -> RedisResult<()> {
        let command = Cmd::set_ex(key, value, settings.cache_seconds);
        self.run("SET", &command, settings)
    }

    fn run<T: FromRedisValue>(
        &self,
        name: &'static str,
        command: &Cmd,
        settings: Settings,
    ) -> RedisResult<T> {
        let attributes = vec![
            KeyValue::new("db.system.name", "redis"),
            KeyValue::new("db.operation.name", name),
            KeyValue::new("server.address", self.address.ip().to_string()),
            KeyValue::new("server.port", i64::from(self.address.port())),
        ];
        telemetry::call(name.to_owned(), attributes, || {
            self.query(command, settings.keep_alive)
        })
    }

    /// Runs `command` on an idle connection, or on a new one when there is none or it turns out
    /// to be broken.
    fn query<T: FromRedisValue>(&self, command: &Cmd, keep_alive: bool) -> RedisResult<T> {
        if let Some(connection) = self.take_idle().filter(|_| keep_alive) {
            match self.query_on(connection, command, keep_alive) {
                Err(error) if error.is_connection_dropped() => {}
                result => return result,
            }
        }
        let connection = self.client.get_connection()?;
        connection.set_read_timeout(Some(DEPENDENCY_TIMEOUT))?;
        connection.set_write_timeout(Some(DEPENDENCY_TIMEOUT))?;
        self.query_on(connection, command, keep_alive)
    }

    /// A connection on which anything failed is closed: an answer may still be on its way to it.
    fn query_on<T: FromRedisValue>(
        &self,
        mut connection: Connection,
        command: &Cmd,
        keep_alive: bool,
    ) -> RedisResult<T> {
        let value = command.query(&mut connection)?;
        if keep_alive && let Ok(mut idle) = self.idle.lock() {
            idle.push(connection);
        }
        Ok(value)
    }

    fn take_idle(&self) -> Option<Connection> {
        self.idle.lock().ok()?.pop()
    }
}
