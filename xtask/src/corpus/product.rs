//! The servers of the corpus.

use super::Fault;
use crate::lab::is_installed;

/// A server and what it is.
#[derive(Debug)]
pub(crate) struct Product {
    pub(crate) name: &'static str,
    /// Application type; `stranger` for what is none of them.
    pub(crate) kind: &'static str,
    /// Programs that have to be installed.
    programs: &'static [&'static str],
    /// What it speaks, as the load calls it.
    pub(crate) protocol: &'static str,
    /// What is done to it; nothing for one that only tells types apart.
    pub(crate) faults: &'static [Fault],
}

const fn product(
    name: &'static str,
    kind: &'static str,
    programs: &'static [&'static str],
    protocol: &'static str,
    faults: &'static [Fault],
) -> Product {
    Product {
        name,
        kind,
        programs,
        protocol,
        faults,
    }
}

use Fault::{
    DependencyStopped, Descriptors, DiskFull, FileMissing, PermissionDenied, Program, Reconfigured,
};

pub(crate) const PRODUCTS: [Product; 22] = [
    product(
        "nginx",
        "http-server",
        &["nginx"],
        "http",
        &[
            FileMissing,
            PermissionDenied,
            Descriptors,
            DiskFull,
            Reconfigured,
            Program,
        ],
    ),
    product(
        "apache",
        "http-server",
        &["apache2"],
        "http",
        &[FileMissing, Descriptors, Reconfigured, Program],
    ),
    product("lighttpd", "http-server", &["lighttpd"], "http", &[]),
    product(
        "redis",
        "key-value-cache",
        &["redis-server", "redis-cli"],
        "redis",
        &[Descriptors, DiskFull, Reconfigured, Program],
    ),
    product(
        "memcached",
        "key-value-cache",
        &["memcached"],
        "memcached",
        &[],
    ),
    product(
        "postgres",
        "sql-database",
        &["setpriv", "psql"],
        "postgres",
        &[Descriptors, DiskFull, Reconfigured, Program],
    ),
    product(
        "mariadb",
        "sql-database",
        &["mariadbd", "mariadb"],
        "mysql",
        &[],
    ),
    product(
        "mosquitto",
        "message-broker",
        &["mosquitto"],
        "mqtt",
        &[Descriptors, Program],
    ),
    product(
        "rabbitmq",
        "message-broker",
        &["rabbitmq-server"],
        "mqtt",
        &[],
    ),
    product("nats", "message-broker", &["nats-server"], "nats", &[]),
    product(
        "haproxy",
        "reverse-proxy",
        &["haproxy"],
        "http",
        &[DependencyStopped, Descriptors, Program],
    ),
    product("nginx-proxy", "reverse-proxy", &["nginx"], "http", &[]),
    product("apache-proxy", "reverse-proxy", &["apache2"], "http", &[]),
    product(
        "node",
        "node",
        &["node"],
        "http",
        &[FileMissing, Descriptors, Program],
    ),
    product("node-files", "node", &["node"], "http", &[]),
    product(
        "python",
        "python",
        &["/usr/bin/python3"],
        "http",
        &[FileMissing, Descriptors, Program],
    ),
    product(
        "python-asyncio",
        "python",
        &["/usr/bin/python3"],
        "http",
        &[],
    ),
    product(
        "java",
        "jvm",
        &["java"],
        "http",
        &[FileMissing, Descriptors, Program],
    ),
    product("java-sockets", "jvm", &["java"], "http", &[]),
    product("go", "stranger", &["go"], "http", &[]),
    product("tokio", "stranger", &[], "http", &[]),
    product("tokio-asking", "stranger", &[], "http", &[]),
];

impl Product {
    /// A program that it needs and that is not there.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        let mut programs = self.programs.iter().copied();
        programs.find(|program| !is_installed(program))
    }

    /// Whether another server is asked by it.
    pub(crate) fn asks(&self) -> bool {
        self.kind == "reverse-proxy" || self.name == "tokio-asking"
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_type_has_two_products_so_that_one_can_be_left_out() {
        let names: BTreeSet<_> = PRODUCTS.iter().map(|product| product.name).collect();
        assert_eq!(names.len(), PRODUCTS.len());
        let kinds: BTreeSet<_> = PRODUCTS.iter().map(|product| product.kind).collect();
        for kind in &kinds {
            let of_kind = PRODUCTS.iter().filter(|product| product.kind == *kind);
            assert!(of_kind.count() >= 2, "{kind}");
        }
        let with_faults = PRODUCTS.iter().filter(|product| !product.faults.is_empty());
        assert!(kinds.len() >= 9 && with_faults.count() >= 6);
    }
}
