#![forbid(unsafe_code)]
//! `mef setup`: makes mef at home here, or takes it away again. Says what it will do, what it did, and how to
//! take that back.

mod execute;
mod found;
mod switch;
mod take_away;

use super::args::parse;
use super::columns::EachLine;
use super::output::{Output, OutputError, required};
use crate::base::build_part::BuildPart;
use crate::base::count::count;
use crate::config::{DEFAULT_PATH, Settings, is_ours, parse_global};
use crate::control::client::{ControlClient, Patience};
use crate::control::proto::Request;
use crate::setup::{self, DaemonChange, Init, Manifest, NAMES, PlanTrouble, Removal, Root, SetupStep};
use crate::sys::child::{self, ChildExit};
use crate::sys::handover::hand_over;
use crate::sys::process;
use crate::trial::Saved;
use argh::FromArgs;
use execute::{execute, run_all};
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use switch::Switch;

/// Write configuration, manual pages and what starts mef at boot, and start it. What you changed is never
/// overwritten.
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    note = "No questions are asked. The peer of the SSH session that runs this is allowed for an hour.\nThe \
        rule set is loaded at boot once you have changed or loaded it, and now only with --load.",
    example = "mef setup --init systemd --dry-run\n  mef setup --init systemd --remove --purge --dry-run"
)]
struct SetupArgs {
    /// the init system: auto, systemd, openrc, runit, s6, procd, sysvinit, busybox, none
    #[argh(option, arg_name = "name", default = "\"auto\".to_owned()")]
    init: String,
    /// set up a tree that does not run, such as an image
    #[argh(option, arg_name = "dir")]
    root: Option<String>,
    /// only say what would be done
    #[argh(switch)]
    dry_run: bool,
    /// do not start the daemon
    #[argh(switch)]
    no_start: bool,
    /// put an address or network on the allow list; may be repeated
    #[argh(option, arg_name = "addr")]
    allow: Vec<String>,
    /// load the rule set and wait 60s for its confirmation; in an image, at its first boot
    #[argh(switch)]
    load: bool,
    /// write the files of a new version, and restart the daemon
    #[argh(switch)]
    upgrade: bool,
    /// remove what starts it; configuration and bans stay
    #[argh(switch)]
    remove: bool,
    /// one JSON object per line
    #[argh(switch)]
    json: bool,
    /// with --remove: also configuration, bans, lists and rule set
    #[argh(switch)]
    purge: bool,
}

/// What all of it is about.
struct SetupJob {
    root: Root,
    init: Init,
    manifest: Manifest,
    dry_run: bool,
}

impl SetupJob {
    /// What mef.conf says there.
    fn settings(&self) -> Settings {
        parse_global(self.root.text(DEFAULT_PATH).as_bytes()).0
    }
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: SetupArgs = parse("setup", args)?;
    if !args.json {
        return carry_out(&args, output);
    }
    let mut objects = EachLine::objects(output.out);
    let mut inner = Output { out: &mut objects, problems: 0 };
    carry_out(&args, &mut inner)
}

fn carry_out(args: &SetupArgs, output: &mut Output<'_>) -> Result<(), OutputError> {
    let wrong = |text: &str| Err(OutputError::Usage(text.to_owned()));
    if args.purge && !args.remove {
        return wrong("--purge goes with --remove");
    }
    if args.remove && (args.load || args.upgrade || !args.allow.is_empty()) {
        return wrong("--remove goes with --purge, --init, --root and --dry-run alone");
    }
    for addr in &args.allow {
        let read = super::target::read(addr, 64);
        read.map_err(|why| OutputError::Usage(["--allow: ", &why].concat()))?;
    }
    let root = Path::new(args.root.as_deref().unwrap_or("/"));
    if !root.is_dir() {
        return Err(OutputError::Failed(format!("{}: no such directory", root.to_string_lossy())));
    }
    let root = Root::new(&root.canonicalize().map_err(|e| OutputError::Failed(e.to_string()))?);
    let manifest = Manifest::read(&root);
    let init = choose(args, &root, &manifest, output)?;
    let job = SetupJob { root, init, manifest, dry_run: args.dry_run };
    if args.remove {
        take_away::run(job, if args.purge { Removal::Purge } else { Removal::Ours }, output)
    } else {
        install(job, args, output)
    }
}

/// The init system: as said, as set up before, or as found.
fn choose(
    args: &SetupArgs,
    root: &Root,
    manifest: &Manifest,
    output: &mut Output<'_>,
) -> Result<Init, OutputError> {
    let names = || NAMES.map(|(name, _)| name).join(", ");
    let (init, why) = match args.init.as_str() {
        "auto" => {
            let before = Init::named(&manifest.init).filter(|_| args.remove);
            before.map(|init| (init, "set up before")).or_else(|| Init::find(root)).ok_or_else(|| {
                let text = "cannot tell which init system starts this host: name it with --init, one of ";
                OutputError::Failed([text, &names()].concat())
            })?
        }
        name => {
            let init = Init::named(name)
                .ok_or_else(|| OutputError::Usage(["--init: expected auto, ", &names()].concat()))?;
            (init, "as you said")
        }
    };
    writeln!(output.out, "init system: {} ({why})", init.name())?;
    if !matches!(init, Init::Procd | Init::Busybox | Init::None) {
        required(BuildPart::Homes)?;
    }
    Ok(init)
}

