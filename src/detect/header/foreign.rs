//! Dates whose month journalctl writes in the language of who asked it.

use super::HeaderStamp;
use super::text::{HeaderText, civil};

/// What names of months begin with, by their number, in the languages of Europe, in Turkish, Chinese,
/// Japanese and Korean.
const MONTHS: [&str; 12] = [
    "jan ene gen янв січ 1月 1월 oca led sty tammi sij Ιαν яну saus",
    "feb fév fev фев лют 2月 2월 şub úno lut helmi velj Φεβ vas veeb",
    "mär mar maa mrt мар бер már 3月 3월 bře ožu Μαρ kov",
    "abr avr apr апр кві ápr 4月 4월 nis dub kwi huhti tra Απρ bal",
    "mag mai maj mei may мая май тра máj 5月 5월 kvě touko svi Μαΐ geg",
    "juin giu jun июн чер jún 6月 6월 haz cze kesä Ιουν юни birž juun",
    "juil lug jul июл лип júl 7月 7월 tem heinä Ιουλ юли liep juul",
    "aoû ago aug авг сер 8月 8월 ağu sie elo kol Αυγ rugp",
    "sep set сен вер szep 9月 9월 eyl zář wrz syys ruj Σεπ rugs",
    "okt oct ott out окт жов 10月 10월 eki paź loka Οκτ spal",
    "nov ноя 11月 11월 kas marras Νοε ное lapkr",
    "dez déc dic dec des дек гру 12月 12월 ara pro gru joulu Δεκ gruo det",
];
/// Names that mean different months in different countries: the header is one, its stamp is not known.
const ANY: &str = "lis lip srp čer čvc лис";
/// Longest name of a month in bytes.
const NAME_MAX: usize = 24;

/// `déc. 26 08:00:57`. The outer `None` is no date, the inner one a month that is not known.
#[allow(clippy::option_option, reason = "a header without stamp is still one")]
pub(super) fn dated(text: &mut HeaderText<'_>) -> Option<Option<HeaderStamp>> {
    let mut rest = HeaderText(text.0);
    let end = rest.0.iter().take(NAME_MAX + 1).position(|&b| b == b' ')?;
    let name = rest.take(end)?;
    if !name.iter().all(|b| b.is_ascii_alphanumeric() || *b >= 0x80 || *b == b'.') {
        return None;
    }
    rest.byte(b' ')?;
    let padded = rest.byte(b' ').is_some();
    let one_digit = padded || rest.0.get(1) == Some(&b' ');
    let day = if one_digit { rest.digits(1)? } else { rest.two()? };
    rest.byte(b' ')?;
    let second = rest.time()?;
    // The day has to be one, whatever the month.
    let _valid = civil(None, 1, day, second, None)?;
    let stamp = month(name)?.and_then(|month| civil(None, month, day, second, None));
    text.0 = rest.0;
    Some(stamp)
}

/// The number of a month, if its name is one and means one.
#[allow(clippy::option_option, reason = "a header without stamp is still one")]
fn month(name: &[u8]) -> Option<Option<u8>> {
    let begins =
        |stem: &str| name.get(..stem.len()).is_some_and(|head| head.eq_ignore_ascii_case(stem.as_bytes()));
    let of = |stems: &str| stems.split(' ').any(begins);
    match MONTHS.iter().position(|stems| of(stems)) {
        Some(at) => Some(u8::try_from(at + 1).ok()),
        None => of(ANY).then_some(None),
    }
}
