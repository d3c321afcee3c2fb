#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::time::Instant;

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};

use super::body::{self, Reach};
use super::detect::{Detector, Own};
use super::mask::Masking;
use super::minted::Minted;
use super::restore::Restoring;
use super::stream::{Filter, Work};
use super::token::{self, Mint};
use super::vault::Vault;
use crate::plugin::prelude::*;

const ALL: Reach = Reach { tool_definitions: true };

fn detector(own: &[(&str, &str, usize)]) -> Arc<Detector> {
    let own = own
        .iter()
        .map(|(name, pattern, max_length)| Own {
            name: (*name).to_owned(),
            regex: regex::Regex::new(pattern).unwrap(),
            max_length: *max_length,
        })
        .collect();
    Arc::new(Detector::new([true; 6], own).unwrap())
}

fn vault(organisation: &str) -> Arc<Vault> {
    let mint = Mint::for_organisation(b"a secret of the operator", organisation);
    Arc::new(Vault::new(mint, 100_000, Duration::from_secs(60)))
}

fn masking(detector: &Arc<Detector>, vault: &Arc<Vault>) -> Masking {
    let reversible: Arc<[bool]> = vec![true; detector.kinds()].into();
    Masking::new(detector.clone(), vault.clone(), true, reversible, Instant::now())
}

fn mask_all(body: &[u8], masking: &mut Masking) -> Option<Vec<u8>> {
    let edits = body::mask(body, true, ALL, masking).unwrap();
    body::patched(body, &edits).unwrap()
}

fn finds(text: &str) -> Vec<(String, String)> {
    let detector = detector(&[]);
    let mut finds = Vec::new();
    detector.find(text, 0, &mut finds);
    finds.iter().map(|f| (detector.name(f.kind).to_owned(), text[f.span.clone()].to_owned())).collect()
}

#[test]
fn personal_data_is_found_whole() {
    for (kind, value) in [
        ("email", "ada.lovelace+work@mail.example.co.uk"),
        ("email", "x_y%z@a-b.io"),
        ("phone", "+49 30 901820"),
        ("phone", "+1 (415) 555-2671"),
        ("phone", "+14155552671"),
        ("phone", "(415) 555-2671"),
        ("phone", "415-555-2671"),
        ("phone", "415.555.2671"),
        ("phone", "1-800-555-0199"),
        ("phone", "0049 30 901820"),
        ("phone", "06 12 34 56 78"),
        ("phone", "020 7946 0958"),
        ("phone", "0171-1234567"),
        ("credit_card", "4111111111111111"),
        ("credit_card", "4111 1111 1111 1111"),
        ("credit_card", "5500-0000-0000-0004"),
        ("credit_card", "3782 822463 10005"),
        ("credit_card", "6011111111111117"),
        ("iban", "DE89370400440532013000"),
        ("iban", "GB82 WEST 1234 5698 7654 32"),
        ("iban", "NO93 8601 1117 947"),
        ("us_ssn", "123-45-6789"),
        ("us_ssn", "123 45 6789"),
        ("ip_address", "203.0.113.7"),
        ("ip_address", "2001:db8::8a2e:370:7334"),
        ("ip_address", "fe80::1"),
    ] {
        for (before, after) in [
            ("", ""),
            ("see ", " there"),
            ("(", ")"),
            ("\"", "\""),
            ("电话", "请"),
            ("at ", ". Then"),
            ("a, ", ", b"),
            ("<", ">"),
            ("x=", ";"),
            ("", "- or"),
            ("line\n", "\nline"),
            (r"quoted\n", r"\n"),
            ("id:", "!"),
            ("5 ", " or"),
        ] {
            if kind == "phone" && before == "5 " {
                continue;
            }
            let found = finds(&format!("{before}{value}{after}"));
            assert_eq!(found, [(kind.to_owned(), value.to_owned())], "{before}{value}{after}");
        }
    }
}

