//! What `--json` prints, judged against the schema that ships by somebody else's validator.

use super::Net;

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rootfs/usr/share/doc/mef/json-schema.json");

/// Judges lines `COMMAND OBJECT`; says which are wrong, and of which objects of the schema there were some.
const JUDGE: &str = r#"
import json, sys
from jsonschema import Draft202012Validator as Validator
schema = json.load(open(sys.argv[1]))
Validator.check_schema(schema)
of = {name: [Validator(one) for one in part["oneOf"]] for name, part in schema["$defs"].items()}
seen = set()
for line in sys.stdin:
    name, text = line.split(" ", 1)
    fits = [at for at, one in enumerate(of[name]) if one.is_valid(json.loads(text))]
    seen |= {(name, at) for at in fits}
    if len(fits) != 1:
        print("WRONG", name, text, [e.message for one in of[name] for e in one.iter_errors(json.loads(text))])
print("seen", len({name for name, _ in seen}), "of", len(of))
print("missing", sorted(set(of) - {name for name, _ in seen}))
"#;

/// What a schema says of lines.
pub fn judged(net: &Net, lines: &str) -> String {
    net.input("python3", &["-W", "ignore", "-c", JUDGE, SCHEMA], lines.as_bytes()).ok()
}

/// Has the schema judge what a command printed with `--json`.
#[track_caller]
pub fn assert_fits(net: &Net, command: &str, printed: &str) {
    let lines: String = printed.lines().map(|line| format!("{command} {line}\n")).collect();
    let said = judged(net, &lines);
    assert!(!printed.is_empty() && !said.contains("WRONG"), "{said}");
}
