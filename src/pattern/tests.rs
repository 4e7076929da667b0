use super::*;

#[test]
fn sample() {
    let p = Pattern::new(
        r"^Failed (?:password|publickey) for (?:invalid user )?.* from <HOST> port \d+(?: ssh2)?$",
        true,
    )
    .unwrap();
    let mut s = Scratch::for_patterns([&p].into_iter());
    let t = b"Failed password for invalid user a from 8.8.8.8 port 1 ssh2 from 1.2.3.4 port 22 ssh2";
    let c = p.find(t, &mut s).unwrap();
    assert_eq!(&t[c.get(Group::Ip).unwrap()], b"1.2.3.4");
    println!(
        "{:?} heap {} scratch {} needles {:?}",
        p.program.code,
        p.heap_size(),
        s.heap_size(),
        p.required().map(String::from_utf8_lossy).collect::<Vec<_>>()
    );
    println!("{} {}", size_of::<Inst>(), size_of::<Pattern>());
}
