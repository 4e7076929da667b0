#![forbid(unsafe_code)]
//! The allow list: every address that is never banned, out of the files of `whitelist_dir`.

use crate::base::range::{Range, merge};
use crate::config::{ListLine, Settings, conf_files, read_list};
use crate::sys::fs::{Links, open_regular};

/// Reads all files. A bad line is told and passed over; a file that is mostly bad, or cannot be read, is told
/// and left out.
pub(crate) fn allowed(settings: &Settings) -> Vec<Range> {
    let dir = std::path::Path::new(&settings.whitelist_dir);
    let mut all = Vec::new();
    let names = match conf_files(dir) {
        Ok(names) => names,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return all,
        Err(e) => {
            log::warn!("{}: {e}", dir.to_string_lossy());
            return all;
        }
    };
    for name in names {
        let path = dir.join(&name);
        let mut ranges = Vec::new();
        let counts = open_regular(&path, Links::Follow).and_then(|mut file| {
            read_list(&mut file, &mut |line| match line {
                ListLine::Net(net) => ranges.push(Range::from(net)),
                ListLine::Bad(p, _) => {
                    log::warn!("{}:{}:{}: {}", path.to_string_lossy(), p.line, p.col, p.what)
                }
            })
        });
        match counts {
            Ok(counts) if counts.refused() => {
                log::warn!(
                    "{}: more than half of its lines are bad; the file is left out",
                    path.to_string_lossy()
                );
            }
            Ok(_) => all.append(&mut ranges),
            Err(e) => log::warn!("{}: {e}", path.to_string_lossy()),
        }
    }
    merge(&mut all);
    all
}

/// Whether a sorted, merged list has an address of the range.
pub(super) fn meets(list: &[Range], range: &Range) -> bool {
    let after = list.partition_point(|r| r < range);
    let near = [after.checked_sub(1), Some(after)];
    near.into_iter().flatten().filter_map(|i| list.get(i)).any(|r| r.meets(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_searched_as_a_walk_would() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut pick = || {
            let (a, b) = (rng.u8(..), rng.u8(..).min(16));
            let first = std::net::IpAddr::from([10, 0, 0, a]);
            Range::new(first, std::net::IpAddr::from([10, 0, 0, a.saturating_add(b)])).unwrap()
        };
        for _ in 0..200 {
            let mut list: Vec<Range> = (0..6).map(|_| pick()).collect();
            merge(&mut list);
            for _ in 0..20 {
                let range = pick();
                assert_eq!(meets(&list, &range), list.iter().any(|r| r.meets(&range)), "{range} in {list:?}");
            }
        }
        assert!(!meets(&[], &pick()));
    }
}