fn cannot(trouble: &PlanTrouble) -> OutputError {
    OutputError::Failed(format!("{}: {}; nothing was changed", trouble.0, trouble.1))
}

fn install(mut job: SetupJob, args: &SetupArgs, output: &mut Output<'_>) -> Result<(), OutputError> {
    let own = std::env::current_exe().ok().map(|path| path.to_string_lossy().into_owned());
    let own = own.filter(|_| job.root.is_live());
    if own.as_ref().is_some_and(|own| own.ends_with(" (deleted)")) {
        return Err(OutputError::Failed("this program was replaced while it runs: run the new one".into()));
    }
    let (program, copied) = setup::program(&job.root, own.as_deref()).ok_or_else(|| {
        OutputError::Failed("no mef in that tree: copy the program for it to usr/sbin/mef first".into())
    })?;
    let mut steps = wanted(&job, args, &program, own.filter(|_| copied).as_deref())?;
    let users = setup::account::commands(&job.root, job.init);
    if users.is_empty() {
        steps.extend(setup::account::by_hand(&job.root).map_err(|trouble| cannot(&trouble))?);
    }
    let switch = Switch::from(&job, &mut steps)?;
    let runs = daemon(&job);
    // What is put beside a file changes nothing for the daemon.
    let counts = |step: &SetupStep| step.changes() && !matches!(step, SetupStep::Beside { .. });
    let changed = !users.is_empty() || steps.iter().any(counts);
    let now = match &runs {
        _ if !job.root.is_live() || args.no_start => None,
        None => Some(DaemonChange::Start),
        Some(_) if switch.is_one() => Some(DaemonChange::Start),
        Some(_) if changed || args.upgrade => Some(DaemonChange::Restart),
        Some(_) => None,
    };
    let commands = now.map(|now| setup::commands(job.init, &job.root, now)).unwrap_or_default();
    // Where no command does it: init starts it again when it ends.
    let runs_on = runs.is_some() && now.is_some();
    let old = runs.filter(|_| now == Some(DaemonChange::Restart) && commands.is_empty());
    plan(&steps, &users.iter().chain(&commands).cloned().collect::<Vec<_>>(), output)?;
    if runs_on {
        switch.tell(output)?;
    }
    if let Some(pid) = &old {
        let then = if job.init == Init::None { "start the new one" } else { "init starts the new one" };
        writeln!(output.out, "  end      the daemon, process {pid}: {then}")?;
    }
    if job.dry_run {
        writeln!(output.out, "nothing was changed")?;
        return found::report(&job, output);
    }
    execute(&mut job, &steps, output)?;
    make_user(&mut job, &users, output)?;
    switch.finish(&job, &steps, now.is_some())?;
    finish(&job, args, &program, output)?;
    run_all(&commands, output);
    if let Some(pid) = &old {
        renew(&job, pid, output)?;
    }
    let back = if job.root.is_live() { "" } else { " --root DIR" };
    writeln!(output.out, "to undo it: mef setup --remove{back} (--purge for configuration and bans, too)")?;
    found::report(&job, output)?;
    if args.load && job.root.is_live() {
        super::load::load(&["--confirm", "60s"], output)?;
    }
    output.end()
}

/// Makes the user of the daemon, by hand where the commands could not, and gives him the state: systemd would
/// give him more than that.
fn make_user(
    job: &mut SetupJob,
    commands: &[Vec<String>],
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    run_all(commands, output);
    if !commands.is_empty() {
        let steps = setup::account::by_hand(&job.root).map_err(|trouble| cannot(&trouble))?;
        if !steps.is_empty() {
            execute(job, &steps, output)?;
        }
    }
    let state = job.settings().state_dir;
    if job.root.is_live()
        && is_ours(&state)
        && Path::new(&state).is_dir()
        && let Some(user) = crate::sys::user::find("mef")
        && let Err(e) = hand_over(Path::new(&state), user, &Saved::FILES)
    {
        output.problem(&format_args!("{state}: {e}"));
    }
    Ok(())
}