#[test]
fn what_only_looks_like_it_stays() {
    for text in [
        "4111111111111112 is not a card and 1700000000000 is a time",
        "DE88370400440532013000 fails mod 97, XX89370400440532013000 has no country",
        "000-12-3456, 666-12-3456, 912-12-3456, 123-00-4567, 123-45-0000",
        "version 1.2.3.4.5, 256.1.1.1, 01.02.03.04, 127.0.0.1 and 0.0.0.0",
        "12:30:45, std::vec::Vec, a::b, 00:1A:2B:3C:4D:5E, ::1",
        "@decorator, lodash@4.17.21, user@localhost, logo@2x.png, a@b",
        "550e8400-e29b-41d4-a716-446655440000",
        "2024-01-15T10:30:00Z 05.06.2023 14:30 2023-01-15 10:20",
        "0.4111111111111111 and v4111111111111111 and 41111111111111110000000000",
        "order 4155552671, build 20240115103000, chatcmpl-4111111111111111x",
        "[[EMAIL_0123456789abcdef]] [[PHONE_4111111111111111]]",
        "",
    ] {
        assert_eq!(finds(text), [], "{text}");
    }
}

#[test]
fn one_value_one_token_and_spellings_look_alike() {
    let (detector, vault) = (detector(&[]), vault("acme"));
    let body = br#"{"messages":[{"role":"user","content":"bob@x.com, Bob@x.com and bob@x.com"},{"role":"user","content":"bob@x.com"}]}"#;
    let masked = String::from_utf8(mask_all(body, &mut masking(&detector, &vault)).unwrap()).unwrap();
    let tokens: Vec<&str> = masked.match_indices("[[EMAIL_").map(|(at, _)| &masked[at..at + 26]).collect();
    assert_eq!(tokens.len(), 4);
    assert_eq!((tokens[0], tokens[0]), (tokens[2], tokens[3]));
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(tokens[0][..20], tokens[1][..20]);
    // A later request, a restarted process and another replica make the same token; another organisation does not.
    let again = |organisation: &str| {
        let vault = self::vault(organisation);
        mask_all(body, &mut masking(&detector, &vault)).unwrap()
    };
    assert_eq!(again("acme"), masked.as_bytes());
    assert_ne!(again("other"), masked.as_bytes());
}

