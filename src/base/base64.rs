#![forbid(unsafe_code)]
//! Base64 (RFC 4648), the form in which keys are written. For texts of some dozen bytes.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text of some bytes, padded.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            let six = bits >> (18 - 6 * digit) & 63;
            let own = digit <= group.len();
            text.push(if own { char::from(DIGITS[six as usize & 63]) } else { '=' });
        }
    }
    text
}

/// The bytes of a text; nothing if it is not written as [`encode`] would write it.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let digits = text.trim_end_matches('=');
    for group in digits.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for at in 0..4 {
            let digit = group.get(at).map_or(Some(0), |c| DIGITS.iter().position(|d| d == c))?;
            bits = bits << 6 | u32::try_from(digit).ok()?;
        }
        let [_, three @ ..] = bits.to_be_bytes();
        bytes.extend_from_slice(three.get(..group.len().checked_sub(1)?)?);
    }
    (encode(&bytes) == text).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_rfc() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, text) in cases {
            assert_eq!(encode(plain.as_bytes()), text);
            assert_eq!(decode(text).unwrap(), plain.as_bytes());
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
        for bad in
            ["Z", "Zg", "Zg=", "Zh==", "Zm9v=", "Z===", "Zm 9", "Zm9v\n", "Zm-_", "=", "====", "Zg==Zg=="]
        {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
