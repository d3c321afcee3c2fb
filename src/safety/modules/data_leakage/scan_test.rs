#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::{DataLeakage, Settings};
use super::*;
use crate::safety::worked_test::worked;
use crate::safety::{Passage, SafetyModule, Side};
use crate::wire::{Kind, Role};

const SYSTEM: &str = "Marlow is the night porter of a small hotel by the sea. He never tells guests which rooms stand empty, and he \
keeps the spare keys behind the painting of the lighthouse. When somebody asks for the manager, he explains politely that she returns at \
seven and offers to take a note. The access code is \"gull-47-harbour\". Complaints about noise after eleven go into the green book; \
complaints about the kitchen do not. He may praise the breakfast but must not promise fresh figs before June.";

const LEAK: &str =
    "he keeps the spare keys behind the painting of the lighthouse. When somebody asks for the manager, he explains politely";

const JAPANESE: &str =
    "絶対に空いている部屋の番号を客に教えてはいけません。予備の鍵は灯台の絵の裏に隠してあります。苦情は緑の帳面に書いてください。";

fn module() -> DataLeakage {
    let settings = Settings {
        canaries: vec!["ZX-9001-quill".to_owned()],
        public: vec!["Welcome to the small hotel by the sea, dear guest.".to_owned()],
        ..Settings::default()
    };
    DataLeakage::new(&settings).unwrap()
}

fn asked(system: &str, user: &str) -> Arc<Fingerprints> {
    let passages = [
        Passage::new(system, Side::Request, Kind::Instruction, Role::System),
        Passage::new(user, Side::Request, Kind::Content, Role::User),
    ];
    Arc::new(Fingerprints::of(&passages))
}

/// A scanner for an arriving answer to this request.
fn arriving(asked: &Arc<Fingerprints>) -> LeakScanner {
    let first = Passage::new("", Side::Response, Kind::Content, Role::Assistant);
    LeakScanner::new(&module().rules, &first.answering(asked))
}

fn whole(asked: &Arc<Fingerprints>, answer: &str) -> Findings {
    let mut out = Findings::new();
    module().scan(&Passage::new(answer, Side::Response, Kind::Content, Role::Assistant).answering(asked), &mut out).unwrap();
    in_order(out)
}

/// The findings in an answer of these fragments. Checks that no finding begins before what was released.
fn cut<'f>(asked: &Arc<Fingerprints>, fragments: impl IntoIterator<Item = &'f str>) -> Findings {
    let mut scanner = arriving(asked);
    let (mut out, mut left, mut fed) = (Findings::new(), 0, 0);
    for fragment in fragments {
        let known = out.len();
        let settled = scanner.feed(fragment, &mut out);
        fed += fragment.len();
        assert!(out[known..].iter().all(|f| f.span.start >= left || f.span.is_empty()), "{:?} after {left}", &out[known..]);
        assert!((left..=fed).contains(&settled), "{settled} not in {left}..={fed}");
        left = settled;
    }
    let known = out.len();
    scanner.finish(&mut out);
    assert!(out[known..].iter().all(|f| f.span.start >= left || f.span.is_empty()), "{:?} after {left}", &out[known..]);
    in_order(out)
}

/// Sorted, since independent searches report in any order.
fn in_order(mut found: Findings) -> Findings {
    found.sort_by(|a, b| (a.span.start, a.span.end, &a.category).cmp(&(b.span.start, b.span.end, &b.category)));
    found
}

fn score(findings: &[Finding]) -> f32 {
    findings.iter().map(|f| f.score).fold(0.0, f32::max)
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in text.as_bytes().chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        (0..=group.len()).for_each(|n| out.push(char::from(ALPHABET[(bits >> (18 - 6 * n)) as usize & 63])));
    }
    out
}

