//! What a single call says, where there may be no second.

use super::shop::*;
use crate::diagnosis::report::FaultClass::*;

/// One request every few seconds: there is no second error to wait for.
#[test]
fn a_limit_or_a_disk_that_fails_or_is_full_says_so_once_and_a_read_only_one_twice() {
    let disks = [(-5, true), (-28, true), (-122, true), (-30, false)];
    let disks = disks.map(|(ret, confirmed)| ("fsync", 4, ret, confirmed));
    let limits = [("socket", -1, -24, true), ("clone3", -1, -11, true)];
    let limits = limits.into_iter().chain([("mmap", -1, -12, false)]);
    for (name, fd, ret, confirmed) in disks.into_iter().chain(limits) {
        let mut shop = Shop::learnt();
        shop.request_with(
            |_| {},
            |c| {
                c.call(name, fd, ret, 9);
            },
            400,
        );
        shop.work(10, 20);
        let said = shop.has_confirmed();
        assert_eq!(said, confirmed, "{name} {ret}: {}", shop.brief());
    }
}

/// Its open was only counted.
#[test]
fn input_output_errors_of_what_is_not_known_to_be_a_file() {
    for (fd, confirmed) in [(33, true), (2, false)] {
        let mut shop = Shop::learnt();
        shop.request_with(
            |_| {},
            |c| {
                c.call("write", fd, -5, 9);
            },
            400,
        );
        shop.work(10, 20);
        let classes: Vec<_> = shop.diagnoses().iter().map(|d| d.class).collect();
        let said = classes.contains(&DiskIoError);
        assert_eq!(said, confirmed, "{fd}: {}", shop.brief());
    }
}

/// One request every few seconds: there is no second error to wait for.
#[test]
fn a_file_that_used_to_open_is_forbidden_or_missing_once() {
    for (path, ret, confirmed) in [
        ("/data/item", -13, true),
        ("/data/other", -13, false),
        ("/data/item", -2, true),
        ("/data/other", -2, false),
    ] {
        let mut shop = Shop::learnt();
        shop.request_with(
            |_| {},
            |c| {
                c.open(path, ret);
            },
            400,
        );
        shop.work(10, 1);
        let said = shop.has_confirmed();
        assert_eq!(said, confirmed, "{path}: {}", shop.brief());
    }
}
