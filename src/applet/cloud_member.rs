#![forbid(unsafe_code)]
//! `mef cloud` of a program that was built without what an operator needs.

#[path = "cloud/status.rs"]
mod status;

use super::args::parse;
use super::output::{Output, OutputError};
use argh::FromArgs;

/// Show how reports to the community cloud go.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"), example = "mef cloud status")]
struct Args {
    /// status
    #[argh(positional, arg_name = "WORD")]
    word: String,
    /// path to mef.conf
    #[argh(option, arg_name = "file")]
    config: Option<String>,
}

pub(super) fn run(args: &[&str], output: &mut Output<'_>) -> Result<(), OutputError> {
    let args: Args = parse("cloud", args)?;
    match args.word.as_str() {
        "status" => status::show(args.config.as_deref(), output),
        _ => Err(OutputError::Usage("this mef was built without the operator's commands".to_owned())),
    }
}
