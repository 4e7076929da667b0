#![forbid(unsafe_code)]
//! The manual pages know every key that the reader knows, with its default, and no other one.
use super::super::global::{ALIASES, LEGACY};
use super::super::keys::SettingKey;
use super::super::table::{FLOOD_KEYS, KEYS, ZONE_KEYS};
use super::super::*;
use super::super::{service, webscan};
use super::reported;

const PAGE: &str = include_str!("../../../rootfs/usr/share/man/man5/mef.conf.5");
const MAIN: &str = include_str!("../../../rootfs/usr/share/man/man8/mef.8");

/// From a heading to one of the next kind.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let rest = page.split(heading).nth(1).unwrap_or_default();
    let rest = rest.split("\n.Ss ").next().unwrap_or_default();
    rest.split("\n.Sh ").next().unwrap_or_default()
}

fn sorted(mut all: Vec<String>) -> Vec<String> {
    all.sort_unstable();
    all
}

fn shown<T>(keys: &[SettingKey<T>], prefix: &str) -> Vec<String> {
    keys.iter().map(|key| [prefix, key.name, "=", key.default].concat()).collect()
}

#[test]
fn the_manual_of_mef_conf_has_every_key_with_its_default_and_no_other_one() {
    let items = PAGE.lines().filter_map(|line| line.strip_prefix(".It Li "));
    let items = items.map(|item| item.trim_matches('"').to_owned()).collect();
    let keys = [shown(KEYS, ""), shown(ZONE_KEYS, "rbl_NAME_"), shown(FLOOD_KEYS, "ddos_port_PORT_")];
    assert_eq!(sorted(items), sorted(keys.concat()));
}

#[test]
fn the_manual_of_mef_conf_has_every_other_name_and_every_former_key() {
    for (alias, _) in ALIASES {
        assert!(PAGE.contains(&[".Li ", alias, "\nis another name for this key"].concat()), "{alias}");
    }
    let words = section(PAGE, ".Ss Keys of the existing product").split_whitespace();
    let previous =
        words.filter(|word| word.contains('_') || word.starts_with("debug")).map(String::from).collect();
    let known = LEGACY.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(sorted(previous), sorted(known));
}

#[test]
fn the_page_for_users_of_the_existing_product_has_our_defaults() {
    let page = include_str!("../../../rootfs/usr/share/doc/mef/mef-users.md");
    let table = page.split("## Defaults that differ").nth(1).and_then(|rest| rest.split("\n## ").next());
    let mut found = 0;
    for row in table.unwrap_or_default().lines().filter(|line| line.starts_with("| `")) {
        let [_, names, _, ours, ..] = row.split('|').collect::<Vec<_>>()[..] else { panic!("{row}") };
        let backquoted =
            |text: &str| text.split('`').skip(1).step_by(2).map(String::from).collect::<Vec<_>>();
        let known: Vec<_> =
            backquoted(names).iter().filter_map(|name| KEYS.iter().find(|key| key.name == name)).collect();
        for key in known {
            assert!(backquoted(ours).iter().any(|ours| ours == key.default), "{}: {row}", key.name);
            found += 1;
        }
    }
    assert!(found >= 10, "{found}");
}

#[test]
fn the_example_of_the_manual_is_right() {
    let example =
        PAGE.split(".Bd -literal -offset indent\n").nth(1).and_then(|rest| rest.split(".Ed").next());
    let (settings, problems) = parse_global(example.unwrap_or_default().as_bytes());
    assert_eq!(reported(&problems), Vec::<String>::new());
    assert!(settings.flood.enabled && settings.flood.port_limits.len() == 1);
}

/// The keys that a section of mef.8 lists.
fn listed(heading: &str) -> Vec<String> {
    let items = section(MAIN, heading).lines().filter_map(|line| line.strip_prefix(".It Cm "));
    items
        .flat_map(|item| item.split(" , "))
        .map(|name| name.split(' ').next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn the_manual_of_mef_has_every_key_of_service_rules_and_no_other_one() {
    let mut keys: Vec<String> = service::KEYS.iter().map(|key| key.name.to_owned()).collect();
    keys.extend(service::PATTERN_KEYS.map(String::from));
    keys.push("failregex@".to_owned());
    assert_eq!(sorted(listed(".Ss Service rules\n")), sorted(keys));

    let mut keys: Vec<String> = webscan::KEYS.iter().map(|key| key.name.to_owned()).collect();
    keys.extend(webscan::OWN.map(String::from));
    assert_eq!(sorted(listed(".Ss Scanners of web sites\n")), sorted(keys));
    for key in webscan::WEBSCAN {
        let text = format!(".Cm {}\n.Pq {} ,", key.name, key.default);
        assert!(section(MAIN, ".Ss Scanners of web sites\n").contains(&text), "{text}");
    }
}
