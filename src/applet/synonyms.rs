#![forbid(unsafe_code)]
//! What people call a command who know another program.

/// A command, and other words for it.
struct Synonyms {
    command: &'static str,
    /// Separated by blanks.
    words: &'static str,
}

const fn row(command: &'static str, words: &'static str) -> Synonyms {
    Synonyms { command, words }
}

const SYNONYMS: &[Synonyms] = &[
    row("ban", "drop block banip ban-ip jail tempban tempdeny"),
    row("unban", "unblock unbanip release pardon delete del remove rm forget"),
    row("bans", "list ls banned show blocked"),
    row("why", "explain reason grep find search is"),
    row("history", "log logs past journal old"),
    row("report", "stats statistics summary"),
    row("allow", "whitelist permit accept trust ignore ignoreip exempt add"),
    row("disallow", "unwhitelist unallow untrust delete del remove rm"),
    row("deny", "blacklist blocklist reject add"),
    row("undeny", "unblacklist delete del remove rm"),
    row("lists", "list ls whitelists blacklists"),
    row("daemon", "start run server"),
    row("reload", "restart rehash"),
    row("status", "info state ping health stats"),
    row("top", "live"),
    row("watch", "tail follow monitor events log logs"),
    row("lookup", "dnsbl rbl dig"),
    row("rules", "jails services"),
    row("test", "regex simulate"),
    row("load", "apply enable start restore"),
    row("unload", "flush clear disable stop"),
    row("check", "validate verify lint"),
    row("fmt", "format"),
    row("setup", "install uninstall update upgrade"),
    row("migrate", "import convert"),
    row("import-filter", "import"),
];

/// Whether a command is also called by this word.
pub(super) fn is_called(command: &str, word: &str) -> bool {
    let has = |row: &Synonyms| row.words.split(' ').any(|known| known == word);
    SYNONYMS.iter().find(|row| row.command == command).is_some_and(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_of_a_command_and_no_word_is_one() {
        let names: Vec<&str> = super::super::APPLETS.iter().map(|applet| applet.name).collect();
        for row in SYNONYMS {
            assert!(names.contains(&row.command), "{}", row.command);
            for word in row.words.split(' ') {
                assert!(!word.is_empty() && !names.contains(&word), "{word}");
            }
        }
        assert!(is_called("ban", "drop") && !is_called("unban", "drop") && !is_called("version", "drop"));
        assert!(!is_called("ban", "") && !is_called("ban", "drop block"));
    }
}