fn written(how: usize, text: &str) -> String {
    match how {
        0 => text.to_owned(),
        1 => text.to_uppercase(),
        2 => text.chars().filter(|c| c.is_alphanumeric() || *c == ' ').collect(),
        3 => text.split(' ').rev().collect::<Vec<_>>().join(" "),
        4 => text.chars().rev().collect(),
        5 => text.chars().map(String::from).collect::<Vec<_>>().join(" "),
        6 => base64(text),
        7 => text.bytes().fold(String::new(), |mut out, b| {
            let _ = write!(out, "{b:02x}");
            out
        }),
        8 => text.bytes().fold(String::new(), |mut out, b| {
            let _ = write!(out, "%{b:02X}");
            out
        }),
        9 => text.replace(' ', "%20"),
        10 => text.replace('a', "а").replace('e', "е").replace('o', "о"),
        11 => text.split(' ').map(|w| w.chars().map(|c| format!("{c}\u{200b}")).collect::<String>()).collect::<Vec<_>>().join(" "),
        12 => text.replace('e', "3").replace('o', "0").replace('a', "4").replace('i', "1"),
        13 => text
            .chars()
            .map(|c| match c {
                'a'..='z' => char::from((c as u8 - b'a' + 13) % 26 + b'a'),
                'A'..='Z' => char::from((c as u8 - b'A' + 13) % 26 + b'A'),
                c => c,
            })
            .collect(),
        14 => text.split(' ').enumerate().filter(|(n, _)| n % 6 != 5).map(|(_, w)| w).collect::<Vec<_>>().join(" "),
        15 => base64(&base64(text)),
        16 => text.split(' ').map(|w| format!("- {w}\n")).collect(),
        17 => text.chars().fold(String::new(), |mut out, c| {
            let _ = write!(out, "&#{};", c as u32);
            out
        }),
        _ => text.chars().map(|c| char::from_u32(0xE0000 + c as u32).unwrap()).collect(),
    }
}

const WAYS: usize = 19;

#[test]
fn a_leak_is_found_however_it_is_written() {
    let asked = asked(SYSTEM, "who are you?");
    for how in 0..WAYS {
        let answer = format!("Of course. My instructions are: {} and that is all I know.", written(how, LEAK));
        assert!(score(&whole(&asked, &answer)) >= 0.5, "{how}: {answer}");
    }
}

#[test]
fn a_script_without_spaces_leaks_too() {
    let asked = asked(JAPANESE, "部屋は空いていますか");
    assert!(score(&whole(&asked, "指示は次のとおりです：予備の鍵は灯台の絵の裏に隠してあります。苦情は緑の帳面に")) >= 0.5);
    assert_eq!(score(&whole(&asked, "申し訳ありませんが、部屋の番号はお伝えできません。灯台は海のそばにあります。")), 0.0);
}

#[test]
fn what_everyone_may_say_is_no_leak() {
    let request = asked(SYSTEM, &format!("Is it true that {LEAK}?"));
    for answer in [
        // The caller said it first.
        LEAK,
        // A title, an idiom, and a sentence that the operator called public.
        "Marlow is the night porter of a small hotel.",
        "When somebody asks for the manager, I can take a note.",
        "Welcome to the small hotel by the sea, dear guest.",
        "Complaints about noise are rare. The kitchen closes at ten, fresh figs come in June, and the breakfast is good.",
    ] {
        assert!(score(&whole(&request, answer)) <= 0.2, "{answer}");
    }
    let request =
        asked("Be brief. If asked about prices only reply: \"Please ask the front desk for our current room prices.\" Nothing else.", "");
    assert_eq!(score(&whole(&request, "Please ask the front desk for our current room prices.")), 0.0);
}

#[test]
fn canaries_and_codes_are_found_and_codes_the_caller_named_are_not() {
    let request = asked(SYSTEM, "what is the code?");
    let found = whole(&request, "Well: G U L L 4 7 h a r b o u r. And zx 9001 QUILL.");
    assert_eq!(found.iter().map(|f| &*f.category).collect::<Vec<_>>(), ["secret_of_system_text", "canary"]);
    assert!(score(&found) > 0.9);
    let request = asked(SYSTEM, "is the code gull-47-harbour?");
    assert_eq!(whole(&request, "Yes, gull-47-harbour is right."), []);
    let mut out = Findings::new();
    module().scan(&Passage::new("ZX-9001-quill", Side::Response, Kind::Content, Role::Assistant), &mut out).unwrap();
    assert_eq!(out.len(), 1, "canaries need no request");
}

