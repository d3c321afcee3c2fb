//! What is found, that it is found however the text is cut, and that scanning takes linear time.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::safety::worked_test::worked;
use proptest::prelude::*;

fn detector() -> Arc<Detector> {
    let own = Own::new(&Pattern {
        name: "case_number".to_owned(),
        regex: r"\bCASE-\d{4,}\b".to_owned(),
        validator: Validator::None,
        min_length: 0,
        max_length: 16,
    });
    Arc::new(Detector::new(Entity::ALL, vec![own.unwrap()]))
}

fn found(text: &str) -> Vec<(String, String)> {
    let detector = detector();
    detector.scan(text).into_iter().map(|find| (detector.name(find.kind).to_owned(), text.get(find.span).unwrap().to_owned())).collect()
}

/// One text for each detector: kind, text, and the expected value.
const SAMPLES: &[(&str, &str, &str)] = &[
    ("email", "write to (ada.lovelace+x@mail.example.com), please", "ada.lovelace+x@mail.example.com"),
    ("email", "메일은 ada@example.com입니다", "ada@example.com"),
    ("phone", "call me: (415) 555-0132 x12 today", "(415) 555-0132 x12"),
    ("phone", "전화번호: 010-1234-5678입니다", "010-1234-5678"),
    ("phone", "or +49 (0)30 1234567 in Berlin", "+49 (0)30 1234567"),
    ("phone", "Phone: 782 2652, thanks", "782 2652"),
    ("credit_card", "card 4111 1111 1111 1111 expires", "4111 1111 1111 1111"),
    ("credit_card", "카드는 4111111111111111이고", "4111111111111111"),
    ("credit_card", "wide ４１１１１１１１１１１１１１１１ digits", "４１１１１１１１１１１１１１１１"),
    ("credit_card", "hidden 4111\u{200b}1111\u{200b}1111\u{200b}1111 inside", "4111\u{200b}1111\u{200b}1111\u{200b}1111"),
    ("iban", "to DE89 3704 0044 0532 0130 00 by Friday", "DE89 3704 0044 0532 0130 00"),
    ("us_ssn", "SSN 078-05-1120 on file", "078-05-1120"),
    ("ip_address", "from 203.0.113.7, twice", "203.0.113.7"),
    ("ip_address", "at [2001:db8::8a2e:370:7334] now", "2001:db8::8a2e:370:7334"),
    ("openai_key", "key sk-proj-Rk7vT2mQx9LbW4nZs6HcT3BlbkFJ5yPdG8uJaE1f end", "sk-proj-Rk7vT2mQx9LbW4nZs6HcT3BlbkFJ5yPdG8uJaE1f"),
    ("anthropic_key", "x sk-ant-api03-m4Xq9vT2-Lw7Rk5ZbN8cPy3-HsJd6AA y", "sk-ant-api03-m4Xq9vT2-Lw7Rk5ZbN8cPy3-HsJd6AA"),
    ("aws_key", "id AKIAZ7Q3MWKX5T2HVN4B end", "AKIAZ7Q3MWKX5T2HVN4B"),
    ("google_key", "a AIzaSyB7d9Qw3kLm5nPq8rTs1uVx2yZ4aCcEeGg b", "AIzaSyB7d9Qw3kLm5nPq8rTs1uVx2yZ4aCcEeGg"),
    ("github_token", "t ghp_k3VtR8mXq2LwZ7nBs5HcJ9yPdG4uTaE1fQ6i u", "ghp_k3VtR8mXq2LwZ7nBs5HcJ9yPdG4uTaE1fQ6i"),
    ("slack_token", "t xoxb-920417735562-638205914470-Rk7vT2mQx9LbW4nZs6Hc u", "xoxb-920417735562-638205914470-Rk7vT2mQx9LbW4nZs6Hc"),
    ("stripe_key", "t sk_live_Vb8nQ2xLw5RkT7mZc4Hy u", "sk_live_Vb8nQ2xLw5RkT7mZc4Hy"),
    (
        "jwt",
        "j eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.Rk7vT2mQx9LbW4nZs6HcJ9yPdG4uTaE1fQ6iVb8nQ2x k",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.Rk7vT2mQx9LbW4nZs6HcJ9yPdG4uTaE1fQ6iVb8nQ2x",
    ),
    (
        "private_key",
        "pem -----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAk3/V8mXq2+LwZ7nB\ns5Hc/J9yP=\n-----END RSA PRIVATE KEY----- end",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAk3/V8mXq2+LwZ7nB\ns5Hc/J9yP=\n-----END RSA PRIVATE KEY-----",
    ),
    ("password", "user=ada password=Kestrel7Fog! ok", "Kestrel7Fog!"),
    ("password", "db postgres://ada:hunter22@db.internal/x", "hunter22"),
    ("token", "Authorization: Bearer 8Jq2mXv9Lk4TnW7zRb3c.", "8Jq2mXv9Lk4TnW7zRb3c"),
    ("token", "use 7kQ2xVb9RmT4nZw6LcHy3PdG8uJsE1fXa5TvN0 there", "7kQ2xVb9RmT4nZw6LcHy3PdG8uJsE1fXa5TvN0"),
    (
        "aws_key",
        "set IQoJb3JpZ2luX2VjEU8JZpDE0iGXlD6gNCFbaEPFjbD0kH8Oool8DklZDOCj2ISaJiHkTj0rLGlko/MXGjtEkDnNfribxUdl7dXTPyLsxPFkThf4VucSmEHgaKwVJ7faC9qEwjky40== now",
        "IQoJb3JpZ2luX2VjEU8JZpDE0iGXlD6gNCFbaEPFjbD0kH8Oool8DklZDOCj2ISaJiHkTj0rLGlko/MXGjtEkDnNfribxUdl7dXTPyLsxPFkThf4VucSmEHgaKwVJ7faC9qEwjky40==",
    ),
    ("aws_key", "secret_access_key = UVsWmflzdE1F8ResqE/DusTpkr0cStY4qWB8dWKn # x", "UVsWmflzdE1F8ResqE/DusTpkr0cStY4qWB8dWKn"),
    (
        "slack_token",
        "cookie d=xoxd-HfDNxSIvPZZ63fFKcZjR4I0b3jRtaW%2Br4Y9OJFLJOqOAf1lLQSA; path",
        "xoxd-HfDNxSIvPZZ63fFKcZjR4I0b3jRtaW%2Br4Y9OJFLJOqOAf1lLQSA",
    ),
    ("stripe_key", "t pk_live_JaiXnkU8Is2g8nprvDd53x83 u", "pk_live_JaiXnkU8Is2g8nprvDd53x83"),
    (
        "jwt",
        "jwe eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..rzjZZZZGeoZDMENc.KHVmDGAkJiG8XnBE3NnYJoQ9WmXeHH2fdeeTFJGv.VvQe1sKhBN88hXJsi6BwhT k",
        "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..rzjZZZZGeoZDMENc.KHVmDGAkJiG8XnBE3NnYJoQ9WmXeHH2fdeeTFJGv.VvQe1sKhBN88hXJsi6BwhT",
    ),
    (
        "jwt",
        "Cookie: sid=eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiIxMjM0NTY3ODkwIiwiYWRtaW4iOnRydWV9; x",
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiIxMjM0NTY3ODkwIiwiYWRtaW4iOnRydWV9",
    ),
    (
        "jwt",
        "/verify/eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiIxMjM0NTY3ODkwIiwiYWRtaW4iOnRydWV9.p3Fs2QhX6KWxOiixgVoOnzyw2MzP0ZvzOMhfWuBByRe?x",
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiIxMjM0NTY3ODkwIiwiYWRtaW4iOnRydWV9.p3Fs2QhX6KWxOiixgVoOnzyw2MzP0ZvzOMhfWuBByRe",
    ),
    (
        "jwt",
        "data ZXlKaGJHY2lPaUp1YjI1bElpd2lkSGx3SWpvaVNsZFVJbjAuZXlKemRXSWlPaUl4TWpNME5UWTNPRGt3SWl3aVlXUnRhVzRpT25SeWRXVjkuUU1zbTlXY3o3dVc5WEZPR09lTVZOZW41bjFBZTZwV3pwRjFxSDZZeXR3TQ== end",
        "ZXlKaGJHY2lPaUp1YjI1bElpd2lkSGx3SWpvaVNsZFVJbjAuZXlKemRXSWlPaUl4TWpNME5UWTNPRGt3SWl3aVlXUnRhVzRpT25SeWRXVjkuUU1zbTlXY3o3dVc5WEZPR09lTVZOZW41bjFBZTZwV3pwRjFxSDZZeXR3TQ==",
    ),
    (
        "private_key",
        "key MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKeRWmB6vjmW43+Zsy2tthVvn8cEykWOxqL52B9VAz01FuHFAs1a5DfyMYi++HqBybj+q1Vlb7CRdk5JwWY= end",
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKeRWmB6vjmW43+Zsy2tthVvn8cEykWOxqL52B9VAz01FuHFAs1a5DfyMYi++HqBybj+q1Vlb7CRdk5JwWY=",
    ),
    (
        "token",
        "x v8FuKKIBJl5dzpJn0meq7WJjjIBAzupGhv7Ib3M03NBQNSgPwlUQJQQJ99ia1ID6vW5dql05ha064gIiJhgB y",
        "v8FuKKIBJl5dzpJn0meq7WJjjIBAzupGhv7Ib3M03NBQNSgPwlUQJQQJ99ia1ID6vW5dql05ha064gIiJhgB",
    ),
    ("token", "id kT48Q~3cxLmAxzJLJenuHjDUrhhjeyxG4jDPMRCx y", "kT48Q~3cxLmAxzJLJenuHjDUrhhjeyxG4jDPMRCx"),
    ("token", "jwt:\n  secret: \"9`A'}/aK)W;R4]Tq;_&c>sPz??]H&2L=\"\n", "9`A'}/aK)W;R4]Tq;_&c>sPz??]H&2L="),
    ("token", "client_secret: \"kestrel#fog71\"\n", "kestrel#fog71"),
    (
        "token",
        "post https://contoso.webhook.office.com/webhookb2/7d0c2a3e-51b8-4f6a-9e2c-3e02ea68ef78 now",
        "contoso.webhook.office.com/webhookb2/7d0c2a3e-51b8-4f6a-9e2c-3e02ea68ef78",
    ),
    ("case_number", "see CASE-20241 for more", "CASE-20241"),
];

