//! Hosts that route: what their rules do to packets after those that translate addresses have led them where
//! they go, by the same evaluator.

use super::evaluator::{Evaluator, Seen, Verdict};
use super::{HOSTS, is_global, seen_at, shots};
use crate::common::town::{Came, Shot, Town};
use std::collections::BTreeMap;
use std::path::Path;

/// Where a packet comes to once it is translated, as it is then. What has no connection goes as before.
struct Led {
    shot: Shot,
    hook: Option<Came>,
    translated: bool,
}

fn led(town: &Town, evaluator: &Evaluator, shot: &Shot, before: Option<Came>) -> Led {
    let at = Seen { dir: "pre", oif: "", ..seen_at(Came::In, town, shot) };
    let to = evaluator.translated(&at).filter(|_| shot.from.is_some());
    let Some(to) = to else { return Led { shot: *shot, hook: before, translated: false } };
    let is_own = (0..5).any(|zone| Town::own(zone).contains(&to.dst));
    // Nothing is forwarded of an address that is of a link alone.
    let goes = is_own || is_global(&shot.src);
    let hook = goes.then_some(if is_own { Came::In } else { Came::Fwd });
    Led { shot: to, hook, translated: true }
}

#[test]
#[cfg_attr(not_root, ignore = "needs root")]
fn hosts_that_route_do_to_translated_packets_what_their_files_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ruleset/hosts/routed");
    let (mut led_away, mut hosts) = (0, 0);
    for (name, links) in HOSTS {
        let Ok(text) = std::fs::read_to_string(directory.join(name).with_extension("rules")) else {
            continue;
        };
        hosts += 1;
        let mut town = Town::new(links);
        let evaluator = Evaluator::new(&text);
        let shots = shots(&text);
        let before = town.fates(&shots);
        let loaded = town.net.mef_input(&["load", "--force", "-"], text.as_bytes());
        assert_eq!(loaded.status, 0, "{name}: {loaded:?}");
        let came = town.fates(&shots);
        let (mut seen, mut wrong) = (BTreeMap::new(), Vec::new());
        for ((shot, before), came) in shots.iter().zip(&before).zip(&came) {
            let led = led(&town, &evaluator, shot, before.first().copied());
            let Some(hook) = led.hook else { continue };
            let packet = Seen { translated: led.translated, ..seen_at(hook, &town, &led.shot) };
            let verdict = evaluator.verdict(&packet);
            *seen.entry((packet.dir, verdict, led.translated)).or_insert(0) += 1;
            let is_wrong = match verdict {
                Verdict::Passes => !came.contains(&hook),
                Verdict::Stopped => !came.is_empty(),
                Verdict::Limited => false,
            };
            if is_wrong {
                wrong.push(format!("{verdict:?} {packet:?} came {came:?}, was {shot:?}"));
            }
        }
        let first = &wrong[..wrong.len().min(5)];
        assert!(wrong.is_empty(), "{name}: {} of {} are wrong: {first:#?}", wrong.len(), shots.len());
        assert!(seen.len() > 2, "{name}: {seen:?}");
        led_away += seen.iter().filter(|((.., translated), _)| *translated).map(|(_, n)| n).sum::<usize>();
        // The listing is one that nft reads, and mef itself reads back what it has loaded.
        assert_eq!(town.net.mef_input(&["diff", "-"], text.as_bytes()).status, 0, "{name}");
        let listed = town.net.nft_list("table inet mef");
        town.net.mef(&["unload"]).ok();
        town.net.nft(&listed);
        let again = town.net.nft_list("table inet mef");
        assert_eq!(crate::common::uncounted(&again), crate::common::uncounted(&listed), "{name}");
    }
    assert!(hosts == 7 && led_away > 50, "{hosts} hosts, {led_away} packets were translated");
}
