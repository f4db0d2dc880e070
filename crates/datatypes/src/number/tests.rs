use super::*;
use crate::Rng;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn only_canonical_integers_are_integers() {
    let cases: [(&str, Option<i64>); 22] = [
        ("0", Some(0)),
        ("7", Some(7)),
        ("-7", Some(-7)),
        ("1234567890", Some(1_234_567_890)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
        ("18446744073709551616", None),
        ("99999999999999999999", None),
        ("100000000000000000000", None),
        ("", None),
        ("-", None),
        ("-0", None),
        ("00", None),
        ("01", None),
        ("-01", None),
        ("+1", None),
        (" 1", None),
        ("1 ", None),
        ("1a", None),
        ("1.0", None),
    ];
    for (input, expected) in cases {
        assert_eq!(parse_i64(input.as_bytes()), expected, "{input:?}");
    }
    assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
    assert_eq!(parse_u64(b"18446744073709551616"), None);
    assert_eq!(parse_u64(b"1844674407370955161a"), None);
}

#[test]
fn integers_survive_writing_and_reading() {
    let mut rng = Rng::from_seed(2);
    for _ in 0..20_000 {
        let value = rng.next_u64() as i64 >> rng.below(64);
        let mut out = Vec::new();
        write_i64(&mut out, value);
        assert_eq!(parse_i64(&out), Some(value));
        assert_eq!(i64_len(value), out.len());
    }
}

/// What ZADD makes of a score, and how ZSCORE prints it.
fn check_score(input: &str, expected: Option<&str>) {
    let printed = parse_f64(input.as_bytes()).map(|value| text(&f64_to_vec(value)));
    assert_eq!(printed.as_deref(), expected, "{input:?}");
}

#[test]
fn scores_read_and_print_as_in_redis() {
    for (input, expected) in [
        ("0", "0"),
        ("-0", "-0"),
        ("1e21", "1e+21"),
        ("1e20", "1e+20"),
        ("123456789012345678", "123456789012345680"),
        ("4503599627370497", "4503599627370497"),
        ("9007199254740993", "9007199254740992"),
        ("1e-7", "1e-7"),
        ("1e-5", "0.00001"),
        ("0.000001", "0.000001"),
        ("0.00001234", "1.234e-5"),
        ("1234e-9", "1.234e-6"),
        ("0.0001", "0.0001"),
        ("5e-324", "5e-324"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
        ("2.2250738585072011e-308", "2.225073858507201e-308"),
        ("0.1", "0.1"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("1234567.125", "1234567.125"),
        ("3.0e-10", "3e-10"),
        ("123e-9", "1.23e-7"),
        ("1e15", "1000000000000000"),
        ("1e18", "1000000000000000000"),
        ("4e18", "4000000000000000000"),
        ("5e18", "5e+18"),
        ("1e19", "1e+19"),
        ("-1e19", "-1e+19"),
        ("12345678901234567890", "12345678901234567000"),
        ("1.2345e17", "123450000000000000"),
        ("1.5e300", "1.5e+300"),
        // Not the shortest, or not the nearest of the shortest: so does Redis.
        ("68245417e12", "68245416999999996000"),
        ("9909127e13", "99091270000000010000"),
        ("8.92892145844896e18", "8928921458448959000"),
        ("5.613610768716915", "5.6136107687169146"),
        ("29145598881202.93640961", "29145598881202.937"),
        ("-5134237147.065063", "-5.1342371470650635e+9"),
        ("1.052312872882329e-21", "1.0523128728823289e-21"),
        ("inf", "inf"),
        ("+inf", "inf"),
        ("-Infinity", "-inf"),
        ("INF", "inf"),
        ("0x10", "16"),
        ("0x1p4", "16"),
        ("-0x1.8", "-1.5"),
        ("0x1.fffffffffffff8p1023", ""),
        (".5", "0.5"),
        ("5.", "5"),
        ("-.5", "-0.5"),
        ("+1", "1"),
        ("00012", "12"),
    ] {
        check_score(input, Some(expected).filter(|e| !e.is_empty()));
    }
    for refused in [
        "",
        " 1",
        "1 ",
        "nan",
        "-nan",
        "1e",
        "1e+",
        ".",
        "-",
        "--1",
        "+-1",
        "1_0",
        "1d",
        "infi",
        "1\0",
        "1e400",
        "-1e400",
        "1e-400",
        "1.7976931348623159e308",
        "0x",
        "0x.",
        "0x1p",
        "0x1g",
        "0x1p-2000",
        "1.2.3",
        "e5",
    ] {
        check_score(refused, None);
    }
    check_score("0e-400", Some("0"));
    check_score("0x0p-9999", Some("0"));
}

#[test]
fn printed_doubles_read_back_to_the_same_bits() {
    let mut rng = Rng::from_seed(4);
    for i in 0..50_000 {
        let value = match i % 3 {
            0 => f64::from_bits(rng.next_u64()),
            1 => (rng.next_u64() as i64 >> rng.below(64)) as f64,
            _ => (rng.unit_f64() - 0.5) * 10f64.powi(rng.below(40) as i32 - 20),
        };
        if value.is_finite() {
            let printed = f64_to_vec(value);
            assert_eq!(
                parse_f64(&printed).map(f64::to_bits),
                Some(value.to_bits()),
                "{}",
                text(&printed)
            );
        }
    }
    assert_eq!(f64_to_vec(f64::NAN), b"nan");
}

/// SET key a, INCRBYFLOAT key b.
fn check_sum(a: &str, b: &str, expected: Option<&str>) {
    let sum = ExtendedFloat::parse(a.as_bytes())
        .zip(ExtendedFloat::parse(b.as_bytes()))
        .map(|(a, b)| a.add(b));
    let printed = sum
        .filter(|sum| sum.is_finite())
        .map(|sum| text(&sum.to_vec()));
    assert_eq!(printed.as_deref(), expected, "{a} + {b}");
}

#[test]
fn sums_are_those_of_a_long_double() {
    for (a, b, expected) in [
        ("0.1", "0.2", "0.3"),
        ("-0.1", "0.1", "0"),
        ("3.0e3", "200", "3200"),
        ("10.5", "0.1", "10.6"),
        ("-0", "-0", "0"),
        ("0x10", "1", "17"),
        ("0x1p-3", "0", "0.125"),
        (
            "3.14159265358979323846264338327950288",
            "0",
            "3.14159265358979324",
        ),
        ("1e-17", "0", "0.00000000000000001"),
        ("5e-18", "0", "0"),
        ("-1e-20", "0", "0"),
        ("1e30", "0", "1000000000000000000024696061952"),
        ("99999999999999999999999", "0", "100000000000000000000000"),
        ("1e-4950", "0", "0"),
        ("00012", ".5", "12.5"),
        ("9223372036854775807", "1", "9223372036854775808"),
        ("18446744073709551615", "1", "18446744073709551616"),
        ("18446744073709551616", "1", "18446744073709551616"),
        ("18446744073709551616", "3", "18446744073709551620"),
        ("1e20", "-1e-20", "100000000000000000000"),
    ] {
        check_sum(a, b, Some(expected));
        check_sum(b, a, Some(expected));
    }
    for (a, b) in [
        ("1e4932", "1e4932"),
        ("inf", "1"),
        ("-inf", "inf"),
        ("5", "abc"),
        (" 1", "1"),
        ("1 ", "1"),
        ("nan", "1"),
        ("1e5000", "1"),
        ("1e-5000", "1"),
        ("", "1"),
        (".", "1"),
        ("1e", "1"),
    ] {
        check_sum(a, b, None);
    }
    let large = ExtendedFloat::parse(b"1e4932")
        .expect("it is in range")
        .to_vec();
    assert_eq!(large.len(), 4933);
    assert!(large.starts_with(b"100000000000000000000601894938796389132383777425453311477378"));
    assert!(ExtendedFloat::parse(&[b'1'; 5_120]).is_none());
}

#[test]
fn integers_add_exactly() {
    let mut rng = Rng::from_seed(6);
    for _ in 0..20_000 {
        let (a, b) = (
            rng.next_u64() as i64 >> rng.below(64),
            rng.next_u64() as i64 >> rng.below(64),
        );
        let sum = i128::from(a) + i128::from(b);
        let extended = ExtendedFloat::from_i64(a).add(ExtendedFloat::from_i64(b));
        assert_eq!(text(&extended.to_vec()), sum.to_string());
        let read = ExtendedFloat::parse(a.to_string().as_bytes()).expect("an integer is a float");
        assert_eq!(read.add(ExtendedFloat::ZERO), ExtendedFloat::from_i64(a));
    }
}

/// The machine-integer path and the arbitrary-precision path read the same value.
#[test]
fn both_ways_to_read_decimals_agree() {
    let mut rng = Rng::from_seed(8);
    for _ in 0..20_000 {
        let digits = (rng.next_u64() >> rng.below(64)).to_string();
        let point = rng
            .below(digits.len() + 1)
            .max(digits.len().saturating_sub(18));
        let short = format!("{}.{}", &digits[..point], &digits[point..]);
        // Twenty more zeros in front of an exponent make it take the long way.
        let long = format!("{digits}{}e-{}", "0".repeat(25), 25 + digits.len() - point);
        assert_eq!(
            ExtendedFloat::parse(short.as_bytes()),
            ExtendedFloat::parse(long.as_bytes()),
            "{short}"
        );
    }
}

#[test]
fn seconds_become_whole_milliseconds() {
    let check = |text: &str, expected: Option<i64>| {
        let read = ExtendedFloat::parse(text.as_bytes()).expect("a number");
        assert_eq!(read.thousandfold_ceiling(), expected, "{text}");
    };
    for (text, expected) in [
        ("0", 0),
        ("0.001", 1),
        ("0.0001", 1),
        ("1e-4000", 1),
        // Above a tenth as this format has it, but a hundred again once it is multiplied.
        ("0.1", 100),
        ("1.0005", 1001),
        ("2.5", 2500),
        ("0x10", 16_000),
        ("-0.0001", 0),
        ("-0.1", -100),
        ("-1.9999", -1999),
        ("9223372036854775", 9_223_372_036_854_775_000),
        ("-1e30", i64::MIN),
        ("-inf", i64::MIN),
    ] {
        check(text, Some(expected));
    }
    for text in ["9223372036854776", "1e30", "1e4000", "inf"] {
        check(text, None);
    }
}
