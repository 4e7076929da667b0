#![forbid(unsafe_code)]
//! Puts the rules in force, of bans and of what packets are watched for: in place of those that are there, in
//! as few steps as iptables allows, and as much of them as the kernel has.

use super::mark::NO_VIA;
use super::packets::{self, Packets};
use super::restore::{self, Via};
use super::text::{self, Jumps, Plan, Removal, family_name};
use super::{Fallback, Mark};
use crate::ban::{Capabilities, Capability, Doing, Failure, Options, ScanOptions, SeenOptions};
use crate::base::range::Family;
use nix::errno::Errno;

/// What of packets can be watched one without the other, in the order in which it is tried.
const PARTS: [Capability; 6] = [
    Capability::Scans,
    Capability::Sockets,
    Capability::Floods,
    Capability::Connections,
    Capability::Reports,
    Capability::NewSources,
];

/// What is to be written of a family, and what is there of it.
#[derive(Clone, Copy)]
struct Task {
    family: Family,
    ipv6_prefix: u8,
    /// Where the rules of bans are, and by which program.
    before: Option<(usize, Via)>,
    /// The jumps to those of packets.
    jumps: packets::Jumps,
    kept: Kept,
    /// What another variant of iptables has of ours, which goes when all of it is written anew.
    elsewhere: Elsewhere,
}

/// Where the rules of a family are now, by which program, the jumps to those of packets, and what is missing.
type Written = (usize, Via, packets::Jumps, Capabilities);

/// How often our sets are asked by rules that are not to be counted.
#[derive(Clone, Copy, Default)]
struct Elsewhere {
    bans: Jumps,
    hooks: usize,
}

/// What is on of what packets are watched for, if that is not to be touched.
pub(super) type Kept = Option<packets::Parts>;

impl Fallback {
    /// Rules for both families; once more without what turned out to be missing on the way.
    pub(super) fn write_rules(
        &mut self,
        former: Option<Mark>,
        how: (u8, Kept),
        lacks: Capabilities,
    ) -> Result<Mark, Failure> {
        let mark = self.write_once(former, how, lacks)?;
        if how.1.is_some() || packets::parts(&self.options, lacks) == mark.parts {
            return Ok(mark);
        }
        self.write_once(Some(mark), how, mark.lacks)
    }

    /// Rules for both families. Those of one are there before those of the other, and each has its allow
    /// list from the beginning.
    fn write_once(
        &mut self,
        former: Option<Mark>,
        (ipv6_prefix, kept): (u8, Kept),
        mut lacks: Capabilities,
    ) -> Result<Mark, Failure> {
        let (mut places, mut vias, mut jumps) = ([0; 2], [NO_VIA; 2], [0; 2]);
        let families = Family::ALL.into_iter().filter(|family| *family == Family::V4 || has_ipv6());
        let slots = places.iter_mut().zip(&mut vias).zip(&mut jumps);
        for (family, ((place, via), jumps)) in families.zip(slots) {
            let before = former.and_then(|mark| mark.of(family));
            let there = former.map_or(0, |mark| mark.jumps_of(family));
            let task =
                Task { family, ipv6_prefix, before, jumps: there, kept, elsewhere: Elsewhere::default() };
            let written = match self.move_family(task, lacks)? {
                Some(done) => Ok(done),
                None => self.write_family(task, lacks),
            };
            (*place, *via, *jumps, lacks) = match written {
                Ok(done) => done,
                // Where rules were there are tables: what fails now fails in passing.
                Err(e) if before.is_none() && !is_final(&e) && self.lacks_tables(family) => continue,
                Err(e) => return Err(e),
            };
            // What another place or program has of ours is asked no more.
            if let Some((old, old_via)) = before.filter(|before| *before != (*place, *via)) {
                let stays = old_via == *via && text::share_table(old, *place);
                let removal = if stays { Removal::Jumps } else { Removal::Everything };
                let _ = self.drop_rules(family, (old, old_via), removal);
                if old_via != *via {
                    self.drop_packets(family, old_via, there);
                }
            }
        }
        let logs = self.options.log.is_some() && !lacks.has(Capability::DropLog);
        let parts = kept.unwrap_or(packets::parts(&self.options, lacks));
        let digests = match kept {
            Some(_) => former.map_or([0; 2], |former| former.digests),
            None => digests(&self.options),
        };
        Ok(Mark { ipv6_prefix, logs, places, via: vias, lacks, parts, jumps, digests })
    }