#[test]
fn a_token_is_worth_nothing_in_another_organisation() {
    let detector = detector(&[]);
    let (ours, theirs) = (vault("acme"), vault("other"));
    let masked = masking(&detector, &ours).plain("bob@x.com").unwrap();
    let now = Instant::now();
    assert_eq!(Restoring::new(Minted::default(), Some(theirs.clone()), now).plain(&masked, false), None);
    assert_eq!(Restoring::new(Minted::default(), Some(ours), now).plain(&masked, false).as_deref(), Some("bob@x.com"));
    // Typed into a request it is unchanged, and nothing about it is stored in the vault.
    let typed = format!(r#"{{"messages":[{{"role":"user","content":"say {masked}"}}]}}"#);
    assert_eq!(mask_all(typed.as_bytes(), &mut masking(&detector, &theirs)), None);
    assert_eq!(theirs.len(), 0);
}

#[test]
fn a_hundred_thousand_values_have_as_many_tokens() {
    let vault = vault("acme");
    let mut tokens = HashSet::new();
    let now = Instant::now();
    for number in 0..100_000 {
        let mut minted = Minted::default();
        assert!(tokens.insert(vault.token("email", "EMAIL", &format!("user{number}@x.com"), true, &mut minted, now)));
    }
}

#[test]
fn a_token_that_is_taken_is_extended() {
    let vault = vault("acme");
    let now = Instant::now();
    let mut minted = Minted::default();
    let token = vault.token("email", "EMAIL", "bob@x.com", true, &mut minted, now);
    // The same token with another value, as after a hash collision.
    let mut taken = Minted::default();
    taken.insert(token.clone(), Arc::from("eve@x.com"));
    let longer = vault.token("email", "EMAIL", "bob@x.com", true, &mut taken, now);
    assert_eq!(longer.len(), token.len() + 16);
    assert!(matches!(token::read(longer.as_bytes()), token::Reading::Token(_)));
    assert_eq!(vault.value(&longer, now).as_deref(), Some("bob@x.com"));
}

#[test]
fn the_vault_is_bounded_in_number_and_time() {
    let mint = Mint::for_organisation(b"k", "acme");
    let vault = Vault::new(mint, 10, Duration::from_secs(60));
    let now = Instant::now();
    let put = |n: u32, at: Instant| vault.token("email", "EMAIL", &format!("u{n}@x.com"), true, &mut Minted::default(), at);
    let first = put(0, now);
    for n in 1..10 {
        put(n, now);
    }
    for _ in 0..1000 {
        put(0, now); // used again: not the oldest any more
    }
    let eleventh = put(10, now);
    assert_eq!(vault.len(), 10);
    assert!(vault.value(&first, now).is_some() && vault.value(&eleventh, now).is_some());
    let later = now + Duration::from_secs(61);
    assert!(vault.value(&first, later).is_none());
    put(11, later);
    assert_eq!(vault.len(), 1);
}

#[test]
fn a_value_keeps_its_token_for_as_long_as_it_is_known_and_for_its_kind_alone() {
    let vault = vault("acme");
    let now = Instant::now();
    let token = |label: &str, value: &str, minted: &mut Minted| vault.token(&label.to_lowercase(), label, value, true, minted, now);
    let mut minted = Minted::default();
    let first = token("EMAIL", "a@x.com", &mut minted);
    let mut again = Minted::default();
    assert_eq!((token("EMAIL", "a@x.com", &mut again), again.get(&first).map(|v| &**v)), (first.clone(), Some("a@x.com")));
    assert!(token("OWN", "a@x.com", &mut minted).starts_with("[[OWN_"));
    // If the token already has another value in this request, a longer one is used.
    let mut taken = Minted::default();
    taken.insert(first.clone(), "b@x.com".into());
    let other = token("EMAIL", "a@x.com", &mut taken);
    assert!(other != first && taken.get(&other).map(|v| &**v) == Some("a@x.com") && taken.get(&first).map(|v| &**v) == Some("b@x.com"));
}

#[test]
fn reading_tokens() {
    use token::Reading::{No, Open, Token};
    let whole = "[[EMAIL_0123456789abcdef]]";
    for cut in 0..whole.len() {
        assert_eq!(token::read(&whole.as_bytes()[..cut]), Open, "{cut}");
        assert_eq!(token::open_from(&format!("text [ {}", &whole[..cut])), 7, "{cut}");
    }
    assert_eq!(token::read(whole.as_bytes()), Token(26));
    assert_eq!(token::next(&format!("[[[{whole}"), 0), Some(3..29));
    for text in ["[x", "[[1", "[[email_", "[[EMAIL_0123456789abcdeg]]", "[[EMAIL_0123]]", "[[EMAIL_0123456789abcdef]x", "[[A B"] {
        assert_eq!(token::read(text.as_bytes()), No, "{text}");
        assert_eq!(token::next(text, 0), None);
    }
    assert_eq!(token::open_from(&format!("[[{}", "A".repeat(200))), 202);
}

/// Text with personal data of every kind, escapes, and characters of several languages.
fn prose() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        "[a-z]{1,8}(\\.[a-z]{1,4})?@[a-z]{2,8}\\.(com|de|co\\.uk)",
        Just("+1 (415) 555-2671".to_owned()),
        "\\+49 [1-9][0-9]{1,3} [0-9]{6,7}",
        Just("4111 1111 1111 1111".to_owned()),
        Just("DE89 3704 0044 0532 0130 00".to_owned()),
        "[1-8][0-9]{2}-[1-9][0-9]-[1-9][0-9]{3}",
        "[1-9][0-9]?\\.[1-9][0-9]?\\.[1-9]\\.[1-9][0-9]?",
        Just("KD-\"7\"\\\n12".to_owned()),
        Just("[[EMAIL_0123456789abcdef]]".to_owned()),
        Just("[[".to_owned()),
        any::<String>(),
        "[a-z \\[\\]0-9,.:@+-]{0,20}",
    ];
    let joint = prop_oneof![Just(" "), Just(", "), Just("\n"), Just("\" "), Just("\\"), Just("é"), Just("。"), Just(""), Just("[")];
    prop::collection::vec((value, joint), 0..8).prop_map(|parts| parts.into_iter().map(|(v, j)| v + j).collect())
}