#[test]
fn each_kind_is_found_whole_and_alone() {
    for (kind, text, value) in SAMPLES {
        assert_eq!(found(text), [((*kind).to_owned(), (*value).to_owned())], "{text}");
    }
    for entity in Entity::ALL {
        assert!(SAMPLES.iter().any(|(kind, ..)| *kind == entity.as_str()), "no sample of {}", entity.as_str());
    }
}

#[test]
fn what_only_looks_like_it_stays() {
    for text in [
        "version 10.47.770.4972 of 2024-05-11 10:22:01",
        "ticket #608079717, order id 4111111111111112, part no. 7408-9683-8273-4174",
        "ISBN 978-6-20-969706-9, price list 936 471 5049 812, ratio 3:2:25:38",
        "uuid a6a9e3c6-a935-897b-4660-6247fdaa2b8e sha1 fe12aff1408e12817c1863db12ff49aa66e94789",
        "go v1.2.0/go.mod h1:kTQ8xVb2RmZ4nWw6LcHy3PdG8uJsE1fXa5TvN0qYbM4=",
        "password = env.APP_PASSWORD and password: String, token: ${TOKEN}",
        "export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE",
        "api_key: your-api-key-here-1234567890",
        "\"integrity\": \"sha512-k3VtR8mXq2LwZ7nBs5HcJ9yPdG4uTaE1fQ6iVb8nQ2xRm\"",
        "foo@bar and @mention and icon@2x.png and git@github.com:a/b.git",
        "DE89 3704 0044 0532 0130 01 and 000-12-3456 and 127.0.0.1 and std::vec::Vec",
        "postgres://user:${PASSWORD}@localhost/db",
        "-----BEGIN PRIVATE KEY-----\nyour key\n-----END PRIVATE KEY-----",
        "token: '^[A-Za-z0-9_#]{12,}$' and secret: \"docs/guide#step-2\"",
        "MIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ",
        "-----BEGIN CERTIFICATE-----\nMIIEowIBAAKCAQEA\n-----END CERTIFICATE-----",
        "write to [[EMAIL_7f3a9c0d12be44a1]] and [[API_KEY_7f3a9c0d12be44a17f3a9c0d12be44a1]]",
    ] {
        assert_eq!(found(text), [], "{text}");
    }
}

