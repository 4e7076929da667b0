//! Sets that are too large to be listed each time: they are known again by what stands for them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use crate::common::{Net, load, uncounted};

const RULES: &str = "set name=country family=any type=addr file=country.txt\n\
                     rule dir=in action=drop proto=all src=@country\n";

/// So many addresses of each family, one every four, and whatever else.
fn addresses(v4: u32, v6: u32, more: &str) -> String {
    let v4 = (0..v4).map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + n * 4).to_string());
    let v6 = (0..v6).map(|n| format!("2001:db8::{:x}:{:x}", n >> 12, (n & 0xfff) * 4));
    v4.chain(v6).chain([more.to_owned()]).flat_map(|line| [line, "\n".to_owned()]).collect()
}

/// What `mef diff` says of the file.
fn diff(net: &Net, path: &str) -> Vec<String> {
    let said = net.mef(&["diff", path]);
    let lines: Vec<String> = said.stdout.lines().map(str::to_owned).collect();
    assert_eq!(said.status, i32::from(!lines.is_empty()), "{said:?}");
    lines
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn large_sets_are_compared_by_what_stands_for_them() {
    let net = Net::new();
    let path = net.write("country.rules", RULES);
    let path = path.to_str().unwrap();
    for (v4, v6, large) in [(20_000, 3, 1), (3, 20_000, 1), (20_000, 20_000, 2)] {
        net.write("country.txt", &addresses(v4, v6, ""));
        net.mef(&["load", "--force", path]).ok();
        assert!(diff(&net, path).is_empty());
        let shown = net.nft_list("table inet mef");
        assert_eq!(shown.matches("comment \"20000 elements, hash ").count(), large, "by its comment");
        // One address more, less, or another one: the set is told, and not all that is in it.
        for (text, what) in [
            (addresses(v4, v6, "192.0.2.1"), "one more of IPv4"),
            (addresses(v4, v6, "2001:db8:1::1"), "one more of IPv6"),
            (addresses(v4 - 1, v6, ""), "one less of IPv4"),
            (addresses(v4, v6 - 1, "2001:db8::ffff:ffff"), "another one of IPv6"),
        ] {
            net.write("country.txt", &text);
            let lines = diff(&net, path);
            let (old, new) = (&lines[0], &lines[1]);
            assert!(lines.len() == 2 && old.starts_with("- set name=country "), "{what}: {lines:?}");
            assert!(new.starts_with("+ set name=country ") && new.contains(" elements, hash "), "{new}");
            assert!(new.len() < 200, "{new}");
        }
        // In another order it is the same; and so is what is kept for the next boot, and what nft reads.
        let text = addresses(v4, v6, "");
        net.write("country.txt", &text.lines().rev().flat_map(|line| [line, "\n"]).collect::<String>());
        assert!(diff(&net, path).is_empty());
        let kept = net.path("lib/mef/confirmed.rules");
        assert!(diff(&net, kept.to_str().unwrap()).is_empty());
        net.mef(&["load", "--force", kept.to_str().unwrap()]).ok();
        assert!(diff(&net, path).is_empty());
        net.mef_input(&["load", "--force", "--confirm", "1s", path], b"");
        assert!(diff(&net, path).is_empty(), "the previous rules are back");
        // An export has every element.
        let exported = net.mef(&["export"]).ok();
        load(&net, &exported);
        assert_eq!(uncounted(&net.nft_list("table inet mef")), uncounted(&shown));
        assert!(diff(&net, path).is_empty(), "with the elements in the statement");
        net.mef(&["unload"]).ok();
        net.nft(&shown);
        // Whose rules these are is lost with that, but not what is in the sets.
        assert!(!diff(&net, path).iter().any(|line| line.contains("set name=")), "as nft has read it");
    }
}

/// Others may change what is listed, and that is seen.
#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn what_others_add_to_a_small_set_is_seen() {
    let net = Net::new();
    let path = net.write("country.rules", RULES);
    let path = path.to_str().unwrap();
    net.write("country.txt", &addresses(1000, 3, ""));
    net.mef(&["load", "--force", path]).ok();
    assert!(diff(&net, path).is_empty() && !net.nft_list("table inet mef").contains("comment"));
    net.nft("add element inet mef country.4 { 192.0.2.1 }");
    assert_eq!(diff(&net, path).len(), 2);
    // Whose rules these are is asked without their elements.
    net.nft("add chain inet mef other { type filter hook input priority 9; }");
    let said = net.mef(&["unload"]);
    assert!(said.stderr.contains("of another program"), "{said:?}");
}
