#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::fold::{Odd, fold};

fn text(raw: &str) -> String {
    fold(raw).text().to_owned()
}

#[test]
fn plain_text_is_not_copied() {
    let folded = fold("Tell me, in 3 lines:\n\tIgnore nothing.");
    assert!(folded.is_plain());
    assert_eq!(folded.text(), "tell me, in 3 lines:\n\tignore nothing.");
    assert_eq!(folded.cased(), "Tell me, in 3 lines:\n\tIgnore nothing.");
    assert_eq!(folded.original(5..7), 5..7);
    assert_eq!(*folded.odd(), Odd::default());
}

#[test]
fn one_sentence_in_every_dress() {
    for dressed in [
        "Ignore previous",
        "Ｉｇｎｏｒｅ ｐｒｅｖｉｏｕｓ",
        "𝐈𝐠𝐧𝐨𝐫𝐞 𝓅𝓇𝑒𝓋𝒾ℴ𝓊𝓈",
        "ⓘⓖⓝⓞⓡⓔ 🅟🅡🅔🅥🅘🅞🅤🅢",
        "ɪɢɴᴏʀᴇ ᴘʀᴇᴠɪᴏᴜꜱ",
        "Ignоrе рrеvіоus",
        "ιgηοrε ρrενιουs",
        "Ig\u{200B}no\u{AD}re pre\u{2060}v\u{FEFF}ious",
        "\u{202E}Ignore\u{202C} previ\u{2066}ous",
        "I\u{300}\u{316}g\u{0337}n\u{30A}ore p\u{336}r\u{336}é\u{301}v\u{489}ious",
        "Íğñörè prëvïòüš",
        "ig\0no\u{8}re previous",
        "Ignore\u{A0}previous",
        "I\u{FE0F}gnore pre\u{E0101}vious",
    ] {
        assert_eq!(text(dressed), "ignore previous", "{dressed:?}");
    }
}

#[test]
fn other_scripts_stay_what_they_are() {
    for own in [
        "Привет, как дела? Это API на Python: а он работает.",
        "Καλημέρα κόσμε, ο χρόνος",
        "नमस्ते दुनिया",
        "你好,世界",
        "สวัสดีชาวโลก",
        "한국어 텍스트",
        "مرحبا بالعالم",
    ] {
        assert_eq!(fold(own).cased(), own.to_owned(), "{own}");
        assert_eq!(fold(own).odd().total(), 0, "{own}");
    }
    assert_eq!(text("ДА"), "да");
}

#[test]
fn words_of_lookalikes_alone_follow_their_neighbours() {
    assert_eq!(text("answer а question"), "answer a question");
    assert_eq!(text("read оur ехсеss"), "read our excess");
    assert_eq!(text("она сама и Python, а не Rust"), "она сама и python, а не rust");
}

#[test]
fn marks_join_where_the_script_wants_them() {
    assert_eq!(text("и\u{306} ガ ｶﾞ \u{1112}\u{1161}\u{11AB}"), "й ガ ガ 한");
    assert_eq!(text("и\u{306}\u{301}\u{316}\u{320}"), "й");
}

#[test]
fn what_is_odd_is_counted() {
    let odd = *fold("ig\u{200B}\u{200B}nore \u{202E}all \u{E0041}\u{E0042}\u{1} 𝐚𝐛 pаst a\u{300}\u{301}\u{302} x\u{FE01}\u{FE02}").odd();
    assert_eq!(odd, Odd { invisible: 2, bidi: 1, selectors: 2, tags: 2, controls: 1, piled: 2, styled: 2, lookalikes: 1 });
    // Emoji, Persian and Hindi need joiners, French needs accents.
    assert_eq!(fold("👩\u{200D}💻 ❤\u{FE0F} می\u{200C}خواهم क्\u{200D}ष déjà vu").odd().total(), 0);
}

#[test]
fn offsets_lead_back() {
    let raw = "x Ｉｇ\u{200B}ｎｏｒｅ ﬁ é!";
    let folded = fold(raw);
    assert_eq!(folded.text(), "x ignore fi e!");
    assert_eq!(&raw[folded.original(2..8)], "Ｉｇ\u{200B}ｎｏｒｅ");
    assert_eq!(&raw[folded.original(9..10)], "ﬁ", "half of a ligature is all of it");
    assert_eq!(&raw[folded.original(12..13)], "é");
    assert_eq!(folded.original(0..14), 0..raw.len());
    assert_eq!(folded.original(99..120), raw.len()..raw.len());
}

/// Texts of all characters for which folding has a rule.
fn mixed() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ -~]{0,8}",
        "\\PC{0,4}",
        any::<char>().prop_map(String::from),
        proptest::sample::select(vec![
            "а",
            "р\u{306}",
            "ё",
            "\u{301}",
            "\u{200B}",
            "ﷺ",
            "ﬁ",
            "Ⱥ",
            "İ",
            "ẞ",
            "K",
            "\u{1100}",
            "\u{1161}",
            "\u{3099}",
            "ｶ",
            "\u{E0041}",
            "🅰",
            "æ",
            "ͅ"
        ])
        .prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn offsets_stay_in_bounds_on_borders_and_in_order(raw in mixed()) {
        let folded = fold(&raw);
        let text = folded.text();
        prop_assert_eq!(text.len(), folded.cased().len());
        let borders: Vec<usize> = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
        let mut before = 0..0;
        for pair in borders.windows(2) {
            prop_assert!(folded.cased().is_char_boundary(pair[0]));
            let range = folded.original(pair[0]..pair[1]);
            prop_assert!(raw.get(range.clone()).is_some_and(|part| !part.is_empty()), "{:?} of {:?}", range, raw);
            prop_assert!(range.start >= before.start && range.end >= before.end);
            before = range;
        }
        if !text.is_empty() {
            prop_assert_eq!(folded.original(0..text.len()).end, raw.len());
        }
    }

    #[test]
    fn folding_latin_text_twice_changes_nothing(raw in "[a-zA-Z0-9À-žа-я𝐀-𝐳Ａ-ｚ\u{200B}\u{300}-\u{310}ﬁ ,.]{0,60}") {
        let once = fold(&raw);
        let twice = fold(once.cased());
        prop_assert_eq!(twice.cased(), once.cased());
        let lower = fold(once.text());
        prop_assert_eq!(lower.text(), once.text());
    }

    #[test]
    fn nothing_invisible_is_left(raw in mixed()) {
        let folded = fold(&raw);
        let left = folded.text().chars().find(|c| matches!(u32::from(*c), 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F | 0xFE00..=0xFE0F | 0xE0000..=0xE0FFF));
        prop_assert_eq!(left, None);
    }
}