fn conversation(texts: &[String]) -> String {
    let text = |n: usize| texts.get(n % texts.len().max(1)).cloned().unwrap_or_default();
    let arguments = json!({"to": text(1), "list": [text(2), {"deep": text(3)}], "n": 3}).to_string();
    json!({
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": text(0)},
            {"role": "user", "content": [{"type": "text", "text": text(1)}]},
            {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "send", "arguments": arguments}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": text(4)},
            {"role": "user", "content": text(5)},
        ],
    })
    .to_string()
}

fn own() -> Arc<Detector> {
    detector(&[("customer", "KD-\"7\"\\\\\n\\d+", 32)])
}

fn streamed(frames: &[String], filter: &mut Filter) -> Vec<String> {
    let mut out = Vec::new();
    for data in frames {
        match filter.frame(Frame { event: None, data, dialect: Dialect::OpenAi }).unwrap() {
            StreamVerdict::Pass => out.push(data.clone()),
            StreamVerdict::Replace(data) => out.push(data),
            StreamVerdict::Hold => {}
            StreamVerdict::Emit(frames) => out.extend(frames.into_iter().map(|(_, data)| data)),
            StreamVerdict::Abort(_) => panic!("aborted"),
        }
    }
    out.extend(filter.finish().unwrap().into_iter().map(|(_, data)| data));
    out
}

