//! What a build may leave out, so that it fits on a router. The code of all of it is compiled and checked in
//! every build; where a part begins it is asked whether it is in, and what is behind a constant no is not
//! linked.

/// A part that can be left out, by a feature of cargo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildPart {
    /// Reports to a community cloud.
    Cloud,
    /// What only the operator of a community cloud needs.
    Operator,
    /// Rules of any program as a rule set, and what loading one would change.
    Export,
    /// iptables and ip_set in place of nf_tables.
    Fallback,
    /// What starts mef on other systems than routers, and the manual pages.
    Homes,
    /// The journal of systemd.
    Journal,
    /// The language of the command mefctl.
    Mefctl,
    /// The configuration of other programs.
    Migrate,
    /// Logs read by a process of their own.
    Observer,
    /// The past in numbers, as text and as a page.
    Report,
    /// Service rules over a log, without consequences.
    Test,
    /// Offenders and rules, live.
    Top,
    /// What becomes of an address, and why.
    Why,
}

impl BuildPart {
    /// All of them.
    pub const ALL: [BuildPart; 13] = [
        BuildPart::Cloud,
        BuildPart::Operator,
        BuildPart::Export,
        BuildPart::Fallback,
        BuildPart::Homes,
        BuildPart::Journal,
        BuildPart::Mefctl,
        BuildPart::Migrate,
        BuildPart::Observer,
        BuildPart::Report,
        BuildPart::Test,
        BuildPart::Top,
        BuildPart::Why,
    ];

    /// Whether it is in this program.
    #[must_use]
    #[inline(always)]
    pub const fn is_in(self) -> bool {
        match self {
            BuildPart::Cloud => cfg!(feature = "cloud"),
            BuildPart::Operator => cfg!(feature = "operator"),
            BuildPart::Export => cfg!(feature = "export"),
            BuildPart::Fallback => cfg!(feature = "fallback"),
            BuildPart::Homes => cfg!(feature = "homes"),
            BuildPart::Journal => cfg!(feature = "journal"),
            BuildPart::Mefctl => cfg!(feature = "mefctl"),
            BuildPart::Migrate => cfg!(feature = "migrate"),
            BuildPart::Observer => cfg!(feature = "observer"),
            BuildPart::Report => cfg!(feature = "report"),
            BuildPart::Test => cfg!(feature = "test"),
            BuildPart::Top => cfg!(feature = "top"),
            BuildPart::Why => cfg!(feature = "why"),
        }
    }

    /// Its name, which is that of the feature.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            BuildPart::Cloud => "cloud",
            BuildPart::Operator => "operator",
            BuildPart::Export => "export",
            BuildPart::Fallback => "fallback",
            BuildPart::Homes => "homes",
            BuildPart::Journal => "journal",
            BuildPart::Mefctl => "mefctl",
            BuildPart::Migrate => "migrate",
            BuildPart::Observer => "observer",
            BuildPart::Report => "report",
            BuildPart::Test => "test",
            BuildPart::Top => "top",
            BuildPart::Why => "why",
        }
    }

    /// What is said where it is asked for and is not in.
    #[must_use]
    #[cold]
    pub fn is_missing(self) -> String {
        ["this mef was built without '", self.name(), "'"].concat()
    }

    /// Those that are not in this program.
    pub fn left_out() -> impl Iterator<Item = BuildPart> {
        BuildPart::ALL.into_iter().filter(|part| !part.is_in())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_of_cargo_toml_is_one_and_the_usual_build_has_them_all() {
        let toml = include_str!("../../Cargo.toml");
        let features = toml.split("[features]\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
        let mut there: Vec<&str> = features
            .lines()
            .filter_map(|line| line.split_once(" = "))
            .map(|(name, _)| name)
            .filter(|name| *name != "default")
            .collect();
        let mut known = BuildPart::ALL.map(BuildPart::name);
        known.sort_unstable();
        there.sort_unstable();
        assert_eq!(there, known);
        let usual = features.split("default = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
        assert!(known.iter().all(|name| usual.contains(&["\"", name, "\""].concat())), "{usual}");
    }
}