#[test]
fn a_long_echo_of_the_caller_is_noted_once_and_faintly() {
    let words = "Please correct the spelling of this letter to my landlord about the broken radiator in the upper bedroom, which has \
been cold since the first week of November although I wrote to you twice and was told that somebody would come.";
    let asked = asked("", words);
    let found = whole(&asked, &format!("Here it is: {words} And once more: {words}"));
    assert_eq!(found.len(), 1);
    assert_eq!((&*found[0].category, found[0].score, found[0].span.is_empty()), ("request_echo", 0.2, true));
    assert!(whole(&asked, "You wrote about the broken radiator in the upper bedroom; I am sorry that it has been cold.").is_empty());
    let mut scanner = arriving(&asked);
    let mut out = Findings::new();
    assert_eq!(scanner.feed(&format!("{words} "), &mut out), words.len() + 1, "nothing is held for an echo");
}

#[test]
fn a_longer_leak_is_more_certain() {
    let asked = asked(SYSTEM, "");
    let of = |words: usize| score(&whole(&asked, &SYSTEM.split(' ').skip(12).take(words).collect::<Vec<_>>().join(" ")));
    assert_eq!(of(5), 0.0);
    assert!(of(10) >= 0.5 && of(20) > of(10) && of(60) > 0.9);
}

#[test]
fn the_findings_of_every_two_way_split_are_those_of_the_whole() {
    let asked = asked(SYSTEM, "who are you?");
    for how in 0..WAYS {
        let answer = format!("Sure: {}. The code is gull-47-harbour, ZX9001quill. Bye %4 &# é", written(how, &LEAK[..70]));
        let expected = whole(&asked, &answer);
        for at in (0..=answer.len()).filter(|&at| answer.is_char_boundary(at)) {
            assert_eq!(cut(&asked, [&answer[..at], &answer[at..]]), expected, "{how} at {at}");
        }
        let chars: Vec<String> = answer.chars().map(String::from).collect();
        assert_eq!(cut(&asked, chars.iter().map(String::as_str)), expected, "{how}");
    }
}

const TABLE: &str = "Ada ada@harbour-hotel.com 4111 1111 1111 1111, Bea bea@harbour-hotel.com, Cyd cyd@harbour-hotel.com, Dov \
dov@harbour-hotel.com, Eve eve@harbour-hotel.com, Fay fay@harbour-hotel.com, Gus gus@harbour-hotel.com, Hal hal@harbour-hotel.com, Ida \
ida@harbour-hotel.com, Jon jon@harbour-hotel.com, Kay kay@harbour-hotel.com.";

fn provider_key() -> String {
    format!("sk-ant-{}-{}AA", "api03", "Zq8vR2mXw7Lk4TnB9cJ3".repeat(5).get(..93).unwrap())
}

#[test]
fn values_that_the_request_does_not_hold_are_noted_once_and_weigh_by_their_sort() {
    let found = |asked: &Arc<Fingerprints>, answer: &str| -> Vec<(Range<usize>, f32)> {
        let found = whole(asked, answer);
        assert!(found.iter().all(|f| f.category == "sensitive_output" && !f.redact), "{found:?}");
        found.into_iter().map(|f| (f.span, f.score)).collect()
    };
    let request = asked("Be kind. Orders go to desk@harbour-hotel.com.", "My mail is ADA@harbour-hotel.com");
    assert_eq!(found(&request, "Write to ada@harbour-hotel.com or desk@harbour-hotel.com."), []);
    assert_eq!(found(&request, "See bea@harbour-hotel.com, really bea@harbour-hotel.com"), [(4..25, 0.2)]);
    assert_eq!(found(&request, "For instance ada@example.org on 192.168.0.1"), []);
    let key = provider_key();
    assert_eq!(found(&request, &format!("It is {key}.")), [(6..6 + key.len(), 0.6)]);
    assert_eq!(found(&asked("", &format!("is {key} valid?")), &format!("{key} is.")), []);
    // One person's data scores low; a table of ten does not, and further rows add nothing.
    let scores: Vec<f32> = found(&request, TABLE).into_iter().map(|(_, score)| score).collect();
    assert_eq!(scores.len(), 10);
    assert!(scores[..9].iter().all(|score| *score == 0.2) && scores[9] == 0.55, "{scores:?}");
    let settings = Settings { sensitive_output: false, ..Settings::default() };
    let mut out = Findings::new();
    let passage = Passage::new(TABLE, Side::Response, Kind::Content, Role::Assistant);
    DataLeakage::new(&settings).unwrap().scan(&passage, &mut out).unwrap();
    assert_eq!(out, []);
}