fn delta(content: &str, arguments: &str) -> String {
    json!({"id": "c1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": content,
        "tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}, "finish_reason": null}]})
    .to_string()
}

/// The content and the arguments that a client would assemble, all before the frame that ends the choice.
fn added_up(frames: &[String]) -> (String, String) {
    let (mut content, mut arguments, mut over) = (String::new(), String::new(), false);
    for data in frames.iter().filter(|d| d.as_str() != "[DONE]") {
        let frame: Value = serde_json::from_str(data).unwrap();
        let choice = &frame["choices"][0];
        assert!(!over, "{data} after the end");
        content += choice["delta"]["content"].as_str().unwrap_or("");
        arguments += choice["delta"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap_or("");
        over = choice["finish_reason"].is_string();
    }
    assert!(over);
    (content, arguments)
}

fn pieces(text: &str, cuts: &[usize]) -> Vec<String> {
    let mut ends: Vec<usize> = cuts.iter().map(|c| c % (text.len() + 1)).filter(|c| text.is_char_boundary(*c)).collect();
    ends.push(text.len());
    ends.sort_unstable();
    let mut start = 0;
    let mut out = Vec::new();
    for end in ends {
        out.push(text[start..end].to_owned());
        start = end;
    }
    out
}

fn frames_of(content: &[String], arguments: &[String]) -> Vec<String> {
    let part = |parts: &[String], n: usize| parts.get(n).cloned().unwrap_or_default();
    let mut frames: Vec<String> = (0..content.len().max(arguments.len())).map(|n| delta(&part(content, n), &part(arguments, n))).collect();
    frames.push(json!({"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).to_string());
    frames.push("[DONE]".into());
    frames
}

proptest! {
    #[test]
    fn restoring_undoes_masking_byte_for_byte(texts in prop::collection::vec(prose(), 1..6)) {
        let (detector, vault) = (own(), vault("acme"));
        let body = conversation(&texts);
        let mut masking = masking(&detector, &vault);
        let masked = mask_all(body.as_bytes(), &mut masking);
        let masked = masked.unwrap_or_else(|| body.clone().into_bytes());
        serde_json::from_slice::<Value>(&masked).unwrap();
        let mut restoring = Restoring::new(std::mem::take(&mut masking.minted), None, Instant::now());
        let restored = body::restore(&masked, true, &mut restoring).unwrap().unwrap_or(masked);
        proptest::prop_assert_eq!(String::from_utf8(restored).unwrap(), body);
    }

    #[test]
    fn the_prefilter_overlooks_nothing(text in prose()) {
        let detector = detector(&[]);
        let mut finds = Vec::new();
        detector.find(&text, 0, &mut finds);
        let body = json!({"content": text}).to_string();
        proptest::prop_assert!(finds.is_empty() || detector.may_find(body.as_bytes()));
        proptest::prop_assert!(finds.is_empty() || detector.may_find(body.replace('/', "\\/").as_bytes()));
    }

    #[test]
    fn a_restored_stream_says_what_was_masked(
        text in prose(), argument in prose(), cuts in prop::collection::vec(any::<usize>(), 0..12), more in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let (detector, vault) = (own(), vault("acme"));
        let arguments = json!({"to": argument, "n": 1}).to_string();
        let body = json!({"messages": [{"role": "user", "content": text}, {"role": "assistant", "tool_calls": [{"function": {"arguments": arguments}}]}]}).to_string();
        let masked = mask_all(body.as_bytes(), &mut masking(&detector, &vault)).unwrap_or(body.into_bytes());
        let masked: Value = serde_json::from_slice(&masked).unwrap();
        let content = masked["messages"][0]["content"].as_str().unwrap();
        let call = masked["messages"][1]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
        let restoring = Restoring::new(Minted::default(), Some(vault), Instant::now());
        let frames = frames_of(&pieces(content, &cuts), &pieces(call, &more));
        let out = streamed(&frames, &mut Filter::new(Work::Restore(restoring), ALL));
        let (content, call) = added_up(&out);
        proptest::prop_assert_eq!(content, text);
        proptest::prop_assert_eq!(serde_json::from_str::<Value>(&call).unwrap(), serde_json::from_str::<Value>(&arguments).unwrap());
    }

    #[test]
    fn a_masked_stream_equals_the_masked_whole(
        text in prose(), argument in prose(), cuts in prop::collection::vec(any::<usize>(), 0..12), more in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let (detector, vault) = (own(), vault("acme"));
        let arguments = json!({"to": argument, "card": 4_111_111_111_111_111_u64}).to_string();
        let frames = frames_of(&pieces(&text, &cuts), &pieces(&arguments, &more));
        let out = streamed(&frames, &mut Filter::new(Work::Mask(masking(&detector, &vault)), ALL));
        let (content, call) = added_up(&out);
        let whole = masking(&detector, &vault).plain(&text).unwrap_or(text);
        proptest::prop_assert_eq!(content, whole);
        let expected = masking(&detector, &vault).plain(&argument).unwrap_or(argument);
        let call: Value = serde_json::from_str(&call).unwrap();
        proptest::prop_assert_eq!(call["to"].as_str().unwrap(), expected);
        proptest::prop_assert!(call["card"].as_str().unwrap().starts_with("[[CREDIT_CARD_"));
    }
}

#[test]
fn no_split_lets_a_value_out() {
    let (detector, vault) = (detector(&[]), vault("acme"));
    let values = ["bob@example.com", "+49 30 901820", "4111 1111 1111 1111", "GB82 WEST 1234 5698 7654 32", "123-45-6789", "2001:db8::7"];
    let text = format!(
        "mail {}, call {}, pay {} or {}; {} from {} and go on with it",
        values[0], values[1], values[2], values[3], values[4], values[5]
    );
    let whole = masking(&detector, &vault).plain(&text).unwrap();
    for cut in (0..=text.len()).flat_map(|a| [vec![a], (0..text.len()).collect(), vec![a, a + 1, a + 7]]) {
        let frames = frames_of(&pieces(&text, &cut), &[]);
        let mut filter = Filter::new(Work::Mask(masking(&detector, &vault)), ALL);
        let out = streamed(&frames, &mut filter);
        assert_eq!(added_up(&out).0, whole);
        assert!(values.iter().all(|v| !added_up(&out).0.contains(v)));
    }
}

#[test]
fn every_split_of_a_token_is_restored() {
    let (detector, vault) = (detector(&[]), vault("acme"));
    let token = masking(&detector, &vault).plain("bob@x.com").unwrap();
    let text = format!("to [{token}], [[not]] [");
    let arguments = format!(r#"{{"to":"{token}"}}"#);
    for cut in 0..=text.len() {
        for second in [cut, cut + 1, text.len()] {
            let frames = frames_of(&pieces(&text, &[cut, second]), &pieces(&arguments, &[cut, second]));
            let restoring = Restoring::new(Minted::default(), Some(vault.clone()), Instant::now());
            let out = streamed(&frames, &mut Filter::new(Work::Restore(restoring), ALL));
            assert_eq!(added_up(&out), ("to [bob@x.com], [[not]] [".into(), r#"{"to":"bob@x.com"}"#.into()));
        }
    }
}

/// `\b\d*\b` also matches the empty text at the end, beyond which there is no offset to continue from.
#[test]
fn a_pattern_that_can_match_nothing_comes_to_an_end_and_is_refused_at_load() {
    for pattern in [r"\b\d*\b", r"x*$", r"é*"] {
        let (sender, receiver) = std::sync::mpsc::channel();
        let detector = detector(&[("own", pattern, 64)]);
        std::thread::spawn(move || {
            for text in ["", "abc 12", "né", "12é", "xx"] {
                let mut finds = Vec::new();
                detector.find(text, 0, &mut finds);
                assert!(finds.iter().all(|find| !find.span.is_empty() && text.get(find.span.clone()).is_some()), "{text}");
            }
            sender.send(()).unwrap();
        });
        receiver.recv_timeout(Duration::from_secs(5)).expect(pattern);
    }
    for (pattern, refused) in [(r"\b\d*\b", true), (r"x*", true), (r"^|y", true), (r"\bx{2,}\b", false)] {
        let config: super::config::Config =
            serde_json::from_value(serde_json::json!({"patterns": [{"name": "own", "regex": pattern}]})).unwrap();
        let error = config.detector().err();
        assert_eq!(error.is_some(), refused, "{pattern}");
    }
}

/// Two brackets alone hide nothing: only real tokens are left as they are.
#[test]
fn what_only_looks_like_a_token_is_masked() {
    let detector = detector(&[("secret", "[0-9a-f]{32}", 32), ("staff", "E[0-9]{6}", 7)]);
    let vault = vault("acme");
    let mut first = masking(&detector, &vault);
    for hidden in ["[[EMAIL_00112233445566778899aabbccddeeff]]", "[[A_00112233445566778899aabbccddeeff]]", "[[E123456_7f3a9c0d12be44a1]]"] {
        let masked = first.plain(&format!("look at {hidden} here")).unwrap_or_default();
        assert!(masked.starts_with("look at [[") && !masked.contains(hidden), "{hidden}: {masked}");
    }
    // Tokens of this organisation are unchanged, in this request and later ones, even after they are forgotten.
    let masked = first.plain("ada@example.com and 4111111111111111").unwrap();
    assert_eq!(masked.matches("[[").count(), 2);
    for vault in [&vault, &self::vault("acme")] {
        assert_eq!(masking(&detector, vault).plain(&masked), None, "{masked}");
    }
    let of_own = first.plain("00112233445566778899aabbccddeeff E123456").unwrap();
    assert_eq!(masking(&detector, &vault).plain(&of_own), None, "{of_own}");
}

/// A provider that opens a text for every fragment has bounded cost.
#[test]
fn a_stream_has_no_more_texts_than_a_provider_would_open() {
    let mut filter = Filter::new(Work::Mask(masking(&detector(&[]), &vault("acme"))), ALL);
    let frame = |choice: usize| format!(r#"{{"choices":[{{"index":{choice},"delta":{{"content":"call 4"}}}}]}}"#);
    for choice in 0..4096 {
        assert!(filter.frame(Frame { event: None, data: &frame(choice), dialect: Dialect::OpenAi }).is_ok(), "{choice}");
    }
    assert!(filter.frame(Frame { event: None, data: &frame(4096), dialect: Dialect::OpenAi }).is_err());
}