    /// Whether there is no table for the rules of a family, and all programs say so: a kernel may have IPv6,
    /// and none for it.
    fn lacks_tables(&self, family: Family) -> bool {
        let mut places = text::places(&self.options).iter();
        family == Family::V6 && places.all(|place| restore::lacks_table(family, text::table_of(*place)))
    }

    /// Whether there is a table for the rules of a family.
    pub(super) fn has_tables(&self, family: Family) -> bool {
        let mut places = text::places(&self.options).iter();
        places.any(|place| restore::restore(family, &[text::nothing(*place)]).is_ok())
    }

    /// The rules of a family by the variant of iptables that the host has chosen since they were written, if
    /// it has and that works. Who makes a ban leaves everything where it is.
    fn move_family(&mut self, task: Task, lacks: Capabilities) -> Result<Option<Written>, Failure> {
        let (family, chosen) = (task.family, restore::chosen(task.family));
        let Some((place, _)) =
            task.before.filter(|(_, via)| !restore::stays(family, *via) && task.kept.is_none())
        else {
            return Ok(None);
        };
        if restore::restore_via(family, &[text::nothing(place)], chosen).is_err() {
            return Ok(None);
        }
        let bans = self.jumps(family)?;
        let hooks = self.references(&family_name("hooks", family))?;
        let elsewhere = Elsewhere { bans, hooks };
        let task = Task { before: Some((place, chosen)), jumps: 0, elsewhere, ..task };
        match self.write_family(task, lacks) {
            Err(e) if !is_final(&e) => Ok(None),
            result => result.map(Some),
        }
    }

    /// The rules of a family: those of bans and those of packets by one program where that goes well, which
    /// is as a rule.
    fn write_family(&mut self, task: Task, lacks: Capabilities) -> Result<Written, Failure> {
        if task.kept.is_some() {
            let (place, via, lacks) = self.write_bans(task, lacks)?;
            return Ok((place, via, task.jumps, lacks));
        }
        let (parts, jumps) = {
            let wanted = self.packets(task, lacks);
            (wanted.parts(), wanted.jumps())
        };
        let asked = self.hooks_asked(task)?;
        let (guessed, known) = packets::guesses(task.jumps, jumps, asked);
        let [mut likely, ..] = guessed;
        if !known {
            self.sweep_jumps(task, asked)?;
            likely = 0;
        }
        if parts != 0 {
            let place = text::places(&self.options).first().copied().unwrap_or(0);
            let bans = self.bans_texts(task, lacks, place)?.into_iter().next().unwrap_or_default();
            let texts = [bans + &self.packets(task, lacks).write(likely)];
            match self.write_by(task, &texts) {
                Ok(via) => return Ok((place, via, jumps, lacks)),
                Err(e) if is_final(&e) => return Err(e),
                Err(_) => {}
            }
        }
        let (place, via, lacks) = self.write_bans(task, lacks)?;
        if parts == 0 && task.jumps == 0 && asked == 0 {
            return Ok((place, via, 0, lacks));
        }
        let (jumps, lacks) = self.write_packets(task, via, lacks)?;
        Ok((place, via, jumps, lacks))
    }

    /// How many jumps to rules of packets are there.
    fn hooks_asked(&mut self, task: Task) -> Result<usize, Failure> {
        let all = self.references(&family_name("hooks", task.family))?;
        Ok(all.saturating_sub(task.elsewhere.hooks))
    }