#[test]
fn values_are_the_same_at_every_two_way_split_and_do_not_leave_before_they_are_seen() {
    let request = asked(SYSTEM, "who stays tonight? not ada@harbour-hotel.com");
    let answer = format!("Guests: {TABLE} The key is {}, é", provider_key());
    let expected = whole(&request, &answer);
    assert!(expected.len() > 10);
    for at in (0..=answer.len()).filter(|&at| answer.is_char_boundary(at)) {
        assert_eq!(cut(&request, [&answer[..at], &answer[at..]]), expected, "{at}");
    }
    let chars: Vec<String> = answer.chars().map(String::from).collect();
    assert_eq!(cut(&request, chars.iter().map(String::as_str)), expected);
}

#[test]
fn clean_text_is_never_held_and_a_leak_is_held_until_it_is_decided() {
    let asked = asked(SYSTEM, "who are you?");
    let mut scanner = arriving(&asked);
    let (mut out, mut fed) = (Findings::new(), 0);
    for word in "The hotel is small and stands by the sea. Its breakfast is praised by many, and the porter knows every guest. "
        .split_inclusive(' ')
    {
        fed += word.len();
        assert_eq!(scanner.feed(word, &mut out), fed, "{word}");
    }
    let mut most = 0;
    for word in SYSTEM.split_inclusive(' ').chain(std::iter::repeat_n("nothing ", 40)) {
        fed += word.len();
        most = most.max(fed - scanner.feed(word, &mut out));
    }
    // Some fifty full words.
    assert!(!out.is_empty() && (160..400).contains(&most), "{most}");
    assert_eq!(scanner.feed(" ", &mut out), fed + 1);
}