/// Every step, that of the program included, which is copied from `own`.
fn wanted(
    job: &SetupJob,
    args: &SetupArgs,
    program: &str,
    own: Option<&str>,
) -> Result<Vec<SetupStep>, OutputError> {
    let wanted = setup::SetupRequest {
        root: &job.root,
        init: job.init,
        program,
        load: args.load && !job.root.is_live(),
    };
    let mut steps = setup::install(&wanted, &job.manifest).map_err(|trouble| cannot(&trouble))?;
    if let Some(own) = own {
        // Whatever is there: a program is no file that somebody edits.
        let bytes = std::fs::read(own).map_err(|e| OutputError::Failed(format!("{own}: {e}")))?;
        let found = job.root.look(program).map_err(|e| cannot(&(program.to_owned(), e)))?;
        if found != setup::Found::File(bytes.clone()) {
            let is_there = found != setup::Found::Nothing;
            steps.insert(0, SetupStep::Write { path: program.to_owned(), bytes, mode: 0o755, is_there });
        }
    }
    if !job.root.is_live() && !args.allow.is_empty() {
        let text = args.allow.iter().map(|addr| [addr, "\n"].concat()).collect::<String>();
        let path = "/etc/mef/whitelist/local.conf";
        let step = match job.root.look(path) {
            Ok(setup::Found::Nothing) => {
                SetupStep::Write { path: path.into(), bytes: text.into(), mode: 0o644, is_there: false }
            }
            _ => SetupStep::Keep { path: path.into(), why: "add the addresses by hand" },
        };
        steps.push(step);
    }
    Ok(steps)
}

/// Ends a daemon that init starts again, and waits for the new one.
fn renew(job: &SetupJob, old: &str, output: &mut Output<'_>) -> Result<(), OutputError> {
    process::ask_to_end(old);
    let settings = job.settings();
    let is_done = |now: Option<String>| {
        if job.init == Init::None { now.is_none() } else { now.is_some_and(|now| now != old) }
    };
    for _ in 0..take_away::STEPS_MAX {
        if is_done(pid(&settings)) {
            writeln!(output.out, "  end      the daemon, process {old}")?;
            return Ok(());
        }
        std::thread::sleep(take_away::STEP);
    }
    output.problem(&format_args!("the daemon, process {old}, was not restarted"));
    Ok(())
}

/// Allows who must not be cut off.
fn finish(
    job: &SetupJob,
    args: &SetupArgs,
    program: &str,
    output: &mut Output<'_>,
) -> Result<(), OutputError> {
    if !job.root.is_live() {
        writeln!(output.out, "{program} in that tree is started at boot; nothing was started")?;
        return Ok(());
    }
    let allow = |words: &[&str], output: &mut Output<'_>| {
        // A host without nf_tables can be set up, too; it is told by the daemon what it lacks.
        if let Err(OutputError::Failed(why) | OutputError::Usage(why)) = super::allow::allow(words, output) {
            output.problem(&why);
        }
    };
    for addr in &args.allow {
        allow(&[addr], output);
    }
    if let Some(peer) = crate::sys::host::ssh_peer() {
        let peer = peer.to_string();
        let peer = if peer.contains(':') { [&peer, "/128"].concat() } else { peer };
        allow(&[&peer, "--for", "1h"], output);
    }
    Ok(())
}

/// The daemon that runs here, if one does: its process.
fn daemon(job: &SetupJob) -> Option<String> {
    if !job.root.is_live() {
        return None;
    }
    pid(&job.settings())
}

fn pid(settings: &Settings) -> Option<String> {
    let client = ControlClient::connect(Path::new(&settings.run_dir)).ok()??;
    client.pid().map(|pid| pid.to_string())
}

/// Calls `each` with the lines of the daemon's status until that is false; whether there is a daemon.
fn ask_status(settings: &Settings, each: &mut dyn FnMut(&str) -> bool) -> bool {
    let Ok(Some(mut client)) = ControlClient::connect(Path::new(&settings.run_dir)) else { return false };
    // A daemon that ends meanwhile has no more to say.
    let _ = client.notify(&Request::Status).and_then(|()| client.lines(Patience::Bounded, each));
    true
}

/// Says what will be done.
fn plan(steps: &[SetupStep], commands: &[Vec<String>], output: &mut Output<'_>) -> Result<(), OutputError> {
    writeln!(output.out, "plan:")?;
    for step in steps.iter().filter(|step| !matches!(step, SetupStep::Right { .. })) {
        writeln!(output.out, "  {step}")?;
    }
    for command in commands {
        writeln!(output.out, "  run      {}", command.join(" "))?;
    }
    let right = steps.iter().filter(|step| matches!(step, SetupStep::Right { .. })).count();
    if right > 0 {
        let (files, are) = (count(right, "file"), if right == 1 { "is as it" } else { "are as they" });
        writeln!(output.out, "  {files} {are} should be")?;
    }
    Ok(())
}

/// Runs a command to its end.
fn wait(argv: &[String]) -> io::Result<ChildExit> {
    let says = crate::sys::stdio::stderr();
    Ok(child::start(argv, &[], Some(says.as_fd()), Some(says.as_fd()))?.wait())
}

/// Likewise, and nobody sees what it says.
fn wait_unheard(argv: &[String]) -> io::Result<ChildExit> {
    Ok(child::start(argv, &[], None, None)?.wait())
}
