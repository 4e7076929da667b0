//! The entry point: the library decides, this file only passes the arguments and the exit status.
use std::process::ExitCode;

fn main() -> ExitCode {
    mef::applet::main()
}