/// A number of 19 digits is a card if it is the whole text or the text mentions a card; elsewhere it is likely a counter.
#[test]
fn long_numbers_are_cards_where_they_can_be() {
    let number = "4488286894823169796";
    assert_eq!(found(number), [("credit_card".to_owned(), number.to_owned())]);
    assert_eq!(found(&format!("Visa card {number}.")), [("credit_card".to_owned(), number.to_owned())]);
    assert_eq!(found(&format!("block = {number};")), []);
}

#[test]
fn kinds_that_were_not_chosen_stay() {
    let detector = Detector::new([Entity::Email], Vec::new());
    let finds = detector.scan("ada@example.com 4111111111111111 password=Kestrel7Fog!");
    assert_eq!(finds.len(), 1);
    assert_eq!(finds.first().unwrap().kind, Kind::BuiltIn(Entity::Email));
}

#[test]
fn own_patterns_are_checked() {
    let pattern =
        |validator, min_length| Pattern { name: "n".to_owned(), regex: r"\d{8,}".to_owned(), validator, min_length, max_length: 20 };
    let count = |validator, least, text| Detector::new([], vec![Own::new(&pattern(validator, least)).unwrap()]).scan(text).len();
    assert_eq!(count(Validator::Luhn, 0, "79927398713 79927398714"), 1);
    assert_eq!(count(Validator::None, 9, "12345678 123456789"), 1);
    assert_eq!(count(Validator::Entropy, 0, "11111111 1234567890"), 1);
    let error = |name: &str, regex: &str, most| {
        Own::new(&Pattern { name: name.to_owned(), regex: regex.to_owned(), validator: Validator::None, min_length: 0, max_length: most })
            .unwrap_err()
            .0
    };
    assert_eq!(error("N", "a", 9), "name");
    assert_eq!(error("n", "(", 9), "regex");
    assert_eq!(error("n", "a*", 9), "regex");
    assert_eq!(error("n", "a", 0), "max_length");
}