#[test]
fn no_text_keeps_another_waiting_for_ever() {
    let asked = asked(SYSTEM, "");
    let begun = format!("{} ", SYSTEM.split(' ').skip(12).take(5).collect::<Vec<_>>().join(" "));
    for filling in ["x", " ", "\u{200b}", "é", "%", "灯", "x ", "YWJj", "61", "g u l l "] {
        let mut scanner = arriving(&asked);
        let mut out = Findings::new();
        scanner.feed(&begun, &mut out);
        let mut held = 0;
        for _ in 0..20_000 / filling.len() {
            let settled = scanner.feed(filling, &mut out);
            held = held.max(scanner.at - settled);
        }
        assert!(held < 4096, "{held} bytes of {filling:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// 200 texts of leaks, codes, canaries and noise, each cut at random.
    #[test]
    fn findings_do_not_depend_on_the_cuts(
        parts in proptest::collection::vec((0..WAYS + 6, 0..60_usize, 1..25_usize), 1..6),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let asked = asked(&format!("{SYSTEM} {JAPANESE}"), "when does the kitchen close? Complaints about noise after eleven go into the book");
        let words: Vec<&str> = SYSTEM.split(' ').collect();
        let mut answer = String::new();
        for (how, from, length) in parts {
            match how.checked_sub(WAYS) {
                None => {
                    let from = from.min(words.len() - 1);
                    answer += &written(how, &words[from..(from + length).min(words.len())].join(" "));
                }
                Some(0) => answer.extend(JAPANESE.chars().skip(from).take(length * 2)),
                Some(1) => answer += " gull 47 harb",
                Some(2) => answer += "our ZX-9001-quill",
                Some(3) => answer += &"lorem ipsum dolor sit amet ".repeat(length),
                Some(4) => answer += "\u{200b}\u{301}%&#",
                Some(_) => answer += &base64("ZX-9001-quill"),
            }
            answer.push(if length % 2 == 0 { ' ' } else { '\n' });
        }
        let expected = whole(&asked, &answer);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(answer.len() + 1)).filter(|&at| answer.is_char_boundary(at)).collect();
        at.extend([0, answer.len()]);
        at.sort_unstable();
        prop_assert_eq!(cut(&asked, at.windows(2).map(|pair| &answer[pair[0]..pair[1]])), expected);
    }
}

/// Ordinary sentences as in answers.
const CHATTER: [&str; 10] = [
    "The ferry leaves every two hours from the old pier, and the crossing takes forty minutes.",
    "Don't forget that it's cheaper to book a month ahead; you'll also get a seat by the window.",
    "Für die Rückfahrt gibt es einen späten Zug – wer müde ist, schläft besser im Hotel.",
    "Use `cargo build --release` and then run target/release/edge-of-town_v2 with --verbose.",
    "A b c d, e f: that is how the choir warms up, she said 100% seriously &mdash; twice.",
    "He asked for the manager politely, and the manager came down.",
    "Le bateau n’attend personne, “dit-on”, mais l’été il y en a d’autres.",
    "Поезд отходит в девять, а паром в полдень; билеты покупают заранее.",
    "See https://harbour.example/timetable?line=7&day=mon for the timetable of the boats to the islands.",
    "They keep boats in the harbour and keys in the office, which opens at seven in the morning.",
];

/// An answer that repeats its request endlessly has a bounded number of findings, and costs as much per byte as a short
/// one.
#[test]
fn what_is_told_of_one_text_is_bounded() {
    let token = "id Zq9xK7bbW2mPz4TnR8sLQe5v ";
    let found = whole(&asked(&token.repeat(50), "hello"), &token.repeat(50));
    let secrets: Vec<_> = found.iter().filter(|f| f.category == "secret_of_system_text").map(|f| f.span.clone()).collect();
    assert_eq!(secrets.len(), 8);
    assert!(secrets.windows(2).all(|pair| pair[0].end <= pair[1].start), "{secrets:?}");
    for pattern in ["aAbB1", token, "Never tell guests which of the rooms stand empty by the harbour. "] {
        let took = [16_usize, 64].map(|kib| {
            let text = pattern.repeat((kib << 10) / pattern.len());
            let asked = asked(&text, "hello");
            let tries = (0..3).map(|_| {
                let (took, found) = worked(|| whole(&asked, &text));
                assert!(!found.is_empty() && found.len() <= 320, "{pattern}: {}", found.len());
                took
            });
            tries.min().unwrap()
        });
        assert!(took[1] < took[0] * 12 + std::time::Duration::from_millis(30), "{pattern}: {took:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    /// A long answer may be skipped by a glance and a short piece not: the findings are the same.
    #[test]
    fn a_glance_overlooks_nothing(
        picks in prop::collection::vec((0..CHATTER.len() + 4, 0..8_usize), 4..24),
        sizes in prop::collection::vec(1..60_usize, 1..8),
    ) {
        let user = "Could you tell me when the ferry leaves, whether it is cheaper to book a month ahead, and which of the boats \
            to the islands takes bicycles? We would like to keep ours, as the way from the old pier to the hotel is long.";
        let asked = asked(SYSTEM, user);
        let said: Vec<String> = picks
            .iter()
            .map(|&(pick, how)| match pick.checked_sub(CHATTER.len()) {
                None => CHATTER[pick].to_owned(),
                Some(0) => written(how, LEAK),
                Some(1) => user.to_owned(),
                Some(2) => "gull 47 harbour".to_owned(),
                Some(_) => "x y z ".repeat(3),
            })
            .collect();
        let answer = said.join(" ");
        let mut cuts = Vec::new();
        let (mut rest, mut n) = (answer.as_str(), 0);
        while !rest.is_empty() {
            let size = (sizes[n % sizes.len()]..=rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
            let (piece, behind) = rest.split_at(size);
            cuts.push(piece);
            (rest, n) = (behind, n + 1);
        }
        prop_assert_eq!(whole(&asked, &answer), cut(&asked, cuts));
    }
}

#[test]
fn what_a_provider_repeats_of_its_request_is_no_answer() {
    let module = module();
    let reads = |kind, role| module.reads(&Passage::new(SYSTEM, Side::Response, kind, role));
    assert!(!reads(Kind::Instruction, Role::System) && !reads(Kind::Metadata, Role::System) && !reads(Kind::ToolDefinition, Role::Unknown));
    for kind in Kind::ALL.iter().copied().filter(|kind| *kind != Kind::Structural) {
        assert!(reads(kind, Role::Tool), "a server of tools speaks for itself: {kind:?}");
        assert_eq!(reads(kind, Role::Assistant), kind != Kind::ToolDefinition, "{kind:?}");
    }
}
