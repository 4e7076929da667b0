#![forbid(unsafe_code)]
//! The service rules inside the binary: the files of rootfs/etc/mef/rules.d without their comments and
//! examples, packed when it is built. They are unpacked one after the other for as long as somebody looks for
//! one, so that those that are not on cost no memory.

use crate::base::packed;

/// What `cross/build.rs` has made of the files.
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rules.packed"));

/// Calls `each` with the name and the text of every rule, by name, until that is false.
pub fn builtin(each: &mut dyn FnMut(&str, &str) -> bool) {
    packed::each(PACKED, each);
}

/// The text of one rule.
pub fn builtin_text(name: &str) -> Option<String> {
    let mut found = None;
    builtin(&mut |other, text| {
        if other == name {
            found = Some(text.to_owned());
        }
        found.is_none()
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_service;

    /// The entries of a rule's text, whatever stands between them.
    fn entries(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    }

    #[test]
    fn every_file_is_inside_but_for_its_comments() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/rootfs/etc/mef/rules.d");
        let mut names: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut inside = Vec::new();
        builtin(&mut |name, text| {
            inside.push(format!("{name}.conf"));
            let file = std::fs::read_to_string(format!("{dir}/{name}.conf")).unwrap();
            assert!(text.contains("[rule]\n") && !text.contains("\n#"), "{name}");
            assert_eq!(entries(text), entries(&file), "{name}");
            let rule = |text: &str| parse_service(name, text.as_bytes()).0.unwrap();
            let patterns = |text: &str| {
                rule(text).fail.into_iter().map(|p| (p.text.text, p.weight, p.least)).collect::<Vec<_>>()
            };
            assert_eq!(patterns(text), patterns(&file), "{name}");
            true
        });
        assert_eq!(inside, names);
        assert!(PACKED.len() < 145 * names.len(), "{} bytes", PACKED.len());
    }

    #[test]
    fn one_is_found_by_its_name() {
        assert!(builtin_text("sshd").is_some_and(|text| text.contains("programs=sshd")));
        assert!(
            builtin_text("xrdp").is_some() && builtin_text("ssh").is_none() && builtin_text("").is_none()
        );
    }
}