/// Patterns that would expand to huge automata are refused at once; patterns that are slow for backtracking engines take
/// linear time.
#[test]
fn patterns_that_hurt_do_no_harm() {
    let own = |regex: &str| {
        Own::new(&Pattern { name: "n".to_owned(), regex: regex.to_owned(), validator: Validator::None, min_length: 0, max_length: 64 })
    };
    let begun = Instant::now();
    for bomb in ["x{1000}{1000}{1000}", r"((((\w{9}){9}){9}){9}){9}", "(a?b){900}{900}", r"\pL{2000}", "(?:(?:a{0,999}){0,999}){0,999}b"] {
        let (member, reason) = own(bomb).unwrap_err();
        assert_eq!(member, "regex");
        assert!(reason.starts_with("it needs more than 1048576 bytes of memory"), "{bomb}: {reason}");
    }
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    for regex in ["(a+)+b", "(a|aa)+b", "(a|a|a)*?b", "(.*)*x{2}", "^(([a-z])+.)+[A-Z]([a-z])+$", "a{1,60}b"] {
        let detector = Detector::new([], vec![own(regex).unwrap()]);
        let least = |bytes: usize| {
            let text = "a".repeat(bytes);
            let seconds = || {
                let (took, found) = worked(|| detector.scan(&text));
                assert_eq!(found, []);
                took.as_secs_f64()
            };
            (0..5).map(|_| seconds()).fold(f64::MAX, f64::min)
        };
        let (small, large) = (least(1 << 12), least(1 << 17));
        // 32 times the text; quadratic behaviour would take 1,024 times as long.
        assert!(large < small * 400.0 + 0.02, "{regex}: {small} then {large}");
    }
}

