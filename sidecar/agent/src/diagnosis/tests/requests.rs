//! What the shop does for a request: the normal way, and broken ways.

use super::shop::*;
use crate::record::{Direction, HttpHead, HttpMessage, Record};

impl Shop {
    /// Twelve seconds in which every request goes wrong by `break_it` in the catalog, then
    /// normal work.
    pub(super) fn broken_catalog(break_it: impl Fn(&mut Calls)) -> Self {
        let mut shop = Shop::learnt();
        shop.each_second(12, |shop| {
            shop.requests(20, |shop| {
                shop.request_with(|_| {}, |calls| break_it(calls), 400);
            });
        });
        shop.work(15, 20);
        shop
    }

    /// A request whose catalog asks for a connection without waiting, and is told by the socket that
    /// it failed.
    pub(super) fn request_told_by_the_socket(&mut self, error: i64) {
        let mut calls = self.calls(CATALOG, 1);
        calls.call("read", 5, 100, 5).call("socket", -1, 12, 5);
        calls.connect(REDIS_AT, 12, -115);
        calls
            .call("poll", -1, 1, 20)
            .call("getsockopt", 12, error, 2)
            .call("close", 12, 0, 2);
        calls.call("write", 5, 200, 15);
        self.run(calls);
    }

    /// A request to the api as it normally goes.
    pub(super) fn request(&mut self) {
        self.request_with(|_| {}, |_| {}, 400);
    }

    /// The catalog's answer as HTTP.
    pub(super) fn answered(&mut self, status: u16) {
        self.answered_by(CATALOG, status);
    }

    pub(super) fn answered_by(&mut self, container: u16, status: u16) {
        self.engine.on_record(&Record::Http(HttpHead {
            at_ns: self.now + 3 * MS,
            container,
            pid: pid(container),
            tid: pid(container) + 1,
            fd: 5,
            direction: Direction::Outgoing,
            message: HttpMessage::Response { status },
        }));
    }

    /// A request whose catalog asks for a connection without waiting, and gives it up at once.
    pub(super) fn request_that_gives_up_connecting(&mut self) {
        let mut calls = self.calls(CATALOG, 1);
        calls.call("read", 5, 100, 5).call("socket", -1, 12, 5);
        calls.connect(REDIS_AT, 12, -115);
        calls
            .call("poll", -1, 1, 20)
            .call("getsockopt", 12, 0, 2)
            .call("close", 12, 0, 2);
        calls.call("write", 5, 200, 15);
        self.run(calls);
    }

    /// A request whose catalog makes other calls: `before` its own, `stored` in place of its
    /// write to the log (none: the normal write), with a redis that answers in `redis_us`.
    pub(super) fn request_with(
        &mut self,
        api: impl FnOnce(&mut Calls),
        catalog: impl FnOnce(&mut Calls),
        redis_us: u64,
    ) {
        let mut redis_us = redis_us + self.jitter(redis_us / 5);
        if self.heavy_tail {
            let doublings = self.jitter(1 << 12).trailing_zeros().min(12);
            redis_us = (redis_us as f64 * 1.5f64.powi(doublings as i32)) as u64;
        }
        let mut at_catalog = self.calls(CATALOG, 1);
        at_catalog.at += MS;
        at_catalog.call("read", 5, 100, 5);
        let item = 9 + self.open;
        at_catalog
            .open("/data/item", i64::from(item))
            .call("read", item, 512, 10)
            .call("close", item, 0, 2);
        (self.habit)(&mut at_catalog);
        catalog(&mut at_catalog);
        at_catalog
            .call("sendto", 7, 30, 20)
            .call("recvfrom", 7, 90, redis_us);
        at_catalog
            .call("write", 4, 80, 30)
            .call("fsync", 4, 0, 900)
            .call("write", 5, 200, 15);
        let ended = at_catalog.at;
        self.run(at_catalog);
        let mut at_api = self.calls(API, 1);
        at_api.call("read", 5, 120, 5);
        at_api
            .open("/etc/prices", 8)
            .call("read", 8, 300, 10)
            .call("close", 8, 0, 2);
        api(&mut at_api);
        at_api.call("sendto", 6, 100, 20);
        let waits = ended.saturating_sub(at_api.at) / 1000 + 50;
        at_api
            .call("recvfrom", 6, 200, waits)
            .call("write", 5, 250, 20);
        self.run(at_api);
        let mut at_redis = self.calls(REDIS, 0);
        at_redis
            .call("epoll_wait", 3, 1, 4000)
            .call("read", 5, 30, 4)
            .call("write", 5, 90, 8);
        self.run(at_redis);
    }
}