    fn packets(&self, task: Task, lacks: Capabilities) -> Packets<'_> {
        Packets::new(&self.options, lacks, task.family, task.ipv6_prefix)
    }

    /// The rules of packets, as much of them as the kernel has.
    fn write_packets(
        &mut self,
        mut task: Task,
        via: Via,
        wanted: Capabilities,
    ) -> Result<(packets::Jumps, Capabilities), Failure> {
        match self.try_packets(task, via, wanted) {
            Err(e) if is_final(&e) => return Err(e),
            Ok(jumps) => return Ok((jumps, wanted)),
            Err(_) => {}
        }
        // One after the other: what is refused is missing.
        let mut lacks = PARTS.into_iter().fold(wanted, Capabilities::and);
        task.jumps = match self.try_packets(task, via, lacks) {
            Ok(jumps) => jumps,
            Err(e) if is_final(&e) => return Err(e),
            // Not even nothing can be written: there is no table for it. Bans need none.
            Err(_) => return Ok((0, lacks)),
        };
        for one in PARTS.into_iter().filter(|one| !wanted.has(*one)) {
            let more = lacks.without(one);
            if let Ok(jumps) = self.try_packets(task, via, more) {
                (task.jumps, lacks) = (jumps, more);
            }
        }
        Ok((task.jumps, lacks))
    }

    fn try_packets(&mut self, task: Task, via: Via, lacks: Capabilities) -> Result<packets::Jumps, Failure> {
        let asked = self.hooks_asked(task)?;
        let wanted = self.packets(task, lacks).jumps();
        let (guesses, _) = packets::guesses(task.jumps, wanted, asked);
        let texts = guesses.map(|there| self.packets(task, lacks).write(there));
        restore::restore_via(task.family, &texts, via)?;
        Ok(wanted)
    }

    /// Takes jumps of packets away one by one, where nobody knows which are there.
    fn sweep_jumps(&mut self, task: Task, mut asked: usize) -> Result<(), Failure> {
        for text in (0..).map_while(|bit| packets::drop_jump(task.family, bit)) {
            let texts = [text];
            while asked > 0 {
                match self.write_by(task, &texts) {
                    Err(e) if is_final(&e) => return Err(e),
                    Err(_) => break,
                    Ok(_) => asked -= 1,
                }
            }
        }
        Ok(())
    }

    /// What is tried at a place, the likeliest first.
    fn bans_texts(&mut self, task: Task, lacks: Capabilities, place: usize) -> Result<Vec<String>, Failure> {
        let parts = task.kept.unwrap_or(packets::parts(&self.options, lacks));
        let bare = parts & (packets::SCAN | packets::FLOOD) != 0;
        let bare = if bare { packets::classes(task.family, task.ipv6_prefix) } else { &[] };
        let guesses = self.guesses(task, place)?;
        let plan = Plan { options: &self.options, scopes: &self.scopes, lacks, place, bare };
        Ok(guesses.iter().map(|jumps| plan.rules(task.family, *jumps)).collect())
    }

    /// How our jumps may stand at a place, the likeliest first. What is not there cannot be deleted, and what
    /// is would be there twice.
    fn guesses(&mut self, task: Task, place: usize) -> Result<Vec<Jumps>, Failure> {
        // Another place may share chains with this one: what is there is that one's.
        const ANYHOW: [Jumps; 4] = [[0, 0], [1, 1], [0, 1], [1, 0]];
        if task.before.is_some_and(|(former, _)| former != place) {
            return Ok(ANYHOW.to_vec());
        }
        let ([hits, gates], [hits_elsewhere, gates_elsewhere]) =
            (self.jumps(task.family)?, task.elsewhere.bans);
        let here = [hits.saturating_sub(hits_elsewhere), gates.saturating_sub(gates_elsewhere)];
        let hooks = text::hooks_of(place);
        if here.iter().all(|jumps| *jumps == 0 || *jumps == hooks) {
            let likely = here.map(|jumps| jumps / hooks);
            // Where nobody knows by which program they were written, that one may have none.
            let others = if task.before.is_none() { &ANYHOW[..] } else { &[] };
            return Ok([&[likely], others].concat());
        }
        let Some((_, via)) = task.before else { return Ok(ANYHOW.to_vec()) };
        // Somebody has deleted one, or added one.
        self.sweep_bans(task.family, (place, via))?;
        Ok(vec![[0, 0]])
    }

    /// The rules of bans.
    fn write_bans(&mut self, task: Task, lacks: Capabilities) -> Result<(usize, Via, Capabilities), Failure> {
        let mut why = None;
        for lacks in [lacks, lacks.and(Capability::DropLog)] {
            for place in text::places(&self.options) {
                match self.write_at(task, lacks, *place) {
                    Ok(via) => return Ok((*place, via, lacks)),
                    Err(e) if is_final(&e) => return Err(e),
                    Err(e) => why.get_or_insert(e),
                };
            }
        }
        Err(why.unwrap_or_else(|| Failure::new(Doing::Change, Errno::EIO, "iptables-restore".to_owned())))
    }

    /// The rules of bans at a place; once more if others have changed jumps meanwhile.
    fn write_at(&mut self, task: Task, lacks: Capabilities, place: usize) -> Result<Via, Failure> {
        for _ in 0..REWRITES_MAX {
            let before = self.jumps(task.family)?;
            let texts = self.bans_texts(task, lacks, place)?;
            match self.write_by(task, &texts) {
                Err(e) if !is_final(&e) && self.jumps(task.family)? != before => {}
                result => return result,
            }
        }
        Err(Failure::new(Doing::Change, Errno::EAGAIN, "others change rules of iptables".to_owned()))
    }

    /// By the program that has the rules of ours, or by whichever works.
    fn write_by(&self, task: Task, texts: &[String]) -> Result<Via, Failure> {
        match task.before.filter(|(_, via)| restore::is_there(task.family, *via)) {
            Some((_, via)) => restore::restore_via(task.family, texts, via),
            None => restore::restore(task.family, texts),
        }
    }

    /// Takes the rules of packets away.
    pub(super) fn drop_packets(&mut self, family: Family, via: Via, there: packets::Jumps) {
        let none = Options::default();
        let (guesses, _) = packets::guesses(there, 0, there.count_ones() as usize);
        let texts = guesses.map(|there| Packets::new(&none, Capabilities::NONE, family, 64).write(there));
        // Others may have done it before.
        let _ = restore::restore_via(family, &texts, via);
    }

    /// Takes our rules out of a place; what is not there need not be taken out. An error is one that passes,
    /// such as a lock that somebody holds.
    pub(super) fn drop_rules(
        &mut self,
        family: Family,
        (place, via): (usize, Via),
        removal: Removal,
    ) -> Result<(), Failure> {
        let plan = Plan { options: &self.options, scopes: &[], lacks: Capabilities::NONE, place, bare: &[] };
        let texts = [[1, 1], [1, 0], [0, 1], [0, 0]].map(|jumps| plan.none(family, jumps, removal));
        match restore::restore_via(family, &texts, via) {
            Err(e) if restore::is_passing(e.errno()) => return Err(e),
            // Others may have done it before.
            Err(_) if removal == Removal::Everything => {}
            _ => return Ok(()),
        }
        let nothing = [plan.none(family, [0, 0], removal)];
        // More of them than there should be, of whatever kind.
        self.sweep_bans(family, (place, via))?;
        let _ = restore::restore_via(family, &nothing, via);
        Ok(())
    }

    /// Takes our jumps to rules of bans away one by one, however many there are in each chain.
    fn sweep_bans(&self, family: Family, (place, via): (usize, Via)) -> Result<(), Failure> {
        let plan = Plan { options: &self.options, scopes: &[], lacks: Capabilities::NONE, place, bare: &[] };
        for text in plan.single_jumps(family) {
            let text = [text];
            let swept = (0..SWEEPS).find_map(|_| restore::restore_via(family, &text, via).err());
            if let Some(e) = swept.filter(|e| restore::is_passing(e.errno())) {
                return Err(e);
            }
        }
        Ok(())
    }
}

/// Jumps of a kind that are taken away one by one, at most.
const SWEEPS: usize = 100;

/// How often rules are written anew because others have changed jumps meanwhile.
const REWRITES_MAX: u32 = 4;

/// What stands for limits by which packets are counted: of scans, and of new sources.
pub(super) fn digests(options: &Options) -> [u16; 2] {
    let Options { scan, seen, .. } = options;
    [scan.as_ref().map_or(0, ScanOptions::digest), seen.as_ref().map_or(0, SeenOptions::digest)]
}

/// Whether nothing else needs to be tried: the lock of xtables is held, or there is no program.
fn is_final(e: &Failure) -> bool {
    matches!(e.errno(), Errno::EBUSY | Errno::ENOENT)
}

/// Whether the kernel has IPv6: without it there are no rules for it.
pub(super) fn has_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}
