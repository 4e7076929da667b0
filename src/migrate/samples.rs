#![forbid(unsafe_code)]
//! Lines of logs with what fail2ban's own tests want of them: `failJSON` in front of each.

use crate::base::net::parse_addr;
use std::net::IpAddr;

/// A line, and for whom it is a hit.
pub(super) struct Sample {
    pub(super) line: String,
    pub(super) hit: Option<IpAddr>,
}

impl Sample {
    /// As an example of a service rule.
    pub(super) fn example(&self) -> String {
        // A comment in the file of a rule: what would end it is written as a number.
        let line: String = self
            .line
            .chars()
            .map(|c| match c {
                '\\' => "\\\\".into(),
                c if c.is_control() => format!("\\x{:02x}", u32::from(c)),
                c => c.to_string(),
            })
            .collect();
        match self.hit {
            Some(addr) => format!("#+ {addr} {line}\n"),
            None => format!("#- {line}\n"),
        }
    }
}

/// The samples for a mode, of which there is a `usual` one that need not be said; those with a host name in
/// the place of an address cannot be one here.
pub(super) fn read(text: &str, mode: &str, usual: &str) -> Vec<Sample> {
    let (mut all, mut applies, mut wanted) = (Vec::new(), true, None::<String>);
    for line in text.lines() {
        if let Some(options) = after(line, "filterOptions:") {
            applies = options_fit(options, mode, usual);
        } else if let Some(json) = after(line, "failJSON:") {
            wanted = Some(json.to_owned());
        } else if line.starts_with('#') && wanted.is_none() {
            continue;
        } else if let Some(json) = wanted.take().filter(|_| applies) {
            if json.contains("\"constraint\"") {
                continue;
            }
            let is_match = field(&json, "match").is_some_and(|value| value.starts_with("true"));
            let host = field(&json, "host").map(|value| value.trim_start_matches('"'));
            let addr = host.and_then(|host| parse_addr(host.split('"').next()?.as_bytes()));
            if is_match == addr.is_some() {
                all.push(Sample { line: line.to_owned(), hit: addr });
            }
        }
    }
    all
}

fn after<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    line.strip_prefix('#')?.trim_start().strip_prefix(word)
}

/// The value of a field, as it stands.
fn field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&["\"", name, "\""].concat())?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

/// Whether one of the sets of options is this mode and nothing else that matters.
fn options_fit(options: &str, mode: &str, usual: &str) -> bool {
    options.split('{').skip(1).any(|set| {
        let set = set.split('}').next().unwrap_or("");
        let is_mode = match field(set, "mode") {
            Some(value) => value.trim_start_matches('"').split('"').next() == Some(mode),
            None => mode == usual,
        };
        let is_file = field(set, "logtype").is_none_or(|value| value.starts_with("\"file"));
        let plain = set.matches(':').count() <= 2;
        is_mode && is_file && plain
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_for_their_mode() {
        let text = "# filterOptions: [{}, {\"mode\": \"aggressive\"}]\n# a comment\n\
                    # failJSON: { \"match\": true , \"host\": \"192.0.2.1\" }\none\n\
                    # failJSON: { \"match\": false }\ntwo\n\
                    # failJSON: { \"match\": true , \"host\": \"example.com\" }\nthree\n\
                    # filterOptions: {\"mode\": \"ddos\"}\n\
                    # failJSON: { \"match\": true , \"host\": \"192.0.2.2\" }\nfour\n";
        let lines =
            |mode: &str| read(text, mode, "normal").iter().map(|s| s.line.clone()).collect::<Vec<_>>();
        assert_eq!(lines("normal"), ["one", "two"]);
        assert_eq!(lines("ddos"), ["four"]);
        assert_eq!(read(text, "normal", "normal")[0].example(), "#+ 192.0.2.1 one\n");
    }
}