/// Feeds a text in pieces, and checks that no find begins before what was reported as settled.
fn streamed(detector: &Arc<Detector>, pieces: &[&str]) -> Vec<Find> {
    let mut stream = Stream::new(Arc::clone(detector));
    let (mut all, mut settled, mut fed) = (Vec::new(), 0, 0);
    for piece in pieces {
        fed += piece.len();
        let mut new = Vec::new();
        let now = stream.feed(piece, |find| new.push(find));
        assert!(now >= settled && now <= fed, "settled {settled} then {now} of {fed}");
        assert!(new.iter().all(|find| find.span.start >= settled), "{new:?} before {settled}");
        settled = now;
        all.extend(new);
    }
    let mut new = Vec::new();
    stream.finish(|find| new.push(find));
    assert!(new.iter().all(|find| find.span.start >= settled), "{new:?} before {settled}");
    all.extend(new);
    sorted(all)
}

fn sorted(mut finds: Vec<Find>) -> Vec<Find> {
    finds.sort_by_key(|find| (find.span.start, find.span.end, find.kind));
    finds
}

fn cut<'a>(text: &'a str, cuts: &[usize]) -> Vec<&'a str> {
    let mut pieces = Vec::new();
    let mut at = 0;
    for &cut in cuts {
        if cut > at && cut < text.len() && text.is_char_boundary(cut) {
            pieces.push(&text[at..cut]);
            at = cut;
        }
    }
    pieces.push(&text[at..]);
    pieces
}

#[test]
fn every_cut_in_two_finds_the_same() {
    let detector = detector();
    for (_, text, _) in SAMPLES {
        let whole = sorted(detector.scan(text));
        for at in 0..=text.len() {
            assert_eq!(streamed(&detector, &cut(text, &[at])), whole, "{text} at {at}");
        }
        let single: Vec<usize> = (0..text.len()).collect();
        assert_eq!(streamed(&detector, &cut(text, &single)), whole, "{text}");
    }
}

#[test]
fn long_candidates_are_found_the_same() {
    let detector = detector();
    let line = "MIIEowIBAAKCAQEAk3/V8mXq2+LwZ7nBs5Hc/J9yPdG4uTaE1fQ6iVb8nQ2x5RkT\n";
    let texts = [
        format!("a -----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY----- b ada@example.com", line.repeat(90)),
        format!("a -----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY----- b ada@example.com", line.repeat(400)),
        format!("a eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{}.sig b ada@example.com", "eyJzdWIiOiIxMjM0NTY3ODkwIn0".repeat(400)),
        format!("{} {}@example.com {}", "x".repeat(5000), "a1".repeat(400), "1".repeat(5000)),
        format!("password={} ada@example.com", "aB3$".repeat(300)),
    ];
    for text in &texts {
        let whole = sorted(detector.scan(text));
        assert!(!whole.is_empty());
        for step in [7, 64, 1000, 4096] {
            let cuts: Vec<usize> = (0..text.len()).step_by(step).collect();
            assert_eq!(streamed(&detector, &cut(text, &cuts)), whole, "{} by {step}", &text[..40]);
        }
    }
}

#[test]
fn prose_leaves_at_once() {
    let mut stream = Stream::new(Arc::new(Detector::new(Entity::ALL, Vec::new())));
    let text = "It was the best of times, it was the worst of times; nobody could say which, and few cared to. ";
    let mut fed = 0;
    for piece in text.split_inclusive(' ') {
        fed += piece.len();
        let settled = stream.feed(piece, |find| panic!("{find:?}"));
        assert_eq!(settled, fed, "after {piece:?}");
    }
}

#[test]
fn what_is_held_back_is_bounded() {
    let detector = detector();
    for unit in [
        "a",
        "1",
        "@",
        ":",
        "a.",
        "(",
        "+",
        "eyJhbGciOiJIUzI1NiJ9.",
        "password=",
        "x://a:b@",
        "1 ",
        "A1-",
        "$1$",
        "aGVsbG8gd29ybGQg",
        "Q~8",
        "ö",
        "token=aB3dE6gH9jK2mN5pQ8rS1tU4v",
    ] {
        let mut stream = Stream::new(Arc::clone(&detector));
        let mut fed = 0;
        for _ in 0..(40_000 / unit.len()) {
            fed += unit.len();
            let settled = stream.feed(unit, |_| {});
            assert!(fed - settled <= jwt::JWT_BYTES + 700, "{unit}: {settled} of {fed}");
        }
    }
}

#[test]
fn time_is_linear() {
    let detector = detector();
    for unit in [
        "a",
        "1",
        "@",
        ":",
        "a.",
        "ada@example.com ",
        "eyJhbGciOiJIUzI1NiJ9.",
        "key=",
        "-----BEGIN PRIVATE KEY-----\n",
        "+1 (",
        "DE89 ",
        "CASE-",
        "$1$",
        "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8g=",
        "my password is a1 ",
        "x: T = ",
        "Q~8",
        "token=aB3dE6gH9jK2mN5pQ8rS1tU4v",
        "ö@",
    ] {
        let least = |bytes: usize| {
            let text = unit.repeat(bytes / unit.len());
            let seconds = || worked(|| std::hint::black_box(detector.scan(&text).len())).0.as_secs_f64();
            (0..3).map(|_| seconds()).fold(f64::MAX, f64::min)
        };
        let (small, large) = (least(1 << 13), least(1 << 18));
        // 32 times the text; quadratic behaviour would take 1,024 times as long.
        assert!(large < small * 256.0 + 0.005, "{unit}: {small} then {large}");
    }
}

/// Texts with candidates in unusual surroundings.
fn texts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => (0..SAMPLES.len()).prop_map(|i| SAMPLES.get(i).map_or(String::new(), |(_, _, value)| (*value).to_owned())),
        2 => (0..SAMPLES.len()).prop_map(|i| SAMPLES.get(i).map_or(String::new(), |(_, text, _)| (*text).to_owned())),
        3 => "[a-zA-Z]{1,12} ",
        2 => "[ .,:;@=+()/_\\-'\"\\\\\n#x]{1,4}",
        2 => "[0-9]{1,6}[ .\\-/]?",
        1 => "(입니다|é|４|\u{200b}|\u{ad}|, key: |token=|password |sk-|eyJ)",
    ];
    prop::collection::vec(part, 1..14).prop_map(|parts| parts.concat())
}

proptest! {
    /// Whatever the text and the cuts, the stream finds the same as a scan of the whole text.
    #[test]
    fn cuts_change_nothing(text in texts(), mut cuts in prop::collection::vec(0usize..600, 0..24)) {
        cuts.sort_unstable();
        let detector = detector();
        prop_assert_eq!(streamed(&detector, &cut(&text, &cuts)), sorted(detector.scan(&text)), "{}", text);
    }

    /// Spans are on character boundaries and in order, and built-in ones do not overlap.
    #[test]
    fn spans_are_sound(text in texts()) {
        let finds = detector().scan(&text);
        for find in &finds {
            prop_assert!(find.span.start < find.span.end && text.get(find.span.clone()).is_some(), "{:?} of {:?}", find, text);
        }
        let built_in: Vec<_> = finds.iter().filter(|find| matches!(find.kind, Kind::BuiltIn(_))).collect();
        prop_assert!(built_in.windows(2).all(|pair| pair[0].span.end <= pair[1].span.start), "{:?} of {:?}", built_in, text);
    }

    /// Every sample, at 256 random sets of cuts.
    #[test]
    fn samples_at_random_cuts(mut cuts in prop::collection::vec(0usize..160, 1..12)) {
        cuts.sort_unstable();
        let detector = detector();
        for (_, text, _) in SAMPLES {
            prop_assert_eq!(streamed(&detector, &cut(text, &cuts)), sorted(detector.scan(text)));
        }
    }
}
